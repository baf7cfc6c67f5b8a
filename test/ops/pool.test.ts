import { test } from "uvu";
import * as assert from "uvu/assert";
import { gradients } from "../../lib/autograd/gradients.ts";
import { compile } from "../../lib/compile/compile.ts";
import { Graph } from "../../lib/graph/graph.ts";
import { elements } from "../../lib/graph/value.ts";
import { sum } from "../../lib/ops/arithmetic.ts";
import { averagePool3d, globalAveragePool, maxPool3d } from "../../lib/ops/pool.ts";
import { type Array64, checkOp } from "./harness.ts";

interface Window {
  kernel: [number, number, number];
  stride: [number, number, number];
  padding: [number, number, number];
}

/** Folds each window, given as the list of its values within the volume. */
function referencePool(
  { shape, data }: Array64,
  window: Window,
  fold: (values: number[]) => number,
): number[] {
  const [samples, D, H, W, channels] = shape;
  const { kernel, stride, padding } = window;
  const taps = (axis: number, extent: number) => {
    const count = Math.floor((extent + 2 * padding[axis] - kernel[axis]) / stride[axis]) + 1;
    return Array.from({ length: count }, (_, out) =>
      Array.from({ length: kernel[axis] }, (_, k) => out * stride[axis] - padding[axis] + k).filter(
        (i) => i >= 0 && i < extent,
      ),
    );
  };
  const result: number[] = [];
  for (let n = 0; n < samples; n++)
    for (const ds of taps(0, D))
      for (const hs of taps(1, H))
        for (const ws of taps(2, W))
          for (let c = 0; c < channels; c++)
            result.push(
              fold(
                ds.flatMap((d) =>
                  hs.flatMap((h) => ws.map((w) => data[(((n * D + d) * H + h) * W + w) * channels + c])),
                ),
              ),
            );
  return result;
}

const windows: Window[] = [
  { kernel: [2, 2, 2], stride: [2, 2, 2], padding: [0, 0, 0] },
  { kernel: [3, 3, 3], stride: [2, 2, 2], padding: [1, 1, 1] },
  { kernel: [1, 3, 2], stride: [1, 1, 3], padding: [0, 1, 1] },
  { kernel: [3, 2, 1], stride: [4, 5, 2], padding: [1, 0, 0] },
];

/** Values well apart, so that a finite difference never changes which is the largest. */
const shuffled = (count: number) =>
  Float64Array.from({ length: count }, (_, i) => ((i * 7919) % count) / 64 - 1);

test("maxPool3d", async () => {
  for (const window of windows)
    for (const channels of [1, 3, 8, 17, 70]) {
      const shape = channels === 70 ? [1, 3, 4, 3, 70] : [2, 3, 4, 5, channels];
      await checkOp({
        inputs: { x: { shape, data: shuffled(elements(shape)) } },
        build: ({ x }) => maxPool3d(x, window),
        reference: ({ x }) => referencePool(x, window, (values) => Math.max(...values)),
      });
    }
});

test("maxPool3d over more rows than one task has", async () => {
  const shape = [1, 1, 40, 3, 2];
  for (const window of windows.slice(1, 3))
    await checkOp({
      inputs: { x: { shape, data: shuffled(elements(shape)) } },
      build: ({ x }) => maxPool3d(x, window),
      reference: ({ x }) => referencePool(x, window, (values) => Math.max(...values)),
    });
});

test("the first of equal maxima gets the gradient, and NaN wins", async () => {
  const plan = await compile((graph) => {
    const x = graph.input("x", [1, 1, 2, 4, 1]);
    const y = maxPool3d(x, { kernel: [1, 2, 2] });
    return { y, dx: gradients(sum(y), [x])[0] };
  });
  const { y, dx } = await plan.run({ x: Float32Array.of(1, 5, 2, 7, 5, 5, Number.NaN, 9) });
  plan.dispose();
  assert.equal([...(y as Float32Array)], [5, Number.NaN]);
  assert.equal([...(dx as Float32Array)], [0, 1, 0, 0, 0, 0, 1, 0]);
});

test("averagePool3d with and without padding counted", async () => {
  for (const window of windows)
    for (const countIncludePad of [true, false])
      for (const channels of [1, 3, 8, 17])
        await checkOp({
          inputs: { x: { shape: [2, 3, 4, 5, channels] } },
          build: ({ x }) => averagePool3d(x, { ...window, countIncludePad }),
          reference: ({ x }) =>
            referencePool(
              x,
              window,
              (values) =>
                values.reduce((a, b) => a + b, 0) /
                (countIncludePad ? elements(window.kernel) : values.length),
            ),
        });
});

test("globalAveragePool", async () => {
  for (const shape of [
    [2, 3, 4, 5, 1],
    [3, 1, 7, 5, 17],
    [2, 20, 21, 41, 3],
  ])
    await checkOp({
      inputs: { x: { shape } },
      build: ({ x }) => globalAveragePool(x),
      reference: ({ x: { data } }) => {
        const [samples, , , , channels] = shape;
        const result = new Float64Array(samples * channels);
        const voxels = data.length / samples / channels;
        for (const [i, value] of data.entries())
          result[Math.floor(i / voxels / channels) * channels + (i % channels)] += value / voxels;
        return result;
      },
      wrt: elements(shape) < 1000 ? ["x"] : [],
    });
});

test("one number is the same for all axes, and the stride is the kernel by default", () => {
  const x = new Graph().input("x", [1, 8, 9, 11, 2]);
  assert.equal(maxPool3d(x, { kernel: 2 }).shape, [1, 4, 4, 5, 2]);
  assert.equal(averagePool3d(x, { kernel: 3, stride: 2, padding: 1 }).shape, [1, 4, 5, 6, 2]);
});

test("windows that do not fit are named", () => {
  const x = new Graph().input("x", [1, 2, 9, 11, 2]);
  assert.throws(
    () => maxPool3d(x, { kernel: 3 }),
    /maxPool3d: f32\[1,2,9,11,2\] .* smaller than the kernel 3x3x3/,
  );
  assert.throws(
    () => averagePool3d(x, { kernel: 2, padding: 2 }),
    /averagePool3d: .* found kernel 2x2x2, .* padding 2x2x2/,
  );
});

test.run();
