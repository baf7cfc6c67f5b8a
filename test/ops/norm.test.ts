import { test } from "uvu";
import * as assert from "uvu/assert";
import { compile } from "../../lib/compile/compile.ts";
import { Graph } from "../../lib/graph/graph.ts";
import {
  batchNorm,
  batchNormEval,
  groupNorm,
  instanceNorm,
  moments,
  normalize,
  unbiasedMoments,
} from "../../lib/ops/norm.ts";
import { type Array64, checkOp, expectClose, random } from "./harness.ts";

/** Mean and biased variance of each set and group, in two passes. */
function referenceMoments(x: Array64, perSample: boolean, groups: number): Float64Array {
  const channels = x.shape[4];
  const sets = perSample ? x.shape[0] : 1;
  const members = Array.from({ length: sets * groups }, (): number[] => []);
  for (const [index, value] of x.data.entries()) {
    const set = Math.floor((index * sets) / x.data.length);
    members[set * groups + Math.floor(((index % channels) * groups) / channels)].push(value);
  }
  return Float64Array.from(
    members.flatMap((values) => {
      const mean = values.reduce((a, b) => a + b, 0) / values.length;
      return [mean, values.reduce((total, value) => total + (value - mean) ** 2, 0) / values.length];
    }),
  );
}

function referenceNormalize(
  x: Array64,
  own: ArrayLike<number>,
  gamma: Array64,
  beta: Array64,
  sets: number,
  groups: number,
  epsilon = 1e-5,
): Float64Array {
  const channels = x.shape[4];
  return x.data.map((value, index) => {
    const c = index % channels;
    const pair =
      2 * (Math.floor((index * sets) / x.data.length) * groups + Math.floor((c * groups) / channels));
    return ((value - own[pair]) / Math.sqrt(own[pair + 1] + epsilon)) * gamma.data[c] + beta.data[c];
  });
}

const shapeOf = (channels: number) => [2, 3, 2, 5, channels];
const channelCounts = [1, 3, 5, 8, 17];

test("moments of every grouping", async () => {
  for (const perSample of [false, true])
    for (const [channels, groups] of [
      [1, 1],
      [3, 3],
      [5, 1],
      [8, 2],
      [17, 17],
      [100, 4],
    ])
      await checkOp({
        inputs: { x: { shape: shapeOf(channels) } },
        build: ({ x }) => moments(x, { perSample, groups }),
        reference: ({ x }) => referenceMoments(x, perSample, groups),
        wrt: [],
      });
});

test("moments of many chunks, and of a mean far from zero", async () => {
  const shape = [2, 20, 23, 31, 3];
  const data = random(2 * 20 * 23 * 31 * 3, 5).map((value) => Math.fround(1000 + value));
  for (const perSample of [false, true])
    await checkOp({
      inputs: { x: { shape, data } },
      build: ({ x }) => moments(x, { perSample, groups: 3 }),
      reference: ({ x }) => referenceMoments(x, perSample, 3),
      wrt: [],
      tolerance: 1e-7,
    });
  const plan = await compile((graph) => ({
    y: moments(graph.input("x", shape), { perSample: false, groups: 3 }),
  }));
  const { y } = await plan.run({ x: Float32Array.from(data) });
  plan.dispose();
  const variances = [1, 3, 5].map((i) => (y as Float32Array)[i]);
  const expected = referenceMoments({ shape, data }, false, 3);
  expectClose(variances, [expected[1], expected[3], expected[5]], 1e-6, "variance");
});

test("unbiasedMoments scales the variance alone", async () => {
  await checkOp({
    inputs: { x: { shape: [2, 3, 2] } },
    build: ({ x }) => unbiasedMoments(x, { count: 5 }),
    reference: ({ x }) => x.data.map((value, index) => (index % 2 === 0 ? value : (value * 5) / 4)),
    wrt: [],
  });
});

test("batchNorm, its gradient flowing through the moments", async () => {
  for (const channels of channelCounts)
    await checkOp({
      inputs: { x: { shape: shapeOf(channels) }, gamma: { shape: [channels] }, beta: { shape: [channels] } },
      build: ({ x, gamma, beta }) => batchNorm(x, gamma, beta).y,
      reference: ({ x, gamma, beta }) =>
        referenceNormalize(x, referenceMoments(x, false, channels), gamma, beta, 1, channels),
    });
});

test("batchNorm over many chunks", async () => {
  const shape = [2, 16, 17, 19, 8];
  await checkOp({
    inputs: { x: { shape }, gamma: { shape: [8] }, beta: { shape: [8] } },
    build: ({ x, gamma, beta }) => batchNorm(x, gamma, beta, { epsilon: 1e-3 }).y,
    reference: ({ x, gamma, beta }) =>
      referenceNormalize(x, referenceMoments(x, false, 8), gamma, beta, 1, 8, 1e-3),
    wrt: ["gamma", "beta"],
  });
});

test("instanceNorm and groupNorm", async () => {
  for (const channels of channelCounts)
    await checkOp({
      inputs: { x: { shape: shapeOf(channels) }, gamma: { shape: [channels] }, beta: { shape: [channels] } },
      build: ({ x, gamma, beta }) => instanceNorm(x, gamma, beta),
      reference: ({ x, gamma, beta }) =>
        referenceNormalize(x, referenceMoments(x, true, channels), gamma, beta, 2, channels),
    });
  for (const [channels, groups] of [
    [8, 2],
    [6, 3],
    [5, 1],
  ])
    await checkOp({
      inputs: { x: { shape: shapeOf(channels) }, gamma: { shape: [channels] }, beta: { shape: [channels] } },
      build: ({ x, gamma, beta }) => groupNorm(x, gamma, beta, { groups, epsilon: 0.1 }),
      reference: ({ x, gamma, beta }) =>
        referenceNormalize(x, referenceMoments(x, true, groups), gamma, beta, 2, groups, 0.1),
    });
});

test("running moments are constants", async () => {
  for (const sets of [1, 2]) {
    const running = random(sets * 6, 3).map((value, index) =>
      index % 2 === 0 ? value : Math.abs(value) + 0.1,
    );
    await checkOp({
      inputs: {
        x: { shape: shapeOf(3) },
        running: { shape: [sets, 3, 2], data: running },
        gamma: { shape: [3] },
        beta: { shape: [3] },
      },
      build: ({ x, running, gamma, beta }) => batchNormEval(x, running, gamma, beta),
      reference: ({ x, running, gamma, beta }) => referenceNormalize(x, running.data, gamma, beta, sets, 3),
      wrt: ["x", "gamma", "beta"],
    });
  }
});

test("what does not fit is named", () => {
  const graph = new Graph();
  const x = graph.input("x", [2, 3, 4, 5, 6]);
  const own = graph.input("own", [2, 4, 2]);
  const gamma = graph.input("gamma", [6]);
  assert.throws(
    () => moments(x, { perSample: true, groups: 4 }),
    /moments: groups .*f32\[2,3,4,5,6\], found 4/,
  );
  assert.throws(
    () => normalize(x, own, gamma, gamma, { batch: true }),
    /normalize: .*f32\[2,4,2\] .*f32\[2,3,4,5,6\]/,
  );
  const fits = graph.input("fits", [1, 6, 2]);
  const short = graph.input("short", [5]);
  assert.throws(
    () => batchNormEval(x, fits, gamma, short),
    /normalize: beta must have shape \[6\], found f32\[5\]/,
  );
  assert.throws(
    () => batchNorm(x, gamma, gamma, { epsilon: -1 }),
    /epsilon must be a number from 0, found -1/,
  );
  assert.throws(() => batchNorm(gamma, gamma, gamma), /batchNorm: the input .* 5 axes, found f32\[6\]/);
  assert.throws(() => unbiasedMoments(fits, { count: 1 }), /unbiasedMoments: .*1 value /);
});

test.run();
