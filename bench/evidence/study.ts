/** Trainings that are compared with each other: each a run folder of its own, judged once it is finished. */
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Case, openDataset } from "../../lib/data/dataset.ts";
import { groupsOf } from "../../lib/data/groups.ts";
import type { Triple } from "../../lib/data/volume.ts";
import { Predictor } from "../../lib/infer/predictor.ts";
import { predictVolume } from "../../lib/infer/sliding.ts";
import { evaluateCase, summarize } from "../../lib/metrics/overlap.ts";
import type { Network } from "../../lib/models/index.ts";
import { type Device, openDevice } from "../../lib/runtime/device.ts";
import { type Config, makeConfig, parseSetting } from "../../lib/train/config.ts";
import { loadVolume, type LoadedVolume } from "../../lib/train/data.ts";
import { loadRun, type WeightsChoice } from "../../lib/train/load.ts";
import { recipeNamed } from "../../lib/train/recipes/index.ts";
import { reestimateFromPatches } from "../../lib/train/reestimate.ts";
import { RunFolder } from "../../lib/train/run.ts";
import { train } from "../../lib/train/trainer.ts";

/** One training and its evaluation. Cases are named by their ids. */
export interface Job {
  readonly name: string;
  readonly recipe: string;
  readonly seed: number;
  readonly settings: Readonly<Record<string, unknown>>;
  readonly labeled: readonly string[];
  readonly unlabeled: readonly string[];
  readonly judged: readonly string[];
}

/** Dice, the mean over groups (cases, or patients) and structures. */
export interface Scores {
  readonly networks: readonly number[];
  /** Of the networks' mean probability. */
  readonly both: number;
}

export interface Result {
  readonly job: Job;
  readonly seconds: number;
  readonly scores: Scores;
  /** The same weights with batch-norm statistics estimated again on unlabelled patches. */
  readonly reestimated: Scores;
  /** The running averages of the weights, where the training kept them. */
  readonly average?: Scores;
}

export interface Study {
  /** A folder of cases. */
  readonly data: string;
  readonly out: string;
  readonly common: Readonly<Record<string, unknown>>;
  /** Which cases are judged as one volume: a regular expression as the setting `group`, or each by itself. */
  readonly group: string | null;
}

function configOf({ common }: Study, { recipe, settings, seed }: Job): Config {
  return makeConfig("recommended", { ...common, ...settings, seed }, recipeNamed(recipe));
}

async function runJob(study: Study, job: Job): Promise<void> {
  const device = openDevice("cpu");
  const { cases } = await openDataset(study.data);
  const byId = new Map(cases.map((each) => [each.id, each]));
  const config = configOf(study, job);
  const aside = job.labeled.length - config.validationCases;
  const split = {
    labeled: job.labeled.slice(0, aside),
    unlabeled: job.unlabeled,
    validation: job.labeled.slice(aside),
  };
  const run = new RunFolder(join(study.out, job.name));
  const recipe = recipeNamed(job.recipe);
  let began = Number.NaN;
  if (!existsSync(run.file("last.safetensors"))) {
    await run.create({ recipe: job.recipe, preset: "recommended", data: study.data, config }, split);
    const onPlan = () => {
      began = performance.now();
    };
    await train({ recipe, config, cases, split, run, device, listener: { onPlan } });
  }
  const seconds = (performance.now() - began) / 1000;

  const load = (ids: readonly string[]) =>
    Promise.all(ids.map((id) => loadVolume(byId.get(id) as Case, config, console.error)));
  const judged = await load(job.judged);
  const scoreOf = async (
    weights: WeightsChoice,
    prepare?: (networks: readonly Network[]) => Promise<void>,
  ) => {
    const loaded = await loadRun(run, device, weights);
    await prepare?.(loaded.networks);
    const scores = await scoreAll(study, loaded.networks, device, judged);
    loaded.dispose();
    return scores;
  };
  const unlabeled = await load(job.unlabeled.length > 0 ? job.unlabeled : job.labeled);
  const result: Result = {
    job,
    seconds,
    scores: await scoreOf("last"),
    reestimated: await scoreOf("last", (networks) =>
      reestimateFromPatches(networks, device, config, unlabeled, 50),
    ),
    average: config.teacherDecay > 0 ? await scoreOf("average") : undefined,
  };
  writeFileSync(resultFile(study, job), JSON.stringify(result, undefined, 2));
}

async function scoreAll(
  study: Study,
  networks: readonly Network[],
  device: Device,
  volumes: readonly LoadedVolume[],
): Promise<Scores> {
  const each: number[] = [];
  for (const network of networks) each.push(await score(study, [network], device, volumes));
  return { networks: each, both: await score(study, networks, device, volumes) };
}

async function score(
  { group }: Study,
  networks: readonly Network[],
  device: Device,
  volumes: readonly LoadedVolume[],
): Promise<number> {
  const predictor = new Predictor(networks, device);
  const pattern = group === null ? undefined : new RegExp(group);
  const groupOf = (id: string) => pattern?.exec(id)?.[1] ?? id;
  const counts = [];
  for (const name of groupsOf(
    volumes.map(({ id }) => id),
    groupOf,
  )) {
    const members = volumes.filter(({ id }) => groupOf(id) === name);
    const labels: Uint8Array[] = [];
    const predictions: Uint8Array[] = [];
    for (const { image, label, size } of members) {
      labels.push(label as Uint8Array);
      predictions.push(await predictVolume(predictor, image, size, { patch: "whole" }));
    }
    const [x, y] = members[0].size;
    const size: Triple = [x, y, members.reduce((total, member) => total + member.size[2], 0)];
    counts.push(evaluateCase(Buffer.concat(labels), Buffer.concat(predictions), size, predictor.classes));
  }
  await predictor.dispose();
  return summarize(counts).whole.mean.perCase.dice;
}

const resultFile = ({ out }: Study, { name }: Job) => join(out, `${name}.json`);

/**
 * Runs what is not yet finished, `lanes` trainings side by side, one thread each when there are several. `childArguments` start
 * this script so that it hands the job after `--job` to `runChildJob`.
 */
async function runAll(
  study: Study,
  jobs: readonly Job[],
  lanes: number,
  childArguments: readonly string[],
): Promise<Result[]> {
  mkdirSync(study.out, { recursive: true });
  const queue = jobs.filter((job) => !existsSync(resultFile(study, job)));
  const lane = async (): Promise<void> => {
    for (let job = queue.shift(); job !== undefined; job = queue.shift()) {
      console.error(`${job.name} … (${queue.length} to go)`);
      await spawnJob(job, childArguments);
    }
  };
  await Promise.all(Array.from({ length: lanes }, lane));
  return jobs.map((job) => JSON.parse(readFileSync(resultFile(study, job), "utf8")) as Result);
}

function spawnJob(job: Job, childArguments: readonly string[]): Promise<void> {
  const args = ["--import", "tsx", process.argv[1], ...childArguments, "--job", JSON.stringify(job)];
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, {
      stdio: ["ignore", "inherit", "inherit"],
      env: { ...process.env, VOXGRAD_THREADS: "1" },
    });
    child.once("close", (status) =>
      status === 0 ? resolve() : reject(new Error(`${job.name} ended with status ${status}`)),
    );
  });
}

export const runChildJob = (study: Study, job: string): Promise<void> =>
  runJob(study, JSON.parse(job) as Job);

/** `recipe key=value ...`, as a variant is given on the command line. */
export function parseVariant(text: string): { recipe: string; settings: Record<string, unknown> } {
  const [recipe, ...settings] = text.trim().split(/\s+/);
  return { recipe, settings: Object.fromEntries(settings.map(parseSetting)) };
}

const mean = (values: readonly number[]) => values.reduce((total, value) => total + value, 0) / values.length;

function spread(values: readonly number[]): number {
  const center = mean(values);
  const squares = values.reduce((total, value) => total + (value - center) ** 2, 0);
  return Math.sqrt(squares / Math.max(1, values.length - 1));
}

export interface Row {
  readonly name: string;
  /** One for each seed, in the order of the seeds. */
  readonly scores: readonly Scores[];
}

export interface Comparison {
  readonly study: Study;
  /** `recipe key=value ...` each. */
  readonly variants: readonly string[];
  readonly seeds: readonly number[];
  readonly makeJob: (seed: number, variant: string) => Job;
  readonly lanes: number;
  readonly childArguments: readonly string[];
}

/** Every variant with every seed, and what its weights give in other ways: with other norm statistics, or averaged. */
export async function compareVariants(comparison: Comparison): Promise<Row[]> {
  const { study, variants, seeds, makeJob, lanes, childArguments } = comparison;
  const jobs = variants.flatMap((variant) => seeds.map((seed) => makeJob(seed, variant)));
  const results = await runAll(study, jobs, lanes, childArguments);
  return variants.flatMap((variant, index) => {
    const list = results.slice(index * seeds.length, (index + 1) * seeds.length);
    const rows: Row[] = [{ name: variant, scores: list.map(({ scores }) => scores) }];
    if (variant.startsWith("supervised"))
      rows.push({
        name: "its norm statistics from unlabelled patches",
        scores: list.map(({ reestimated }) => reestimated),
      });
    if (list.every(({ average }) => average !== undefined))
      rows.push({ name: "its average weights", scores: list.flatMap(({ average }) => average ?? []) });
    return rows;
  });
}

/** The part of a job's name that says what it is a training of. */
export const wordsOf = (variant: string): string => variant.replace(/[^\w.=-]+/g, "_");

/** A Markdown table of rows, each compared with the first, seed by seed. */
export function table(rows: readonly Row[]): string {
  const signed = (value: number) => `${value >= 0 ? "+" : ""}${value.toFixed(4)}`;
  const dice = (values: readonly number[]) => `${mean(values).toFixed(4)} ± ${spread(values).toFixed(4)}`;
  const both = ({ scores }: Row) => scores.map((each) => each.both);
  const baseline = both(rows[0]);
  const lines = rows.map((row) => {
    const gains = both(row).map((value, index) => value - baseline[index]);
    const cells = [
      row.name,
      ...[0, 1].map((network) => dice(row.scores.map(({ networks }) => networks[network]))),
      dice(both(row)),
      both(row)
        .map((value) => value.toFixed(4))
        .join(" "),
      `${signed(mean(gains))} (${gains.map(signed).join(" ")})`,
    ];
    return `| ${cells.join(" | ")} |`;
  });
  const head = "| row | first network | second network | mean of both | seeds | against the first row |";
  return [head, "|---|--:|--:|--:|---|--:|", ...lines].join("\n");
}
