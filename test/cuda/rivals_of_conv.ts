/** What `bench conv` compares a small convolution with on the emulator, each timed once; for cudnn.test.ts. */
import { passes, prepareConv } from "../../lib/bench/conv.ts";
import { openDevice } from "../../lib/runtime/device.ts";

const cube = (extent: number) => [extent, extent, extent];
const extents = [2, 4, 4, 4, 8];
const shape = {
  name: "tiny",
  input: extents,
  output: extents,
  kernel: cube(3),
  stride: cube(1),
  padding: cube(1),
  dilation: cube(1),
  groups: 1,
  transposed: false,
  count: 1,
};
const target = { device: openDevice("emulator"), precision: "bf16" } as const;
const names = new Set<string>();
for (const pass of passes) {
  using conv = await prepareConv(shape, pass, target, new AbortController().signal);
  for (const rival of conv.others) {
    await rival.time(0.001);
    names.add(rival.name);
  }
}
console.log(JSON.stringify([...names]));
