/**
 * SD-Net and cross pseudo supervision against their controls on real scans: MSD Task04 hippocampus (images/ and labels/ in --data).
 *
 *   node --import tsx bench/evidence/hippocampus.ts --data DIR --out DIR [--labels 4,8,20] [--seeds 3] [--steps 800] [--jobs 2]
 *   ... --pool [--variant "sdnet teacherDecay=0.99"]...     settings, judged on pool cases only
 *
 * Finished trainings are kept, so the command can be repeated. Tables go to standard output.
 */
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { Random } from "../../lib/random.ts";
import { compareVariants, type Job, parseVariant, runChildJob, type Study, table, wordsOf } from "./study.ts";

const { values: options } = parseArgs({
  options: {
    data: { type: "string" },
    out: { type: "string" },
    jobs: { type: "string", default: "2" },
    seeds: { type: "string", default: "3" },
    steps: { type: "string", default: "800" },
    labels: { type: "string", default: "4,8,20" },
    rate: { type: "string", default: "0.1" },
    pool: { type: "boolean", default: false },
    variant: { type: "string", multiple: true, default: [] },
    job: { type: "string" },
  },
});
if (options.data === undefined || options.out === undefined) throw new Error("--data and --out are needed");
const { data, out, steps, rate } = options as typeof options & { data: string; out: string };

const splits = JSON.parse(readFileSync(new URL("./hippocampus-split.json", import.meta.url), "utf8")) as {
  test: number[];
  pool: number[];
  labeled: Record<string, number[]>;
};
const idOf = (number: number) => `hippocampus_${String(number).padStart(3, "0")}`;

const study: Study = {
  data,
  out,
  group: null,
  common: {
    networks: ["vnet", "resvnet"],
    classes: 3,
    baseChannels: 8,
    dropout: 0,
    patch: [32, 48, 32],
    labeledPerBatch: 2,
    unlabeledPerBatch: 2,
    foreground: 0,
    flip: ["x"],
    rotate: 0,
    steps: Number(steps),
    learningRate: Number(rate),
    schedule: "poly",
    rampShare: 0.4,
    cutMixBoxes: 0,
  },
};

/** The labelled cases of a seed; more of them contain the fewer. */
function labeledOf(seed: number, count: number): number[] {
  const first = splits.labeled[seed];
  const rest = splits.pool.filter((number) => !first.includes(number));
  const order = [...new Random(100 + seed).permutation(rest.length)].map((index) => rest[index]);
  return [...first, ...order].slice(0, count);
}

/** 20 pool cases that no seed's first 20 labels contain. */
function heldBack(): number[] {
  const known = new Set([0, 1, 2].flatMap((seed) => labeledOf(seed, 20)));
  const rest = splits.pool.filter((number) => !known.has(number));
  return [...new Random(77).permutation(rest.length).subarray(0, 20)].map((index) => rest[index]);
}

function makeJob(seed: number, count: number, variant: string): Job {
  const { recipe, settings } = parseVariant(variant);
  const judged = options.pool ? heldBack() : splits.test;
  const pool = splits.pool.filter((number) => !options.pool || !judged.includes(number));
  const known = labeledOf(seed, 160)
    .filter((number) => pool.includes(number))
    .slice(0, count);
  return {
    name: `${options.pool ? "pool" : "test"}-n${count}-s${seed}-${wordsOf(variant)}-${steps}-lr${rate}`,
    recipe,
    seed,
    settings,
    labeled: known.map(idOf),
    unlabeled: pool.filter((number) => !known.includes(number)).map(idOf),
    judged: judged.map(idOf),
  };
}

const seeds = Array.from({ length: Number(options.seeds) }, (_, seed) => seed);

if (options.job !== undefined) await runChildJob(study, options.job);
else {
  const given = options.variant;
  const variants = given.length > 0 ? given : ["supervised", "sdnet unsupervisedWeight=0", "sdnet"];
  for (const count of options.labels.split(",").map(Number)) {
    const rows = await compareVariants({
      study,
      variants,
      seeds,
      makeJob: (seed, variant) => makeJob(seed, count, variant),
      lanes: Number(options.jobs),
      childArguments: ["--data", data, "--out", out, "--steps", steps, "--rate", rate],
    });
    console.log(`N = ${count}\n\n${table(rows)}\n`);
  }
}
