/** Convolutions that normalise what they read, against a pass of its own before them. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { gradients } from "../../lib/autograd/gradients.ts";
import { compile, type CompileOptions, planOnly } from "../../lib/compile/compile.ts";
import type { Graph } from "../../lib/graph/graph.ts";
import { elements, type Value } from "../../lib/graph/value.ts";
import { relu } from "../../lib/ops/activation.ts";
import { mul, sum } from "../../lib/ops/arithmetic.ts";
import { conv3d, type ConvOptions, convTranspose3d } from "../../lib/ops/conv.ts";
import { opOf } from "../../lib/ops/define.ts";
import { batchNorm, batchNormEval, groupNorm } from "../../lib/ops/norm.ts";
import { openDevice } from "../../lib/runtime/device.ts";
import { native } from "../../lib/runtime/native.ts";
import { expectClose, random } from "./harness.ts";

// The cases are small: left alone, the CPU would compute them directly.
process.env.VOXGRAD_CONV = "winograd";
const cpu = openDevice("cpu");

const forward = "normalizeReluConv3dPacked";
const backward = "normalizeReluConv3dWeightGradient";

type Normalise = (x: Value, gamma: Value, beta: Value) => Value;
const byBatch: Normalise = (x, gamma, beta) => batchNorm(x, gamma, beta).y;
const byGroups: Normalise = (x, gamma, beta) => groupNorm(x, gamma, beta, { groups: 2 });
const byRunning: Normalise = (x, gamma, beta) =>
  batchNormEval(x, x.graph.input("running", [1, x.shape[4], 2]), gamma, beta);

interface Case {
  readonly name: string;
  readonly x: readonly number[];
  readonly w: readonly number[];
  readonly options?: ConvOptions;
  readonly normalise?: Normalise;
  readonly transposed?: boolean;
  /** The fused ops that are expected of the CPU. */
  readonly fused: readonly string[];
  /** The same of the CUDA backend, which chooses by other sizes; undefined where either choice will do. */
  readonly onCuda?: readonly string[];
}

const cases: Case[] = [
  ...[1, 2, 3, 4].flatMap((channels) =>
    [16, 19].map((sources) => ({
      name: `a head of ${channels}, reading ${sources}`,
      x: [2, 3, 5, 7, sources],
      w: [channels, 1, 1, 1, sources],
      fused: [forward, backward],
    })),
  ),
  {
    name: "2x2x2 of stride 2, odd extents",
    x: [2, 5, 6, 11, 21],
    w: [7, 2, 2, 2, 21],
    options: { stride: 2 },
    fused: [forward, backward],
  },
  {
    name: "pointwise, whose forward pass is shared out by channels and normalises on the matrix unit alone",
    x: [1, 3, 3, 4, 140],
    w: [640, 1, 1, 1, 140],
    fused: native().isa() === "amx" ? [forward, backward] : [backward],
  },
  {
    name: "pointwise, in blocks of voxels",
    x: [2, 7, 9, 11, 21],
    w: [14, 1, 1, 1, 21],
    fused: [forward, backward],
  },
  {
    name: "2x2x2 transposed, of many voxels, whose weight gradient does not normalise",
    x: [2, 6, 16, 20, 21],
    w: [21, 2, 2, 2, 3],
    options: { stride: 2 },
    transposed: true,
    fused: [forward],
  },
  {
    name: "transposed, with gaps",
    x: [1, 3, 4, 5, 9],
    w: [9, 1, 2, 2, 4],
    options: { stride: [1, 3, 2] },
    transposed: true,
    normalise: byRunning,
    fused: [forward],
  },
  {
    name: "3x3x3, odd extents",
    x: [2, 5, 9, 11, 20],
    w: [24, 3, 3, 3, 20],
    options: { padding: 1 },
    fused: [forward, backward],
  },
  {
    name: "3x3x3, multiples of 8 channels",
    x: [2, 3, 7, 15, 8],
    w: [16, 3, 3, 3, 8],
    options: { padding: 1 },
    fused: [forward, backward],
    onCuda: [forward, backward],
  },
  {
    name: "3x3x3 without padding, running moments",
    x: [1, 6, 14, 13, 3],
    w: [5, 3, 3, 3, 3],
    normalise: byRunning,
    fused: [forward, backward],
  },
  {
    name: "3x3x3 of few tiles, whose forward pass does not normalise, moments of groups",
    x: [1, 3, 2, 4, 34],
    w: [16, 3, 3, 3, 34],
    options: { padding: 1 },
    normalise: byGroups,
    // Tiles of volumes read no norm. Shorter vectors take them for the weight gradient too.
    fused: ["amx", "avx512"].includes(native().isa()) ? [backward] : [],
  },
  {
    name: "3x3x3, moments of groups",
    x: [1, 7, 13, 10, 34],
    w: [8, 3, 3, 3, 34],
    options: { padding: [0, 2, 1] },
    normalise: byGroups,
    fused: [forward, backward],
  },
  {
    name: "3x3x3, dilated",
    x: [1, 7, 15, 18, 20],
    w: [9, 3, 3, 3, 20],
    options: { padding: [3, 2, 2], dilation: [3, 2, 2] },
    fused: [forward, backward],
  },
  {
    name: "3x3x3 of many channels and few tiles, filters that tasks transform",
    x: [2, 5, 7, 6, 98],
    w: [106, 3, 3, 3, 98],
    options: { padding: 1 },
    fused: [forward, backward],
  },
  {
    name: "1x3x3 of maps of two voxels and of three",
    x: [2, 3, 14, 13, 34],
    w: [40, 1, 3, 3, 34],
    options: { padding: [0, 5, 6], dilation: [1, 5, 6] },
    fused: [forward, backward],
  },
  {
    name: "1x3x3, dilated",
    x: [2, 3, 17, 15, 18],
    w: [7, 1, 3, 3, 18],
    options: { padding: [0, 2, 2], dilation: [1, 2, 2] },
    fused: [forward, backward],
  },
];

const padded = cases.find(({ name }) => name === "3x3x3, odd extents") as Case;

const trace =
  ({ x: extents, w: weights, options, normalise = byBatch, transposed = false }: Case) =>
  (g: Graph) => {
    const channels = [extents[4]];
    const [x, w] = [g.input("x", extents), g.input("w", weights)];
    const [gamma, beta, bias] = [
      g.input("gamma", channels),
      g.input("beta", channels),
      g.input("bias", [weights[transposed ? 4 : 0]]),
    ];
    const convolve = transposed ? convTranspose3d : conv3d;
    const y = convolve(relu(normalise(x, gamma, beta)), w, { ...options, bias });
    const [dx, dw, dgamma, dbeta] = gradients(sum(mul(y, g.input("slopes", y.shape))), [x, w, gamma, beta]);
    return { y, dx, dw, dgamma, dbeta };
  };

async function run(each: Case, options: CompileOptions): Promise<Record<string, Float32Array>> {
  const plan = await compile(trace(each), { paranoid: true, ...options });
  const feed = Object.fromEntries(
    [...plan.graph.inputs].map(([name, { shape }], index) => {
      const values = Float32Array.from(random(elements(shape), index + 1));
      // Variances are positive; a gamma of 0 leaves beta alone, which the padding must not show.
      if (name === "running") for (let i = 1; i < values.length; i += 2) values[i] += 1.5;
      if (name === "gamma") values[1] = 0;
      if (name === "beta") values[1] = 0.75;
      return [name, values];
    }),
  );
  const results = await plan.run(feed);
  plan.dispose();
  return results as Record<string, Float32Array>;
}

for (const each of cases)
  test(`${each.name}: normalised on load, the same`, async () => {
    const kernels = planOnly(trace(each)).layout.steps.map(({ spec }) => spec.kernel);
    const wanted = openDevice() === cpu ? each.fused : each.onCuda;
    if (wanted !== undefined) {
      for (const op of [forward, backward])
        assert.is(kernels.includes(op), wanted.includes(op), `${op} in ${kernels.join(" ")}`);
      assert.is(kernels.includes("normalizeRelu"), wanted.length < 2);
    }
    const [fused, base] = [await run(each, {}), await run(each, { fuse: false })];
    for (const [key, expected] of Object.entries(base)) expectClose(fused[key], expected, 4e-6, key);
  });

test("what is not a number shows", async () => {
  const plan = await compile((g) => ({ y: trace(padded)(g).y }));
  const feed = Object.fromEntries(
    [...plan.graph.inputs].map(([name, { shape }]) => [name, new Float32Array(elements(shape)).fill(1)]),
  );
  const x = feed.x as Float32Array;
  x[x.length - 1] = Number.NaN;
  const { y } = await plan.run(feed);
  plan.dispose();
  assert.ok(Number.isNaN(y.at(-1)));
});

test("their fallbacks are a pass of its own and the convolution", () => {
  const { graph } = planOnly(trace(padded), { device: cpu });
  for (const name of [forward, backward]) {
    const fused = graph.nodes.find(({ op }) => op === name) as Value;
    const fallback = opOf(fused)?.fallback?.(fused.inputs, fused.attributes) as Value;
    assert.equal(
      [fallback.op, fallback.inputs[0].op],
      [fused.op.replace(/^normalizeReluC/, "c"), "normalizeRelu"],
    );
    assert.equal(fallback.shape, fused.shape);
    assert.equal(opOf(fused)?.infer(fused.inputs, fused.attributes).shape, fused.shape);
  }
});

test("samples with moments of their own are refused by name", () => {
  const { graph } = planOnly(trace(padded), { device: cpu });
  const fused = graph.nodes.find(({ op }) => op === forward) as Value;
  const own = graph.input("own", [2, 20, 2]);
  const inputs = fused.inputs.map((input, index) => (index === 1 ? own : input));
  assert.throws(
    () => opOf(fused)?.infer(inputs, fused.attributes),
    /normalizeReluConv3dPacked: .*\[2,20,2\]/,
  );
});

test.run();
