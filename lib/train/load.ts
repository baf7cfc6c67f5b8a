import { disposeStates } from "../compile/states.ts";
import { DataError } from "../errors.ts";
import type { Network } from "../models/index.ts";
import type { Device } from "../runtime/device.ts";
import { readCheckpoint, restore } from "./checkpoint.ts";
import type { RunDescription, RunFolder } from "./run.ts";
import { averagePrefix, makeLearners } from "./step.ts";

export interface LoadedRun extends RunDescription {
  readonly networks: readonly Network[];
  /** Steps that the weights were trained for. */
  readonly step: number;
  /** Gives the weights' device memory back. */
  dispose(): void;
}

export type WeightsChoice = "last" | "best" | "average" | { readonly file: string };

/**
 * The networks of a run with the weights of its last or best checkpoint, or of a file, on the device; `average` takes the
 * running averages of its last checkpoint. Throws `DataError` when there is none or it belongs to other networks.
 */
export async function loadRun(
  run: RunFolder,
  device: Device,
  weights: WeightsChoice = "last",
): Promise<LoadedRun> {
  const description = await run.describe();
  const learners = makeLearners(description.config);
  const averaged = weights === "average";
  const path =
    typeof weights === "object" ? weights.file : run.file(`${averaged ? "last" : weights}.safetensors`);
  if (averaged && learners.averages === undefined)
    throw new DataError(
      path,
      "this run kept no running average of its weights; setting teacherDecay does, such as 0.99",
    );
  const file = await readCheckpoint(path);
  const dispose = () => disposeStates(device, learners.weights.values());
  try {
    const prefix = averaged ? averagePrefix : "";
    const stored = new Map([...learners.weights].map(([name, state]) => [prefix + name, state]));
    await restore(device, stored, file, path);
  } catch (error) {
    dispose();
    throw error;
  }
  return { ...description, networks: learners.networks, step: Number(file.metadata.step ?? 0), dispose };
}
