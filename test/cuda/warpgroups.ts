/** The devices that have products of warpgroups: the emulator, and a GPU of compute capability 9; and operands for their tests. */
import { elements, type Shape } from "../../lib/graph/value.ts";
import { openDevice } from "../../lib/runtime/device.ts";
import { random } from "../ops/harness.ts";
import { testDevices } from "./devices.ts";

export const devices = testDevices
  .map((name) => openDevice(name))
  .filter((device) => device.name === "emulator" || device.describe().includes("compute capability 9."));

/** Numbers that bfloat16 holds. */
export const short = (shape: Shape, seed: number) => {
  const numbers = Float32Array.from(random(elements(shape), seed));
  new Uint32Array(numbers.buffer).forEach((bits, i, all) => {
    all[i] = bits & 0xffff0000;
  });
  return numbers;
};

/** `[rows, taps, columns]` as `[columns, taps, rows]`, which an input gradient reads. */
export function exchanged(w: Float32Array, [rows, ...rest]: Shape): Float32Array {
  const columns = rest[3];
  const taps = elements(rest) / columns;
  return Float32Array.from(w, (_, i) => {
    const [column, tap, row] = [Math.floor(i / rows / taps), Math.floor(i / rows) % taps, i % rows];
    return w[(row * taps + tap) * columns + column];
  });
}
