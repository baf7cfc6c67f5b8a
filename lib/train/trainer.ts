import { existsSync } from "node:fs";
import type { Plan, Upload } from "../compile/plan.ts";
import { disposeStates, writeState } from "../compile/states.ts";
import type { Case } from "../data/dataset.ts";
import { DataError, NotFiniteError } from "../errors.ts";
import { reestimateFromCases } from "./reestimate.ts";
import {
  constantRate,
  polynomial,
  rampUp,
  type Schedule,
  stepwise,
  warmUpPolynomial,
} from "../optim/schedule.ts";
import type { Device } from "../runtime/device.ts";
import { readCheckpoint, restore, saveCheckpoint, snapshot } from "./checkpoint.ts";
import type { Config } from "./config.ts";
import { Batches } from "./batches.ts";
import type { CaseCache } from "./case_cache.ts";
import { openCases } from "./cases.ts";
import type { Split } from "./data.ts";
import { checkRecipe, diceNumber, type Recipe } from "./recipes/index.ts";
import type { Metrics, RunFolder } from "./run.ts";
import { compileStep, type Learners, makeLearners } from "./step.ts";
import { validate } from "./validate.ts";

export interface TrainOptions {
  readonly recipe: Recipe;
  readonly config: Config;
  readonly cases: readonly Case[];
  readonly split: Split;
  readonly run: RunFolder;
  readonly device: Device;
  /** Continue from the folder's last checkpoint. */
  readonly resume?: boolean;
  /** When it is aborted, the step under way is finished and saved. */
  readonly signal?: AbortSignal;
  readonly listener?: TrainListener;
}

/** What a caller may follow of a run; every method is optional. */
export interface TrainListener {
  onLoad?(done: number, total: number): void;
  /** Not all cases fit into memory: `kept` of `total` do, in `bytes`; the others are read when steps need them. */
  onCache?(kept: number, total: number, bytes: number): void;
  onWarning?(text: string): void;
  /** The step is compiled and its memory taken. The first step waits for a Promise that this may return. */
  onPlan?(plan: Plan, firstStep: number): unknown;
  onStep?(metrics: Metrics): void;
  onCheckpoint?(step: number, score: number, best: boolean): void;
}

export interface TrainResult {
  /** Steps done, over all sittings. */
  readonly steps: number;
  /** False when the signal ended it early. */
  readonly finished: boolean;
  /** The last step's metrics. */
  readonly last: Metrics | undefined;
}

/** How far a run has come; kept in its checkpoints. */
interface Progress {
  step: number;
  /** Highest score of a checkpoint so far. */
  best: number;
  /** Sum and number of the losses since the last checkpoint. */
  lossSum: number;
  lossCount: number;
}

/**
 * Trains by a recipe until the last step or the signal. The same configuration and cases give the same bits,
 * however often the run was interrupted and resumed.
 *
 * @throws {UsageError} when the configuration does not suit the recipe.
 * @throws {NotFiniteError} when a loss is not finite; the last checkpoint stays as it was.
 */
export async function train(options: TrainOptions): Promise<TrainResult> {
  const { config, recipe, device, listener } = options;
  checkRecipe(recipe, config);
  const batches = new Batches(config, recipe, options.split);
  const cases = await openCases(options, batches);
  const learners = makeLearners(config, recipe);
  const plan = await compileStep(config, recipe, learners, device);
  try {
    const progress = options.resume
      ? await resumeFrom(options, learners)
      : { step: 0, best: -Infinity, lossSum: 0, lossCount: 0 };
    await listener?.onPlan?.(plan, progress.step);
    const last = await runSteps(options, plan, batches, cases, learners, progress);
    const finished = progress.step === config.steps;
    if (finished && config.reestimateBatches > 0) await reestimate(options, learners, progress, cases);
    return { steps: progress.step, finished, last };
  } finally {
    await batches.close();
    plan.dispose();
    disposeStates(device, learners.everything.values());
  }
}

async function runSteps(
  options: TrainOptions,
  plan: Plan,
  batches: Batches,
  cases: CaseCache,
  learners: Learners,
  progress: Progress,
): Promise<Metrics | undefined> {
  const { config, run, signal, listener } = options;
  const rate = scheduleOf(config);
  let metrics: Metrics | undefined;
  let saved = progress.step;
  const prepare = async (step: number) => {
    if (step >= config.steps) return undefined;
    const learningRate = rate(step, config.steps);
    const unsupervisedWeight = config.unsupervisedWeight * rampUp(step, config.rampShare * config.steps);
    const key = Int32Array.of(config.seed, step);
    // The average forgets the first weights quickly, then as slowly as the setting says.
    const decay = Math.min(step / (step + 1), config.teacherDecay);
    const rates = {
      learningRate,
      unsupervisedWeight,
      ...(config.teacherDecay > 0 ? { teacherDecay: decay } : {}),
    };
    const inputs = plan.upload({ ...(await batches.at(step, cases)), ...rates, key });
    return { inputs, learningRate, unsupervisedWeight };
  };
  let batch = await prepare(progress.step);
  while (batch !== undefined && signal?.aborted !== true) {
    const { inputs, learningRate, unsupervisedWeight } = batch;
    // The next batch is cut out and brought to the device while this one is learnt.
    const running = runStep(plan, inputs, options, progress.step);
    const [next] = await Promise.allSettled([Promise.resolve(progress.step + 1).then(prepare), running]);
    const results = await running;
    progress.step++;
    for (const [name, value] of Object.entries(results)) {
      if (!name.startsWith("loss.")) continue;
      progress.lossSum += value;
      progress.lossCount++;
    }
    const weights: Record<string, number> = options.recipe.unlabeled ? { unsupervisedWeight } : {};
    metrics = { step: progress.step, learningRate, ...weights, ...results };
    await run.log(metrics);
    listener?.onStep?.(metrics);
    if (progress.step % config.checkpointEvery === 0 || progress.step === config.steps) {
      await checkpoint(options, learners, progress, cases);
      saved = progress.step;
    }
    if (next.status === "rejected") {
      // A file that cannot be read costs none of the steps before.
      if (saved < progress.step) await saveLast(options, learners, progress);
      throw next.reason;
    }
    batch = next.value;
  }
  // Stopped between checkpoints: the sums go along, so that the score of the next one comes out the same.
  if (saved < progress.step) await saveLast(options, learners, progress);
  return metrics;
}

async function runStep(
  plan: Plan,
  inputs: Upload,
  { run }: TrainOptions,
  step: number,
): Promise<Record<string, number>> {
  try {
    const outputs = await plan.run(inputs);
    return Object.fromEntries(Object.entries(outputs).map(([name, value]) => [name, value[0]]));
  } catch (error) {
    if (!(error instanceof NotFiniteError)) throw error;
    const kept = existsSync(run.file("last.safetensors"))
      ? `; ${run.file("last.safetensors")} is the last good checkpoint`
      : "";
    throw new NotFiniteError(
      error.tensor,
      `step ${step + 1}: the loss is not finite; the first bad tensor is ${error.tensor}${kept}. ` +
        `A lower learningRate is the usual remedy`,
    );
  }
}

/** Scores the run, saves it, and keeps the best apart. */
async function checkpoint(
  options: TrainOptions,
  learners: Learners,
  progress: Progress,
  cases: CaseCache,
): Promise<void> {
  const { config, run, device, listener } = options;
  const { validation } = options.split;
  const volumes = { ids: validation, cases, step: progress.step };
  const score =
    validation.length > 0
      ? await validate(learners.networks, device, volumes, config)
      : -progress.lossSum / Math.max(1, progress.lossCount);
  if (validation.length > 0) await run.log({ step: progress.step, validationDice: score });
  if (config.selector === "validation") await judge(options, learners, volumes);
  progress.lossSum = 0;
  progress.lossCount = 0;
  const isBest = score > progress.best;
  if (isBest) {
    progress.best = score;
    await saveCheckpoint(
      run.file("best.safetensors"),
      await snapshot(device, learners.weights, { step: String(progress.step) }),
    );
  }
  await saveLast(options, learners, progress);
  listener?.onCheckpoint?.(progress.step, score, isBest);
}

/** Tells the recipe the Dice loss of each network by itself on the validation cases. */
async function judge(
  { config, run, device }: TrainOptions,
  { networks, numbers }: Learners,
  volumes: Parameters<typeof validate>[2],
): Promise<void> {
  const metrics: Record<string, number> = {};
  for (const [index, network] of networks.entries()) {
    const dice = await validate([network], device, volumes, config);
    metrics[`validationDice.${network.path}`] = dice;
    const number = numbers.get(diceNumber(index));
    // A loss of 0 stands for one that is not known yet.
    if (number !== undefined) await writeState(device, number, Float32Array.of(Math.max(1 - dice, 1e-6)));
  }
  await run.log({ step: volumes.step, ...metrics });
}

async function saveLast(
  { run, device }: TrainOptions,
  learners: Learners,
  progress: Progress,
): Promise<void> {
  const metadata = { step: String(progress.step), progress: JSON.stringify(progress) };
  await saveCheckpoint(run.file("last.safetensors"), await snapshot(device, learners.everything, metadata));
}

async function resumeFrom({ run, device }: TrainOptions, learners: Learners): Promise<Progress> {
  const path = run.file("last.safetensors");
  const file = await readCheckpoint(path);
  await restore(device, learners.everything, file, path);
  const stored = JSON.parse(file.metadata.progress ?? "{}") as Partial<Progress>;
  if (typeof stored.step !== "number")
    throw new DataError(path, "this checkpoint does not say how far its run had come");
  // JSON has no infinity: a run stopped before its first checkpoint has no best score yet.
  const progress = {
    step: stored.step,
    best: stored.best ?? -Infinity,
    lossSum: stored.lossSum ?? 0,
    lossCount: stored.lossCount ?? 0,
  };
  await run.rewindMetrics(progress.step);
  return progress;
}

async function reestimate(
  options: TrainOptions,
  learners: Learners,
  progress: Progress,
  cases: CaseCache,
): Promise<void> {
  const { config, device, split } = options;
  const ids = split.unlabeled.length > 0 ? split.unlabeled : split.labeled;
  await reestimateFromCases(learners.networks, device, config, ids, cases);
  await saveLast(options, learners, progress);
}

function scheduleOf(config: Config): Schedule {
  const { schedule, learningRate, warmUpShare, steps, decayPower, decayEvery, decayFactor } = config;
  if (schedule === "warmUpPoly") return warmUpPolynomial(learningRate, warmUpShare * steps, decayPower);
  if (schedule === "poly") return polynomial(learningRate, decayPower);
  if (schedule === "step") return stepwise(learningRate, decayEvery, decayFactor);
  return constantRate(learningRate);
}
