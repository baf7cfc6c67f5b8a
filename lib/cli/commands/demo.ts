import { existsSync, readdirSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import { writeAtomically } from "../../data/atomic.ts";
import { makeFolder } from "../../data/folder.ts";
import { type CohortOptions, openDataset, writePhantom } from "../../data/index.ts";
import { UsageError } from "../../errors.ts";
import { type Device, openDevice } from "../../runtime/device.ts";
import { writeComparison } from "../../report/comparison.ts";
import { type Config, makeConfig } from "../../train/config.ts";
import { splitCases } from "../../train/data.ts";
import { recipeNamed } from "../../train/recipes/index.ts";
import { RunFolder } from "../../train/run.ts";
import { casesOf } from "../../train/split.ts";
import { type Context, defineCommand } from "../arguments.ts";
import { judge, type Judged, verdict, verdictColumns, verdictRows } from "../judge.ts";
import { atLeast, deviceOption, shellCommand } from "../options.ts";
import { duration, Progress } from "../progress.ts";
import { STOPPED } from "../run.ts";
import { sit } from "../training.ts";
import { formatTable } from "../table.ts";

const recipeNames = ["supervised", "sdnet"] as const;

/** Every entry that a demo makes in its folder; `demo.json` marks the folder as one. */
const entries = ["data", ...recipeNames, "predictions", "report.html", "demo.json"];

interface Scale {
  readonly cohort: Omit<CohortOptions, "seed">;
  readonly settings: Partial<Config>;
}

const full: Scale = {
  cohort: { cases: 16, labeled: 3, test: 6, size: [80, 80, 48] },
  settings: { baseChannels: 8, patch: [64, 64, 32], steps: 150, checkpointEvery: 50 },
};

const quick: Scale = {
  cohort: { cases: 6, labeled: 2, test: 2, size: [32, 32, 16] },
  settings: { baseChannels: 4, patch: [32, 32, 16], steps: 40, checkpointEvery: 20 },
};

export const demo = defineCommand({
  name: "demo",
  summary: "See semi-supervised training work: phantoms, two recipes, one table, a report.",
  usage: "[options]",
  options: {
    out: {
      type: "string",
      short: "o",
      placeholder: "DIR",
      default: "demo",
      help: "folder for everything it makes",
    },
    steps: { type: "integer", help: `training steps of each recipe; default ${full.settings.steps}` },
    quick: { type: "boolean", help: "less of everything: seconds instead of minutes, and poor results" },
    seed: { type: "integer", default: 0, help: "another seed makes other phantoms, weights and patches" },
    device: deviceOption,
  },
  positionals: [],
  notes: [
    "Takes less than five minutes on two cores. 'supervised' learns from the labelled phantoms alone, 'sdnet' from the unlabelled ones too; both train the same two networks on the same labelled patches. The folder of an earlier demo is replaced; any other that holds something is refused.",
  ],
  examples: ["voxgrad demo", "voxgrad demo --out demo7 --seed 7", "voxgrad demo --quick"],
  async run({ options }, context) {
    const { out } = options;
    const seed = atLeast("--seed", options.seed, 0);
    const { cohort, settings } = options.quick ? quick : full;
    const config = makeConfig("recommended", {
      // The body has a left and a right side, and there is no time to learn that it may be mirrored.
      flip: [],
      window: [-160, 240],
      ...settings,
      ...(options.steps !== undefined && { steps: atLeast("--steps", options.steps, 1) }),
      seed,
    });
    const began = performance.now();
    const device = openDevice(options.device);
    await emptyFolder(out, context);
    await makeCohort(join(out, "data"), { ...cohort, seed }, context);
    const judged: Judged[] = [];
    for (const name of recipeNames) {
      const result = await trainAndJudge(name, out, config, device, context);
      if (result === undefined) return STOPPED;
      judged.push(result);
    }
    await publish(judged, out, config, context);
    context.stdout.write(`the demo took ${duration((performance.now() - began) / 1000)}\n`);
    return 0;
  },
});

async function emptyFolder(out: string, { version }: Context): Promise<void> {
  const held = existsSync(out) ? readdirSync(out) : [];
  if (held.length > 0 && !held.includes("demo.json"))
    throw new UsageError(
      `${out} holds something that is no demo (${held[0]}, …): choose another folder with --out`,
    );
  for (const entry of entries) await rm(join(out, entry), { recursive: true, force: true });
  await makeFolder(out);
  await writeJson(join(out, "demo.json"), { voxgrad: version });
}

async function writeJson(path: string, value: unknown): Promise<void> {
  await writeAtomically(path, [Buffer.from(`${JSON.stringify(value, undefined, 2)}\n`)]);
}

async function makeCohort(dir: string, options: CohortOptions, { stdout }: Context): Promise<void> {
  const { cases, labeled, test, size } = options;
  const progress = new Progress(stdout, { total: cases + test, label: "phantoms", unit: "case" });
  await writePhantom(dir, options, (done) => progress.update(done));
  progress.done();
  progress.log(
    `phantoms  ${labeled} labelled, ${cases - labeled} unlabelled, ${test} for the test, ${size.join(" x ")} voxels, in ${dir}`,
  );
}

/** Undefined when Ctrl-C ended it. */
async function trainAndJudge(
  name: (typeof recipeNames)[number],
  out: string,
  config: Config,
  device: Device,
  context: Context,
): Promise<Judged | undefined> {
  const run = new RunFolder(join(out, name));
  const data = resolve(out, "data");
  const dataset = await openDataset(data);
  const split = splitCases(dataset.cases, config);
  context.stdout.write(`\n${name}\n`);
  const result = await sit(
    {
      run,
      recipe: recipeNamed(name),
      config,
      cases: casesOf(split, dataset.cases),
      split,
      device,
      resume: false,
      onReady: () => run.create({ recipe: name, preset: "recommended", data, config }, split),
      resumeCommand: `${shellCommand(["voxgrad", "demo", "--out", out])} (begins again)`,
    },
    context,
  );
  if (!result.finished) return undefined;
  const predictions = join(out, "predictions", name);
  const { cases, networks } = await judge(run, dataset.test, device, predictions, context.signal);
  return { recipe: name, seconds: result.seconds, cases, networks };
}

async function publish(
  judged: readonly Judged[],
  out: string,
  config: Config,
  { stdout, version }: Context,
): Promise<void> {
  const rows = verdictRows(judged);
  const caption = verdict(judged);
  stdout.write(`\n${formatTable(verdictColumns, rows)}\n${caption}\n\n`);
  const report = join(out, "report.html");
  await writeComparison(report, {
    title: "voxgrad demo: few labels, many scans",
    table: { columns: verdictColumns, rows, caption },
    runs: await Promise.all(
      judged.map(async ({ recipe }) => ({
        name: recipe,
        metrics: await new RunFolder(join(out, recipe)).metrics(),
      })),
    ),
    cases: judged.flatMap(({ cases }) => cases.slice(0, 3)),
    classes: ["liver"],
    config,
    footer: `voxgrad ${version}`,
  });
  await writeJson(join(out, "demo.json"), {
    voxgrad: version,
    seed: config.seed,
    steps: config.steps,
    results: judged.map(({ recipe, seconds, networks }) => ({ recipe, seconds, networks })),
  });
  stdout.write(`report    ${report}\nrun folders, data and predictions are in ${out}\n`);
}
