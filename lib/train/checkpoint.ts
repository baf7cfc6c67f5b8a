import { readFile } from "node:fs/promises";
import { readState, writeState } from "../compile/states.ts";
import { DataError, NotFiniteError } from "../errors.ts";
import type { State } from "../graph/state.ts";
import { sameShape } from "../graph/value.ts";
import { writeAtomically } from "../data/atomic.ts";
import { decodeSafetensors, encodeSafetensors, type TensorFile } from "../interchange/safetensors.ts";
import type { Device } from "../runtime/device.ts";

/** The states of a run by their path in the checkpoint, such as `vnet.blocks.0.layers.0.conv.weight`. */
export type StatePaths = ReadonlyMap<string, State>;

/** Reads states off the device; throws `NotFiniteError` rather than let a bad number become a checkpoint. */
export async function snapshot(
  device: Device,
  states: StatePaths,
  metadata: Record<string, string>,
): Promise<TensorFile> {
  const tensors = new Map<
    string,
    { shape: readonly number[]; data: Awaited<ReturnType<typeof readState>> }
  >();
  for (const [path, state] of states) {
    const data = await readState(device, state);
    if (data instanceof Float32Array && !data.every(Number.isFinite))
      throw new NotFiniteError(
        path,
        `${path} holds a number that is not finite; the checkpoint before is kept`,
      );
    tensors.set(path, { shape: state.shape, data });
  }
  return { tensors, metadata };
}

/** Writes a checkpoint whole or not at all: the file of that name stays as it was when anything fails. */
export async function saveCheckpoint(path: string, contents: TensorFile): Promise<void> {
  await writeAtomically(path, encodeSafetensors(contents));
}

export async function readCheckpoint(path: string): Promise<TensorFile> {
  let bytes: Buffer;
  try {
    bytes = await readFile(path);
  } catch (error) {
    throw new DataError(path, `the checkpoint cannot be read: ${(error as Error).message}`, { cause: error });
  }
  return decodeSafetensors(bytes, path);
}

/** Puts a checkpoint's tensors into states. Throws `DataError` when one is missing or has another shape. */
export async function restore(
  device: Device,
  states: StatePaths,
  file: TensorFile,
  path: string,
): Promise<void> {
  for (const [name, state] of states) {
    const tensor = file.tensors.get(name);
    if (tensor === undefined) throw new DataError(path, `the checkpoint has no tensor "${name}"`);
    if (!sameShape(tensor.shape, state.shape))
      throw new DataError(
        path,
        `tensor "${name}": expected [${state.shape.join(",")}], found [${tensor.shape.join(",")}]`,
      );
    await writeState(device, state, tensor.data);
  }
}
