import { existsSync, statSync } from "node:fs";
import { basename } from "node:path";
import { writeAtomically } from "../../data/atomic.ts";
import { readLabels, type Volume } from "../../data/index.ts";
import { DataError, UsageError } from "../../errors.ts";
import {
  type Averages,
  type ClassCounts,
  evaluateCase,
  type Overlap,
  type OverlapSummary,
  summarize,
} from "../../metrics/overlap.ts";
import { type Context, defineCommand } from "../arguments.ts";
import { atLeast, volumesIn } from "../options.ts";
import { Progress } from "../progress.ts";
import { paint } from "../style.ts";
import { type Column, formatTable } from "../table.ts";

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
    "roi-margin": {
      type: "integer",
      default: 0,
      help: "voxels by which the region of interest reaches beyond the reference's bounding box of the class",
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
    "Dice per case is the mean over the cases, Dice global that of all voxels pooled. Specificity is TN / (TN + FP); it and accuracy depend on whether the whole volume or the region of interest (roi) is counted. A class in neither map has Dice 1; a ratio without denominator is nan and left out of means.",
    "Masks written as 0 and 255 count as 0 and 1 where both sides are masks, or with --classes 2. Any other label outside the classes is an error.",
  ],
  examples: [
    "voxgrad evaluate --ref scans/labelsTs --pred predictions",
    "voxgrad evaluate --ref liver.nii.gz --pred prediction.nii.gz --roi-margin 10",
    "voxgrad evaluate --ref scans/labelsTs --pred predictions --json scores.json",
  ],
  async run({ options }, context) {
    const { ref, pred, json } = options;
    if (options.classes !== undefined) atLeast("--classes", options.classes, 2);
    if (options.classes !== undefined && options.classes > 255)
      throw new UsageError(`--classes must be 255 or less, found ${options.classes}`);
    const roiMargin = atLeast("--roi-margin", options.roiMargin, 0);
    const { pairs, ignored } = await findPairs(ref, pred);
    const { stderr } = context;
    const progress = new Progress(stderr, { total: 2 * pairs.length, label: "evaluate", unit: "pair" });
    const warn = (text: string) => progress.log(`${paint(stderr, "yellow", "warning:")} ${text}`);
    if (ignored.length > 0) warn(`no reference for ${ignored.join(", ")}: left out`);
    const { classes, masks } =
      options.classes === undefined
        ? await countClasses(pairs, progress)
        : { classes: options.classes, masks: options.classes === 2 };
    const counts: ClassCounts[][] = [];
    for (const [index, pair] of pairs.entries()) {
      context.signal.throwIfAborted();
      counts.push(await evaluatePair(pair, { classes, masks, roiMargin }, warn));
      progress.update(pairs.length + index + 1);
    }
    progress.done();
    const results: Results = { pairs, counts, summary: summarize(counts), classes, roiMargin };
    await publish(results, json, context);
  },
});

interface Pair {
  readonly name: string;
  readonly ref: string;
  readonly pred: string;
}

interface Results {
  readonly pairs: readonly Pair[];
  readonly counts: readonly (readonly ClassCounts[])[];
  readonly summary: OverlapSummary;
  readonly classes: number;
  readonly roiMargin: number;
}

/** References with their predictions, and predictions that have no reference. */
async function findPairs(ref: string, pred: string): Promise<{ pairs: Pair[]; ignored: string[] }> {
  for (const path of [ref, pred])
    if (!existsSync(path))
      throw new DataError(path, "expected a label map or a folder of them, found nothing");
  const [refIsFolder, predIsFolder] = [ref, pred].map((path) => statSync(path).isDirectory());
  if (refIsFolder !== predIsFolder) throw new UsageError("--ref and --pred must be two files or two folders");
  if (!refIsFolder)
    return { pairs: [{ name: basename(ref).replace(/\.nii(\.gz)?$/, ""), ref, pred }], ignored: [] };
  const [refs, preds] = await Promise.all([volumesIn(ref), volumesIn(pred)]);
  const missing = [...refs.keys()].filter((name) => !preds.has(name));
  if (missing.length > 0)
    throw new DataError(
      pred,
      `expected a prediction for each of ${refs.size} references, found none for ${missing.join(", ")}`,
    );
  const pairs = [...refs].map(([name, path]) => ({ name, ref: path, pred: preds.get(name) as string }));
  return { pairs, ignored: [...preds.keys()].filter((name) => !refs.has(name)) };
}

/** Classes by the largest label of all maps. Where nothing but 0, 1 and 255 occurs, they are masks of one class. */
async function countClasses(
  pairs: readonly Pair[],
  progress: Progress,
): Promise<{ classes: number; masks: boolean }> {
  const found = new Set<number>();
  for (const [index, { ref, pred }] of pairs.entries()) {
    for (const path of [ref, pred]) {
      const labels = labelsOf((await readLabels(path)).data);
      for (const label of labels) found.add(label);
    }
    progress.update(index + 1);
  }
  const largest = Math.max(...found);
  if (largest < 255) return { classes: Math.max(2, largest + 1), masks: false };
  const others = [...found].filter((label) => label > 1 && label < 255);
  if (others.length === 0) return { classes: 2, masks: true };
  throw new UsageError(
    `the label maps hold 255 beside ${others.slice(0, 8).join(", ")}: say with --classes N which labels are classes`,
  );
}

function labelsOf(data: Uint8Array): number[] {
  const seen = new Uint8Array(256);
  for (const label of data) seen[label] = 1;
  return [...seen.keys()].filter((label) => seen[label] === 1);
}

async function evaluatePair(
  { name, ref, pred }: Pair,
  { classes, masks, roiMargin }: { classes: number; masks: boolean; roiMargin: number },
  warn: (text: string) => void,
): Promise<ClassCounts[]> {
  const reference = await readMap(ref, classes, masks);
  const prediction = await readMap(pred, classes, masks);
  if (reference.size.some((extent, axis) => extent !== prediction.size[axis]))
    throw new DataError(
      pred,
      `expected the size of its reference ${ref}, ${reference.size.join(" x ")}; found ${prediction.size.join(" x ")}`,
    );
  const affine = prediction.geometry.affine;
  const apart = reference.geometry.affine.some((value, i) => Math.abs(value - affine[i]) > 0.01);
  if (apart)
    warn(`${name}: the files say that the two maps lie in different places; voxels are paired by index`);
  return evaluateCase(reference.data, prediction.data, reference.size, classes, { roi: roiMargin });
}

/** A label map whose labels are below `classes`; a mask of 0 and one other value may stand for 0 and 1. */
async function readMap(path: string, classes: number, masks: boolean): Promise<Volume<Uint8Array>> {
  if (!masks) return readLabels(path, classes);
  const volume = await readLabels(path);
  const labels = labelsOf(volume.data);
  if (labels.every((label) => label < 2)) return volume;
  if (labels.length > 2 || (labels.length === 2 && labels[0] !== 0))
    throw new DataError(path, `expected a mask of 0 and one other value, found labels ${labels.join(", ")}`);
  return { ...volume, data: volume.data.map((label) => (label === 0 ? 0 : 1)) };
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

function asJson({ pairs, counts, summary, classes, roiMargin }: Results): unknown {
  const cases = pairs.map(({ name, ref, pred }, i) => ({
    case: name,
    ref,
    pred,
    classes: counts[i].map((entry, k) => ({
      class: entry.class,
      whole: { ...entry.whole, ...summary.whole.cases[i][k] },
      roi: entry.roi && { ...entry.roi, ...summary.roi.cases[i][k] },
    })),
  }));
  const pooled = (region: "whole" | "roi") => ({
    ...summary[region].mean,
    classes: summary[region].classes.map((averages, k) => ({ class: k + 1, ...averages })),
  });
  return { classes, roiMargin, cases, pooled: { whole: pooled("whole"), roi: pooled("roi") } };
}

const measures = ["dice", "jaccard", "sensitivity", "specificity", "accuracy"] as const;
const headers: readonly string[] = ["Dice", "Jaccard", "sensitivity", "specificity", "accuracy"];

function tables(results: Results): string {
  const { summary, classes, roiMargin, pairs } = results;
  const box =
    roiMargin > 0 ? `bounding box of the reference + ${roiMargin} voxels` : "bounding box of the reference";
  return [
    `whole volume, ${pairs.length} ${pairs.length === 1 ? "case" : "cases"}, ${classes} classes`,
    caseTable(results, "whole"),
    `region of interest: ${box}`,
    caseTable(results, "roi"),
    "pooled",
    pooledTable(summary, classes),
  ].join("\n");
}

/** The class is named only where there is more than one. */
function withClass(many: boolean, first: string, label: string | number, values: readonly string[]) {
  return many ? [first, String(label), ...values] : [first, ...values];
}

function columns(many: boolean, first: readonly string[]): Column[] {
  const left = many ? [...first, "class"] : first;
  return [
    ...left.map((header): Column => ({ header, align: "left" })),
    ...headers.map((header): Column => ({ header, align: "right" })),
  ];
}

/** Four digits throughout, so that a column of 0 and 1 reads like the others. */
function valuesOf(overlap: Overlap | undefined): string[] {
  return measures.map((name) => {
    const value = overlap?.[name] ?? Number.NaN;
    return Number.isNaN(value) ? "nan" : value.toFixed(4);
  });
}

function caseTable({ pairs, summary, classes }: Results, region: "whole" | "roi"): string {
  const many = classes > 2;
  const rows = pairs.flatMap(({ name }, i) =>
    summary[region].cases[i].map((overlap, k) => withClass(many, name, k + 1, valuesOf(overlap))),
  );
  return formatTable(columns(many, ["case"]), rows);
}

function pooledTable({ whole, roi }: OverlapSummary, classes: number): string {
  const many = classes > 2;
  const rows = [["whole", whole] as const, ["roi", roi] as const].flatMap(
    ([region, { classes: each, mean }]) => {
      const named: [string | number, Averages][] = each.map((averages, k) => [k + 1, averages]);
      if (many) named.push(["mean", mean]);
      return named.flatMap(([label, { perCase, global }]) => [
        withClass(many, `${region}, per case`, label, valuesOf(perCase)),
        withClass(many, `${region}, global`, label, valuesOf(global)),
      ]);
    },
  );
  return formatTable(columns(many, ["region, pooling"]), rows);
}
