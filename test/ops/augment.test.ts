import { test } from "uvu";
import * as assert from "uvu/assert";
import { compile } from "../../lib/compile/compile.ts";
import { philox4x32 } from "../../lib/random.ts";
import { Graph } from "../../lib/graph/graph.ts";
import type { Shape } from "../../lib/graph/value.ts";
import { randomFlip, randomIntensity, randomRotate } from "../../lib/ops/augment.ts";
import { type Array64, checkOp } from "./harness.ts";

const key = { shape: [2], dtype: "i32" as const, data: Int32Array.of(77, -3) };
const stream = 11;

function words(sample: number): Uint32Array {
  return philox4x32([sample, 0, stream, 0], Uint32Array.from(key.data));
}

function labelsOf(shape: Shape) {
  const data = Uint8Array.from({ length: shape.reduce((a, b) => a * b) }, (_, i) => (i * 31 + (i >> 4)) % 9);
  return { shape, dtype: "u8" as const, data };
}

/** Builds an output whose voxel at (n, d, h, w), channel c, is `f([n, d, h, w], c)`. */
function volume(shape: Shape, channels: number, f: (at: number[], c: number) => number): Float64Array {
  const [, D, H, W] = shape;
  return Float64Array.from({ length: shape.slice(0, 4).reduce((a, b) => a * b) * channels }, (_, i) => {
    const v = Math.floor(i / channels);
    return f(
      [Math.floor(v / (D * H * W)), Math.floor(v / (H * W)) % D, Math.floor(v / W) % H, v % W],
      i % channels,
    );
  });
}

/** The element of `x` at (n, d, h, w), channel c; `outside` where there is none. */
function element(x: Array64, channels: number, [n, d, h, w]: number[], c: number, outside: number): number {
  const [, D, H, W] = x.shape;
  const inside = d >= 0 && d < D && h >= 0 && h < H && w >= 0 && w < W;
  return inside ? x.data[(((n * D + d) * H + h) * W + w) * channels + c] : outside;
}

for (const axes of [[1, 2, 3], [2], [3, 1], []])
  test(`randomFlip along [${axes.join(", ")}] of images and labels`, async () => {
    const flipped = (x: Array64, channels: number) =>
      volume(x.shape, channels, (at, c) => {
        const source = at.map((index, axis) =>
          axes.includes(axis) && words(at[0])[axis - 1] >= 2 ** 31 ? x.shape[axis] - 1 - index : index,
        );
        return element(x, channels, source, c, Number.NaN);
      });
    for (const channels of [1, 3, 8])
      await checkOp({
        inputs: { x: { shape: [6, 3, 4, 5, channels] }, key },
        build: ({ x, key }) => randomFlip(x, key, { axes, stream }),
        reference: ({ x }) => flipped(x, channels),
        wrt: [],
      });
    await checkOp({
      inputs: { x: labelsOf([6, 3, 4, 5]), key },
      build: ({ x, key }) => randomFlip(x, key, { axes, stream }),
      reference: ({ x }) => flipped(x, 1),
    });
  });

test("randomFlip makes all eight decisions", () => {
  const seen = new Set(
    Array.from({ length: 200 }, (_, n) => [...words(n).slice(0, 3)].map((w) => w >>> 31).join("")),
  );
  assert.is(seen.size, 8);
});

for (const plane of [1, 2, 3])
  test(`randomRotate about axis ${plane} of images and labels`, async () => {
    const degrees = 40;
    const [a, b] = [1, 2, 3].filter((axis) => axis !== plane);
    const source = (shape: Shape, at: number[]): [number, number] => {
      const angle = ((2 * words(at[0])[3]) / 2 ** 32 - 1) * degrees * (Math.PI / 180);
      const middle = [(shape[a] - 1) / 2, (shape[b] - 1) / 2];
      const [da, db] = [at[a] - middle[0], at[b] - middle[1]];
      return [
        middle[0] + Math.cos(angle) * da + Math.sin(angle) * db,
        middle[1] - Math.sin(angle) * da + Math.cos(angle) * db,
      ];
    };
    const moved = (at: number[], i: number, j: number) =>
      at.map((index, axis) => (axis === a ? i : axis === b ? j : index));
    for (const channels of [1, 3]) {
      await checkOp({
        inputs: { x: { shape: [4, 5, 6, 7, channels] }, key },
        build: ({ x, key }) => randomRotate(x, key, { degrees, plane, stream, fill: -2 }),
        reference: (inputs) =>
          volume(inputs.x.shape, channels, (at, c) => {
            const [i, j] = source(inputs.x.shape, at);
            let sum = 0;
            for (const [k, wi] of [
              [Math.floor(i), 1 - (i - Math.floor(i))],
              [Math.floor(i) + 1, i - Math.floor(i)],
            ])
              for (const [l, wj] of [
                [Math.floor(j), 1 - (j - Math.floor(j))],
                [Math.floor(j) + 1, j - Math.floor(j)],
              ])
                sum += wi * wj * element(inputs.x, channels, moved(at, k, l), c, -2);
            return sum;
          }),
        wrt: [],
      });
    }
    await checkOp({
      inputs: { x: labelsOf([4, 5, 6, 7]), key },
      build: ({ x, key }) => randomRotate(x, key, { degrees, plane, stream, fill: 255 }),
      reference: ({ x }) =>
        volume(x.shape, 1, (at, c) => {
          const [i, j] = source(x.shape, at);
          return element(x, 1, moved(at, Math.floor(i + 0.5), Math.floor(j + 0.5)), c, 255);
        }),
    });
  });

test("randomIntensity scales and shifts each sample by its own draw", async () => {
  for (const shape of [
    [5, 2, 3, 4, 1],
    [3, 3, 5, 7, 3],
  ])
    await checkOp({
      inputs: { x: { shape }, key },
      build: ({ x, key }) => randomIntensity(x, key, { contrast: 0.4, brightness: 0.7, stream }),
      reference: ({ x }) =>
        x.data.map((value, i) => {
          const [w0, w1] = words(Math.floor(i / (x.data.length / shape[0])));
          return value * (1 + 0.4 * ((2 * w0) / 2 ** 32 - 1)) + 0.7 * ((2 * w1) / 2 ** 32 - 1);
        }),
      wrt: [],
    });
});

test("turning by nothing changes nothing", async () => {
  const plan = await compile((graph) => ({
    y: randomRotate(graph.input("x", [2, 2, 3, 5, 1]), graph.input("key", [2], "i32"), {
      degrees: 0,
      stream: 0,
    }),
  }));
  const x = Float32Array.from({ length: 60 }, (_, i) => i);
  assert.equal((await plan.run({ x, key: Int32Array.of(1, 2) })).y, x);
  plan.dispose();
});

test("what does not fit is named", () => {
  const graph = new Graph();
  const [x, key, flat] = [
    graph.input("x", [1, 2, 3, 4, 1]),
    graph.input("key", [2], "i32"),
    graph.input("flat", [4]),
  ];
  const labels = graph.input("labels", [1, 2, 3, 4], "u8");
  assert.throws(() => randomFlip(flat, key, { axes: [1], stream }), /randomFlip: expected .* found f32\[4\]/);
  assert.throws(() => randomFlip(x, key, { axes: [0], stream }), /randomFlip: axes .* found \[0\]/);
  assert.throws(
    () => randomRotate(x, key, { degrees: 10, plane: 4, stream }),
    /randomRotate: the axis .* found 4/,
  );
  assert.throws(() => randomRotate(x, key, { degrees: 200, stream }), /randomRotate: degrees .* found 200/);
  assert.throws(
    () => randomRotate(labels, key, { degrees: 1, stream, fill: -1 }),
    /cannot be filled with -1/,
  );
  const intensity = { contrast: 0.1, brightness: 0.1, stream };
  assert.throws(() => randomIntensity(labels, key, intensity), /randomIntensity: .* f32/);
  assert.throws(() => randomIntensity(x, key, { ...intensity, contrast: 2 }), /contrast .* found 2/);
  assert.throws(() => randomIntensity(x, key, { ...intensity, brightness: -1 }), /brightness .* found -1/);
});

test.run();
