import { ShapeError } from "../errors.ts";
import type { State, TypedArray } from "../graph/state.ts";
import { byteLength, type DType, formatType } from "../graph/value.ts";
import { type Device, deviceError } from "../runtime/device.ts";
import type { NativeBuffer } from "../runtime/native.ts";

const memories = new WeakMap<Device, WeakMap<State, NativeBuffer>>();

export const arrayOf = {
  f32: Float32Array,
  u8: Uint8Array,
  i32: Int32Array,
  bf16: Uint16Array,
} as const satisfies Record<DType, unknown>;

/** The device memory of a state, filled with its initial contents when it is first asked for. */
export async function stateMemory(device: Device, state: State): Promise<NativeBuffer> {
  let byState = memories.get(device);
  if (byState === undefined) {
    byState = new WeakMap();
    memories.set(device, byState);
  }
  let memory = byState.get(state);
  if (memory === undefined) {
    memory = new device.native.Buffer(byteLength(state));
    byState.set(state, memory);
    const { initial } = state;
    if (initial !== 0)
      await memory.write(
        typeof initial === "number" ? new arrayOf[state.dtype](state.size).fill(initial) : initial(),
      );
  }
  return memory;
}

/** The contents of a state after everything that was started before. */
export async function readState(device: Device, state: State): Promise<TypedArray> {
  const memory = await stateMemory(device, state);
  return new arrayOf[state.dtype](await named(device, memory.read()));
}

/** Replaces the contents of a state, after everything that was started before. */
export async function writeState(device: Device, state: State, data: TypedArray): Promise<void> {
  if (!(data instanceof arrayOf[state.dtype]) || data.length !== state.size)
    throw new ShapeError(
      `write "${state.name}": expected ${formatType(state)}, found ${data.constructor.name} of ${data.length}`,
    );
  const memory = await stateMemory(device, state);
  await named(device, memory.write(data));
}

/** The same Promise, a failure of the device having its name. */
async function named<T>(device: Device, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if ((error as { code?: string }).code !== "ERR_DEVICE") throw error;
    throw deviceError(device, error as Error);
  }
}

/** Gives the device memory of these states back; using them again starts from their initial contents. */
export function disposeStates(device: Device, states: Iterable<State>): void {
  const byState = memories.get(device);
  for (const state of states) {
    byState?.get(state)?.dispose();
    byState?.delete(state);
  }
}
