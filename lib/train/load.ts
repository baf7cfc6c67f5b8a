import type { Network } from "../models/index.ts";
import type { Device } from "../runtime/device.ts";
import { readCheckpoint, restore } from "./checkpoint.ts";
import type { RunDescription, RunFolder } from "./run.ts";
import { makeLearners } from "./step.ts";

export interface LoadedRun extends RunDescription {
  readonly networks: readonly Network[];
}

/** The networks of a run with the weights of its last or best checkpoint, on the device. */
export async function loadRun(
  run: RunFolder,
  device: Device,
  weights: "last" | "best" = "last",
): Promise<LoadedRun> {
  const description = await run.describe();
  const learners = makeLearners(description.config);
  const path = run.file(`${weights}.safetensors`);
  await restore(device, learners.weights, await readCheckpoint(path), path);
  return { ...description, networks: learners.networks };
}
