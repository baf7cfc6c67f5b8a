import { setImmediate } from "node:timers/promises";
import { writeAtomically } from "../../data/atomic.ts";
import type { Triple } from "../../data/volume.ts";
import { UsageError } from "../../errors.ts";
import { flare22Organs, type Flare22Score, flare22Scores } from "../../metrics/flare22.ts";
import { evaluateCase, summarize } from "../../metrics/overlap.ts";
import { type SurfaceScores, surfaceScores } from "../../metrics/surface.ts";
import { type Context, defineCommand } from "../arguments.ts";
import { asJson } from "../evaluate_json.ts";
import { countClasses, findPairs, type Maps, readPair } from "../evaluate_pairs.ts";
import type { CaseResult, Results, SurfaceSettings } from "../evaluate_results.ts";
import { tables } from "../evaluate_tables.ts";
import { atLeast } from "../options.ts";
import { readLabelMap } from "../settings.ts";
import { Progress } from "../progress.ts";
import { paint } from "../style.ts";

export const evaluate = defineCommand({
  name: "evaluate",
  summary: "Compare label maps with their references.",
  usage: "--ref FILE|DIR --pred FILE|DIR [options]",
  options: {
    ref: {
      type: "string",
      placeholder: "FILE|DIR",
      help: "reference label map, or a folder of them",
      required: true,
    },
    pred: {
      type: "string",
      placeholder: "FILE|DIR",
      help: "predicted label map, or a folder with the same file names",
      required: true,
    },
    classes: {
      type: "integer",
      help: "classes, background included; default: the largest label of all files + 1",
    },
    "label-map": {
      type: "string",
      placeholder: "FILE",
      help: 'JSON file with the class of each value in the references, such as {"5": 1, "2": 2, "*": 0}; predictions hold classes',
    },
    "roi-margin": {
      type: "integer",
      default: 0,
      help: "voxels by which the region of interest reaches beyond the reference's bounding box of the class",
    },
    surface: {
      type: "boolean",
      help: "distances between the surfaces as well: NSD, HD95, HD, ASD, ASSD",
    },
    tolerance: {
      type: "number",
      placeholder: "MM",
      help: "distance within which NSD (surface Dice) counts a surface as right, default 1; asks for --surface",
    },
    "voxel-units": {
      type: "boolean",
      help: "take distances and tolerance in voxels instead of mm; asks for --surface",
    },
    border: {
      type: "integer",
      choices: ["0", "1"],
      placeholder: "0|1",
      help: "whether a mask's voxel at the volume's edge is surface: 0 yes (medpy, default), 1 no (CHAOS); asks for --surface",
    },
    flare22: {
      type: "boolean",
      help: "DSC and NSD of 13 abdominal organs by the rules of the FLARE22 challenge",
    },
    json: {
      type: "string",
      placeholder: "FILE",
      bare: "-",
      help: "print JSON instead of tables, or write it to FILE",
    },
  },
  positionals: [],
  notes: [
    "Dice per case is the mean over the cases, Dice global that of all voxels pooled. Specificity is TN / (TN + FP); it and accuracy depend on whether the whole volume or the region of interest (roi) is counted. A class in neither map has Dice and NSD 1; a ratio without denominator and a distance without a surface are nan and left out of means.",
    "Distances come in two conventions. Surface elements (DeepMind, FLARE22): weighted by area, HD95 is the larger of both directions. Surface voxels (medpy, CHAOS, MONAI): HD95 over both directions in one list, HD95 directed the larger of both. docs/metrics.md says which figure is whose.",
    "Masks written as 0 and 255 count as 0 and 1 where both sides are masks, or with --classes 2. Any other label outside the classes is an error.",
  ],
  examples: [
    "voxgrad evaluate --ref scans/labelsTs --pred predictions",
    "voxgrad evaluate --ref liver.nii.gz --pred prediction.nii.gz --surface --tolerance 2",
    "voxgrad evaluate --ref scans/labelsTs --pred predictions --flare22 --json scores.json",
    "voxgrad evaluate --ref atlas/labelsTs --pred predictions --flare22 --label-map organs.json",
  ],
  async run({ options }, context) {
    const { ref, pred, json, flare22 } = options;
    if (options.classes !== undefined) atLeast("--classes", options.classes, 2);
    if (options.classes !== undefined && options.classes > 255)
      throw new UsageError(`--classes must be 255 or less, found ${options.classes}`);
    if (flare22 && options.classes !== undefined)
      throw new UsageError("--flare22 has classes of its own, 0 to 13: leave --classes out");
    const roiMargin = atLeast("--roi-margin", options.roiMargin, 0);
    const surface = surfaceSettings(options);
    const mapping = options.labelMap === undefined ? undefined : await readLabelMap(options.labelMap);
    const { pairs, ignored } = await findPairs(ref, pred);
    const { stderr } = context;
    const reading = new Progress(stderr, { total: pairs.length, label: "read", unit: "pair" });
    const given = flare22 ? flare22Organs.length + 1 : options.classes;
    const kinds =
      given === undefined
        ? await countClasses(pairs, reading, mapping)
        : { classes: given, masks: given === 2 && mapping === undefined };
    reading.done();
    const { classes } = kinds;
    const scored = (surface ? classes - 1 : 0) + (flare22 ? classes - 1 : 0);
    const total = pairs.length * (1 + scored);
    const progress = new Progress(stderr, { total, label: "evaluate" });
    const warn = (text: string) => progress.log(`${paint(stderr, "yellow", "warning:")} ${text}`);
    if (ignored.length > 0) warn(`no reference for ${ignored.join(", ")}: left out`);
    const cases: CaseResult[] = [];
    let done = 0;
    for (const pair of pairs) {
      const rest = async () => {
        progress.update(++done, pair.name);
        // Lets a pressed Ctrl-C in: a large structure takes seconds.
        await setImmediate();
        context.signal.throwIfAborted();
      };
      const maps = await readPair(pair, kinds, warn, mapping);
      const counts = evaluateCase(maps.ref, maps.pred, maps.size, classes, { roi: roiMargin });
      await rest();
      const distances = surface ? await collect(surfacesOf(maps, classes, surface), rest) : [];
      const organs = flare22 ? await collect(flare22Of(maps), rest) : [];
      cases.push({ pair, counts, surface: distances, flare22: organs });
    }
    progress.done();
    const summary = summarize(cases.map(({ counts }) => counts));
    await publish({ cases, summary, classes, roiMargin, surface, flare22 }, json, context);
  },
});

async function collect<T>(scores: Iterable<T>, rest: () => Promise<void>): Promise<T[]> {
  const all: T[] = [];
  for (const score of scores) {
    all.push(score);
    await rest();
  }
  return all;
}

function surfacesOf(
  { ref, pred, size, spacing }: Maps,
  classes: number,
  { unit, tolerance, border }: SurfaceSettings,
): Iterable<SurfaceScores> {
  const step: Triple = unit === "mm" ? spacing : [1, 1, 1];
  return surfaceScores(ref, pred, size, classes, { spacing: step, tolerance, border });
}

function flare22Of({ ref, pred, size, spacing }: Maps): Iterable<Flare22Score> {
  return flare22Scores(ref, pred, size, spacing);
}

function surfaceSettings(options: {
  surface: boolean;
  tolerance: number | undefined;
  voxelUnits: boolean;
  border: number | undefined;
}): SurfaceSettings | undefined {
  const { surface, tolerance, voxelUnits, border } = options;
  if (!surface && !voxelUnits && tolerance === undefined && border === undefined) return undefined;
  return {
    tolerance: atLeast("--tolerance", tolerance ?? 1, 0),
    unit: voxelUnits ? "voxels" : "mm",
    border: border === 1 ? 1 : 0,
  };
}

async function publish(results: Results, json: string | undefined, { stdout }: Context): Promise<void> {
  if (json === undefined) {
    stdout.write(tables(results));
    return;
  }
  // JSON has no NaN: a ratio without denominator is null.
  const text = `${JSON.stringify(asJson(results), undefined, 2)}\n`;
  if (json === "-") stdout.write(text);
  else await writeAtomically(json, [Buffer.from(text)]);
}
