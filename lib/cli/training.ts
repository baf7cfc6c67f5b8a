import { existsSync } from "node:fs";
import type { Plan } from "../compile/plan.ts";
import { type Case, grouping, groupsOf } from "../data/index.ts";
import { counted, NotFiniteError, VoxgradError } from "../errors.ts";
import { writeRunReport } from "../report/run_report.ts";
import type { Device } from "../runtime/device.ts";
import type { Config } from "../train/config.ts";
import type { Split } from "../train/data.ts";
import type { Recipe } from "../train/recipes/index.ts";
import type { Metrics, RunFolder } from "../train/run.ts";
import { makeLearners } from "../train/step.ts";
import { train, type TrainResult } from "../train/trainer.ts";
import type { Context } from "./arguments.ts";
import { deviceLine } from "./options.ts";
import { duration, Progress } from "./progress.ts";
import { paint } from "./style.ts";
import { formatBytes, formatCount } from "./table.ts";

/** One sitting of a run: from its start or its last checkpoint to its end or Ctrl-C. */
export interface Sitting {
  readonly run: RunFolder;
  readonly recipe: Recipe;
  readonly config: Config;
  readonly cases: readonly Case[];
  readonly split: Split;
  readonly device: Device;
  /** Goes on from the last checkpoint. */
  readonly resume: boolean;
  /** Called before the first step: a new run makes its folder here, when nothing more is likely to be refused. */
  readonly onReady?: () => Promise<void>;
  /** The command that continues the run after an interruption. */
  readonly resumeCommand: string;
}

/** What a sitting came to. */
export interface SittingResult extends TrainResult {
  /** Wall time of the training steps with their validations and checkpoints. */
  readonly seconds: number;
}

/** Trains with progress on `context.stdout`, and writes the run's report. */
export async function sit(sitting: Sitting, context: Context): Promise<SittingResult> {
  const { run, config, device, cases } = sitting;
  const lines = new Progress(context.stdout, { total: config.steps, label: "train" });
  introduce(sitting, (line) => lines.log(line));
  const { result, say } = await trainWithProgress(sitting, context);
  // Said before the report is written: where that fails, the run is none the less done or can go on.
  if (result.finished) {
    say(`done      ${counted(result.steps, "step")}; this sitting took ${duration(result.seconds)}`);
  } else {
    const kept = existsSync(run.file("last.safetensors"))
      ? `, saved in ${run.path}`
      : "; nothing to save yet";
    say(`stopped   after ${result.steps} of ${counted(config.steps, "step")}${kept}`);
    say(`continue  ${sitting.resumeCommand}`);
  }
  if (existsSync(run.file("last.safetensors"))) {
    let drawing: Progress | undefined;
    await writeRunReport(run, {
      device,
      cases,
      footer: `voxgrad ${context.version}`,
      onProgress: (done, total) => {
        drawing ??= new Progress(context.stdout, { total, label: "report", unit: "case" });
        drawing.update(done);
      },
    });
    drawing?.done();
  }
  if (result.finished) say(`report    ${run.file("report.html")}`);
  return result;
}

async function trainWithProgress(
  sitting: Sitting,
  { stdout, stderr, signal }: Context,
): Promise<{ result: SittingResult; say: (line: string) => void }> {
  const { run, recipe, config, cases, split, device, resume } = sitting;
  const needed = split.labeled.length + split.validation.length + split.unlabeled.length;
  let progress = new Progress(stdout, { total: needed, label: "read", unit: "case" });
  let began = performance.now();
  const onPlan = async (plan: Plan, firstStep: number) => {
    progress.done();
    // The pace of the first steps says early how long the run will take.
    progress = new Progress(stdout, {
      total: config.steps,
      label: "train",
      start: firstStep,
      firstLine: 2000,
    });
    progress.log(
      `plan      ${counted(plan.layout.steps.length, "kernel call", formatCount(plan.layout.steps.length))}, ${(plan.flops / 1e9).toPrecision(3)} GFLOP a step, ` +
        `peak memory ${formatBytes(plan.peakBytes)}`,
    );
    if (firstStep > 0) progress.log(`resume    at step ${firstStep} of ${config.steps}`);
    await sitting.onReady?.();
    began = performance.now();
  };
  const onStop = () => progress.log("stopping  after this step; Ctrl-C again ends at once, without saving");
  signal.addEventListener("abort", onStop, { once: true });
  try {
    const result = await train({
      recipe,
      config,
      cases,
      split,
      run,
      device,
      resume,
      signal,
      listener: {
        onLoad: (done) => progress.update(done),
        onCache: (kept, total, bytes) =>
          progress.log(
            `cache     ${kept} of ${counted(total, "case")} are kept in ${formatBytes(bytes)} (setting cacheGB), the others are read ${config.cacheFolder === null ? "" : `from ${config.cacheFolder} `}when steps need them`,
          ),
        onWarning: (text) => progress.log(`${paint(stdout, "yellow", "warning:")} ${text}`),
        onPlan,
        onStep: (metrics) => progress.update(metrics.step, lossesOf(metrics)),
        onCheckpoint: (step, score, best) => {
          const judged =
            split.validation.length > 0
              ? `validation Dice ${score.toFixed(4)}`
              : `mean loss ${(-score).toFixed(4)}`;
          const parts = [
            `step ${step}/${config.steps}`,
            `${judged}${best ? " (best)" : ""}`,
            progress.pace(),
          ];
          progress.log(parts.filter((part) => part !== "").join("  "));
        },
      },
    });
    const seconds = (performance.now() - began) / 1000;
    return { result: { ...result, seconds }, say: (line) => progress.log(line) };
  } catch (error) {
    const canGoOn = error instanceof VoxgradError && !(error instanceof NotFiniteError);
    if (canGoOn && existsSync(run.file("last.safetensors")))
      stderr.write(`the last checkpoint is kept; continue from it with: ${sitting.resumeCommand}\n`);
    else if (canGoOn && existsSync(run.file("config.json")))
      stderr.write(`there is no checkpoint yet; begin again with: ${sitting.resumeCommand}\n`);
    throw error;
  } finally {
    signal.removeEventListener("abort", onStop);
    progress.done();
  }
}

function introduce({ run, recipe, config, split, device }: Sitting, say: (line: string) => void): void {
  const { networks } = makeLearners(config);
  const sizes = networks.map(
    ({ path, parameterCount }) => `${path} ${formatCount(parameterCount)} parameters`,
  );
  const { labeled, unlabeled, validation } = split;
  const idle = recipe.unlabeled || unlabeled.length === 0 ? "" : ` (recipe ${recipe.name} leaves them out)`;
  say(deviceLine(device, config.precision));
  say(`networks  ${sizes.join(", ")}; ${config.classes} classes`);
  const count = (ids: readonly string[]) =>
    config.group === null
      ? `${ids.length}`
      : `${ids.length} (${counted(groupsOf(ids, grouping(config.group)).length, "group")})`;
  say(
    `cases     ${count(labeled)} labelled, ${count(unlabeled)} unlabelled${idle}, ${count(validation)} for validation`,
  );
  say(
    `run       ${run.path}: ${recipe.name}, ${counted(config.steps, "step")}, patch ${config.patch.join("x")}`,
  );
}

function lossesOf(metrics: Metrics): string {
  const losses = Object.entries(metrics).filter(([name]) => name.startsWith("loss."));
  return `loss ${losses.map(([, value]) => value.toFixed(3)).join(" ")}`;
}
