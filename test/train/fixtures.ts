import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openDataset } from "../../lib/data/dataset.ts";
import { writePhantom } from "../../lib/data/phantom.ts";
import { openDevice } from "../../lib/runtime/device.ts";
import { type Config, makeConfig } from "../../lib/train/config.ts";
import { splitCases } from "../../lib/train/data.ts";
import { recipes } from "../../lib/train/recipes/index.ts";
import { RunFolder } from "../../lib/train/run.ts";
import { train, type TrainOptions } from "../../lib/train/trainer.ts";

export const device = openDevice();

const folders: string[] = [];
process.on("exit", () => {
  for (const path of folders) rmSync(path, { recursive: true, force: true });
});

/** A folder that is gone when the process ends. */
export function temporaryFolder(): string {
  const path = mkdtempSync(join(tmpdir(), "voxgrad-"));
  folders.push(path);
  return path;
}

/** A phantom cohort small enough to train on in a second: 4 cases, 2 of them labelled. */
export async function tinyCohort(): Promise<string> {
  const dir = temporaryFolder();
  await writePhantom(dir, { cases: 4, labeled: 2, test: 0, size: [32, 32, 16], seed: 5 });
  return dir;
}

export function tinyConfig(settings: Partial<Config> = {}, recipe = "sdnet"): Config {
  const tiny = {
    baseChannels: 2,
    patch: [16, 16, 16],
    window: [-100, 300],
    steps: 10,
    checkpointEvery: 4,
    learningRate: 0.02,
  };
  // One view of the image, and networks that teach as they are.
  const plain = recipe === "sdnet" ? { jitter: 0, noise: 0, unsupervisedWeight: 0.1, teacherDecay: 0 } : {};
  return makeConfig("recommended", { ...tiny, ...plain, ...settings }, recipes[recipe]);
}

/** Trains into a new folder (or `run`) and returns it. */
export async function tinyRun(
  data: string,
  recipe: string,
  config: Config,
  options: Partial<TrainOptions> = {},
): Promise<RunFolder> {
  const { cases } = await openDataset(data);
  const split = splitCases(cases, config);
  const run = options.run ?? new RunFolder(join(temporaryFolder(), "run"));
  if (options.resume !== true) await run.create({ recipe, preset: "recommended", data, config }, split);
  await train({ recipe: recipes[recipe], config, cases, split, device, ...options, run });
  return run;
}

/** The same, stopped by its signal after step `stopAt`. */
export function stoppedRun(data: string, recipe: string, config: Config, stopAt: number): Promise<RunFolder> {
  const controller = new AbortController();
  const onStep = ({ step }: { step: number }) => {
    if (step === stopAt) controller.abort();
  };
  return tinyRun(data, recipe, config, { signal: controller.signal, listener: { onStep } });
}
