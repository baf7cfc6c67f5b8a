import { disposeStates } from "../compile/states.ts";
import type { Network } from "../models/index.ts";
import type { Device } from "../runtime/device.ts";
import { readCheckpoint, restore } from "./checkpoint.ts";
import type { RunDescription, RunFolder } from "./run.ts";
import { makeLearners } from "./step.ts";

export interface LoadedRun extends RunDescription {
  readonly networks: readonly Network[];
  /** Steps that the weights were trained for. */
  readonly step: number;
  /** Gives the weights' device memory back. */
  dispose(): void;
}

/**
 * The networks of a run with the weights of its last or best checkpoint, or of a file, on the device. Throws
 * `DataError` when there is none or it belongs to other networks.
 */
export async function loadRun(
  run: RunFolder,
  device: Device,
  weights: "last" | "best" | { readonly file: string } = "last",
): Promise<LoadedRun> {
  const description = await run.describe();
  const learners = makeLearners(description.config);
  const path = typeof weights === "object" ? weights.file : run.file(`${weights}.safetensors`);
  const file = await readCheckpoint(path);
  const dispose = () => disposeStates(device, learners.weights.values());
  try {
    await restore(device, learners.weights, file, path);
  } catch (error) {
    dispose();
    throw error;
  }
  return { ...description, networks: learners.networks, step: Number(file.metadata.step ?? 0), dispose };
}
