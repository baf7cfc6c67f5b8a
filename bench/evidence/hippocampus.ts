/**
 * SD-Net against its controls on real scans: MSD Task04 hippocampus (images/ and labels/ in --data), 8 labelled cases.
 *
 *   node --import tsx bench/evidence/hippocampus.ts --data DIR --out DIR [--jobs 2] [--seeds 3] [--steps 400]
 *   node --import tsx bench/evidence/hippocampus.ts --data DIR --out DIR --choose     settings, on pool cases only
 *
 * Every training is a run folder of its own below --out; finished ones are kept, so the command can be repeated. The
 * table goes to standard output.
 */
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { type Case, openDataset } from "../../lib/data/dataset.ts";
import { Random } from "../../lib/random.ts";
import { Predictor } from "../../lib/infer/predictor.ts";
import { predictVolume } from "../../lib/infer/sliding.ts";
import { evaluateCase, summarize } from "../../lib/metrics/overlap.ts";
import type { Network } from "../../lib/models/index.ts";
import { type Device, openDevice } from "../../lib/runtime/device.ts";
import { type Config, makeConfig } from "../../lib/train/config.ts";
import { loadVolume, type LoadedVolume } from "../../lib/train/data.ts";
import { loadRun } from "../../lib/train/load.ts";
import { recipes } from "../../lib/train/recipes/index.ts";
import { reestimateFromPatches } from "../../lib/train/reestimate.ts";
import { RunFolder } from "../../lib/train/run.ts";
import { train } from "../../lib/train/trainer.ts";

const { values: options } = parseArgs({
  options: {
    data: { type: "string" },
    out: { type: "string" },
    jobs: { type: "string", default: "2" },
    seeds: { type: "string", default: "3" },
    steps: { type: "string", default: "400" },
    weight: { type: "string", default: "0.1" },
    rate: { type: "string", default: "0.1" },
    choose: { type: "boolean", default: false },
    job: { type: "string" },
  },
});
if (options.data === undefined || options.out === undefined) throw new Error("--data and --out are needed");
const { data, out } = options as { data: string; out: string };
const splits = JSON.parse(readFileSync(new URL("./hippocampus-split.json", import.meta.url), "utf8")) as {
  test: number[];
  pool: number[];
  labeled: Record<string, number[]>;
};
const idOf = (number: number) => `hippocampus_${String(number).padStart(3, "0")}`;

/** One training and its evaluation. */
interface Job {
  readonly name: string;
  readonly recipe: "supervised" | "sdnet";
  readonly seed: number;
  readonly labels: "few" | "all";
  readonly rate: number;
  readonly weight: number;
  /** Settings are compared on pool cases that no training of the comparison sees. */
  readonly evaluate: "test" | "pool";
}

interface Scores {
  readonly vnet: number;
  readonly resvnet: number;
  readonly both: number;
}

interface Result {
  readonly job: Job;
  readonly steps: number;
  readonly seconds: number;
  readonly scores: Scores;
  /** The same weights with batch-norm statistics estimated again on unlabelled crops. */
  readonly reestimated: Scores;
}

function configOf(job: Job): Config {
  return makeConfig("recommended", {
    classes: 3,
    baseChannels: 8,
    dropout: 0,
    patch: [32, 48, 32],
    foreground: 0,
    flip: ["x"],
    rotate: 0,
    steps: Number(options.steps),
    seed: job.seed,
    learningRate: job.rate,
    unsupervisedWeight: job.weight,
    rampShare: 0.4,
  });
}

async function runJob(job: Job): Promise<void> {
  const device = openDevice("cpu");
  const dataset = await openDataset(data);
  const byId = new Map(dataset.cases.map((each) => [each.id, each]));
  const pick = (numbers: readonly number[]) => numbers.map((number) => byId.get(idOf(number)) as Case);
  const few = splits.labeled[job.seed];
  const heldBack = job.evaluate === "pool" ? poolValidation(few) : [];
  const pool = splits.pool.filter((number) => !heldBack.includes(number));
  const known = job.labels === "all" ? pool : few;
  const split = {
    labeled: known.map(idOf),
    unlabeled: pool.filter((number) => !known.includes(number)).map(idOf),
    validation: [],
  };
  const config = configOf(job);
  const run = new RunFolder(join(out, job.name));
  const recipe = recipes[job.recipe];
  let began = 0;
  if (!existsSync(run.file("last.safetensors"))) {
    await run.create({ recipe: job.recipe, preset: "recommended", data, config }, split);
    const onPlan = () => {
      began = performance.now();
    };
    await train({ recipe, config, cases: dataset.cases, split, run, device, listener: { onPlan } });
  }
  const seconds = began === 0 ? Number.NaN : (performance.now() - began) / 1000;

  const { networks } = await loadRun(run, device);
  const load = (cases: readonly Case[]) =>
    Promise.all(cases.map((each) => loadVolume(each, config, console.error)));
  const judged = await load(pick(job.evaluate === "pool" ? heldBack : splits.test));
  const scores = await scoreAll(networks, device, judged);
  const unlabeled = split.unlabeled.length > 0 ? split.unlabeled : split.labeled;
  await reestimateFromPatches(
    networks,
    device,
    config,
    await load(unlabeled.map((id) => byId.get(id) as Case)),
    50,
  );
  const reestimated = await scoreAll(networks, device, judged);
  const result: Result = { job, steps: config.steps, seconds, scores, reestimated };
  writeFileSync(resultFile(job), JSON.stringify(result, undefined, 2));
}

/** 20 pool cases that are not among the labelled ones. */
function poolValidation(few: readonly number[]): number[] {
  const rest = splits.pool.filter((number) => !few.includes(number));
  return [...new Random(77).permutation(rest.length).subarray(0, 20)].map((index) => rest[index]);
}

async function scoreAll(
  networks: readonly Network[],
  device: Device,
  volumes: readonly LoadedVolume[],
): Promise<Scores> {
  const [vnet, resvnet, both] = await Promise.all(
    [[networks[0]], [networks[1]], networks].map((some) => score(some, device, volumes)),
  );
  return { vnet, resvnet, both };
}

/** Mean Dice over cases and both structures, each volume in one pass. */
async function score(
  networks: readonly Network[],
  device: Device,
  volumes: readonly LoadedVolume[],
): Promise<number> {
  const predictor = new Predictor(networks, device);
  const counts = [];
  for (const { image, label, size } of volumes) {
    const prediction = await predictVolume(predictor, image, size, { patch: "whole" });
    counts.push(evaluateCase(label as Uint8Array, prediction, size, 3));
  }
  await predictor.dispose();
  return summarize(counts).whole.mean.perCase.dice;
}

function resultFile(job: Job): string {
  return join(out, `${job.name}.json`);
}

/** Runs jobs side by side, one thread each when there are several. */
async function runAll(jobs: readonly Job[]): Promise<Result[]> {
  mkdirSync(out, { recursive: true });
  const queue = jobs.filter((job) => !existsSync(resultFile(job)));
  const lanes = Number(options.jobs);
  const lane = async (): Promise<void> => {
    for (let job = queue.shift(); job !== undefined; job = queue.shift()) {
      console.error(`${job.name} …`);
      await runChild(job, lanes > 1 ? { VOXGRAD_THREADS: "1" } : {});
    }
  };
  await Promise.all(Array.from({ length: lanes }, lane));
  return jobs.map((job) => JSON.parse(readFileSync(resultFile(job), "utf8")) as Result);
}

function runChild(job: Job, environment: NodeJS.ProcessEnv): Promise<void> {
  const script = process.argv[1];
  const args = [
    "--import",
    "tsx",
    script,
    "--data",
    data,
    "--out",
    out,
    "--steps",
    options.steps,
    "--job",
    JSON.stringify(job),
  ];
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, {
      stdio: ["ignore", "inherit", "inherit"],
      env: { ...process.env, ...environment },
    });
    child.once("close", (status) =>
      status === 0 ? resolve() : reject(new Error(`${job.name} ended with status ${status}`)),
    );
  });
}

const mean = (values: readonly number[]) => values.reduce((total, value) => total + value, 0) / values.length;

function spread(values: readonly number[]): number {
  const center = mean(values);
  return Math.sqrt(
    values.reduce((total, value) => total + (value - center) ** 2, 0) / Math.max(1, values.length - 1),
  );
}

async function compare(): Promise<void> {
  const rate = Number(options.rate);
  const weight = Number(options.weight);
  const seeds = Array.from({ length: Number(options.seeds) }, (_, seed) => seed);
  const make = (row: string, recipe: Job["recipe"], labels: Job["labels"], w: number) =>
    seeds.map(
      (seed): Job => ({ name: `${row}-s${seed}`, recipe, seed, labels, rate, weight: w, evaluate: "test" }),
    );
  const results = await runAll([
    ...make("supervised-8", "supervised", "few", 0),
    ...make("sdnet-w0", "sdnet", "few", 0),
    ...make("sdnet", "sdnet", "few", weight),
    ...make("supervised-all", "supervised", "all", 0),
  ]);
  const of = (row: string) => results.filter(({ job }) => job.name.startsWith(`${row}-s`));
  const rows: [string, Result[], (result: Result) => Scores][] = [
    ["supervised, N = 8", of("supervised-8"), ({ scores }) => scores],
    ["the same, norm statistics from unlabelled crops", of("supervised-8"), ({ reestimated }) => reestimated],
    ["sdnet, unsupervised weight 0", of("sdnet-w0"), ({ scores }) => scores],
    [`sdnet, unsupervised weight ${weight}`, of("sdnet"), ({ scores }) => scores],
    ["supervised, all 160 labels", of("supervised-all"), ({ scores }) => scores],
  ];
  const baseline = rows[0][1].map((result) => result.scores.both);
  console.log(
    "| row | V-Net | 3D-ResVNet | mean of both | seeds | against supervised, N = 8 | steps | s a run |",
  );
  console.log("|---|--:|--:|--:|---|--:|--:|--:|");
  const format = (values: readonly number[]) => `${mean(values).toFixed(4)} ± ${spread(values).toFixed(4)}`;
  for (const [name, list, choose] of rows) {
    const column = (key: keyof Scores) => list.map((result) => choose(result)[key]);
    const gains = column("both").map((value, index) => value - baseline[index]);
    const signed = gains.map((gain) => `${gain >= 0 ? "+" : ""}${gain.toFixed(4)}`);
    const cells = [
      name,
      format(column("vnet")),
      format(column("resvnet")),
      format(column("both")),
      column("both")
        .map((value) => value.toFixed(4))
        .join(" "),
      `${mean(gains) >= 0 ? "+" : ""}${mean(gains).toFixed(4)} (${signed.join(" ")})`,
      list[0].steps,
      mean(list.map(({ seconds }) => seconds)).toFixed(0),
    ];
    console.log(`| ${cells.join(" | ")} |`);
  }
}

/** Learning rate by `supervised`, then the unsupervised weight by `sdnet`, on 20 pool cases, seed 0. */
async function chooseSettings(): Promise<void> {
  const job = (recipe: Job["recipe"], rate: number, weight: number): Job => ({
    name: `choose-${recipe}-lr${rate}-w${weight}`,
    recipe,
    seed: 0,
    labels: "few",
    rate,
    weight,
    evaluate: "pool",
  });
  const rates = await runAll([0.01, 0.03, 0.1, 0.2].map((rate) => job("supervised", rate, 0)));
  const best = rates.reduce((a, b) => (b.scores.both > a.scores.both ? b : a)).job.rate;
  const weights = await runAll([0.1, 1].map((weight) => job("sdnet", best, weight)));
  console.log("| settings | V-Net | 3D-ResVNet | mean of both |\n|---|--:|--:|--:|");
  for (const { job: each, scores } of [...rates, ...weights])
    console.log(
      `| ${each.recipe}, rate ${each.rate}, weight ${each.weight} | ${scores.vnet.toFixed(4)} | ${scores.resvnet.toFixed(4)} | ${scores.both.toFixed(4)} |`,
    );
}

if (options.job !== undefined) await runJob(JSON.parse(options.job) as Job);
else if (options.choose) await chooseSettings();
else await compare();
