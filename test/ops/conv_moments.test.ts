/** Moments that a convolution sums as it stores its result, against float64 sums over that result. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { compile, planOnly } from "../../lib/compile/compile.ts";
import type { Graph } from "../../lib/graph/graph.ts";
import { elements } from "../../lib/graph/value.ts";
import { relu } from "../../lib/ops/activation.ts";
import { conv3d } from "../../lib/ops/conv.ts";
import { batchNorm, moments } from "../../lib/ops/norm.ts";
import { expectClose, random } from "./harness.ts";

// The cases are small: left alone, the device would compute them directly.
process.env.VOXGRAD_CONV = "winograd";

interface Case {
  readonly name: string;
  readonly x: readonly number[];
  readonly w: readonly number[];
  readonly padding: number;
  /** Of the bias, and with it of the result. */
  readonly mean: number;
  readonly normalised?: boolean;
  readonly dilation?: number;
}

const cases: Case[] = [
  { name: "odd extents", x: [2, 5, 9, 11, 20], w: [24, 3, 3, 3, 20], padding: 1, mean: 0 },
  { name: "many tasks", x: [2, 18, 34, 30, 16], w: [5, 3, 3, 3, 16], padding: 1, mean: 0 },
  { name: "a mean far from zero", x: [1, 20, 25, 30, 3], w: [17, 3, 3, 3, 3], padding: 0, mean: 1000 },
  { name: "rows of a stem", x: [2, 7, 21, 70, 1], w: [20, 3, 3, 3, 1], padding: 1, mean: 3 },
  { name: "rows that are cut in two", x: [1, 9, 13, 150, 1], w: [33, 7, 7, 7, 1], padding: 2, mean: 0 },
  {
    name: "a normalised source",
    x: [2, 7, 13, 12, 34],
    w: [70, 3, 3, 3, 34],
    padding: 1,
    mean: 3,
    normalised: true,
  },
  // The second of the interleaved maps has a slice less, and so a task without any.
  { name: "filters that tasks transform", x: [2, 6, 7, 5, 100], w: [104, 3, 3, 3, 100], padding: 1, mean: 2 },
  {
    name: "dilated, in tasks of which some have no slices",
    x: [1, 13, 32, 32, 192],
    w: [16, 3, 3, 3, 192],
    padding: 2,
    dilation: 2,
    mean: 1,
  },
];

const trace =
  ({ x: extents, w: weights, padding, dilation = 1, normalised = false }: Case) =>
  (g: Graph) => {
    const x = g.input("x", extents);
    const [gamma, beta] = [g.input("gamma", [extents[4]]), g.input("beta", [extents[4]])];
    const source = normalised ? relu(batchNorm(x, gamma, beta).y) : x;
    const y = conv3d(source, g.input("w", weights), {
      padding,
      dilation,
      bias: g.input("bias", [weights[0]]),
    });
    return { y, own: moments(y, { perSample: false, groups: weights[0] }) };
  };

const feedOf = (inputs: Graph["inputs"], mean: number) =>
  Object.fromEntries(
    [...inputs].map(([name, { shape }], index) => {
      const values = Float32Array.from(random(elements(shape), index + 1));
      return [name, name === "bias" ? values.map((value) => value + mean) : values];
    }),
  );

for (const each of cases)
  test(each.name, async () => {
    const plan = await compile(trace(each), { paranoid: true });
    const kernels = plan.layout.steps.map(({ spec }) => spec.kernel);
    const expected = each.normalised === true ? "normalizeReluConv3dPackedMoments" : "conv3dPackedMoments";
    assert.ok(kernels.includes(expected), kernels.join(" "));
    const { y, own } = await plan.run(feedOf(plan.graph.inputs, each.mean));
    assert.is(plan.flops, planOnly(trace(each), { fuse: false }).flops);
    plan.dispose();
    const [channels] = each.w;
    const means = new Float64Array(channels);
    const variances = new Float64Array(channels);
    const count = y.length / channels;
    for (const [i, value] of y.entries()) means[i % channels] += value / count;
    for (const [i, value] of y.entries())
      variances[i % channels] += (value - means[i % channels]) ** 2 / count;
    expectClose(
      own.filter((_, i) => i % 2 === 0),
      means,
      4e-7,
      "mean",
    );
    for (const [channel, variance] of variances.entries())
      expectClose([own[2 * channel + 1]], [variance], 1e-6, `variance of channel ${channel}`);
  });

test("what is not a number shows", async () => {
  const [each] = cases;
  const plan = await compile(trace(each));
  const feed = feedOf(plan.graph.inputs, 0);
  feed.x[feed.x.length - 1] = Number.NaN;
  const { own } = await plan.run(feed);
  plan.dispose();
  assert.ok(own.every(Number.isNaN));
});

test("moments of samples, of groups, and of what a convolution computes directly are sums of their own", () => {
  const kernels = (kernel: number, options: { perSample: boolean; groups: number }) =>
    planOnly((g) => {
      const w = g.input("w", [24, kernel, kernel, kernel, 20]);
      const y = conv3d(g.input("x", [2, 8, 9, 11, 20]), w);
      return { y, own: moments(y, options) };
    }).layout.steps.map(({ spec }) => spec.kernel);
  for (const found of [
    kernels(3, { perSample: true, groups: 24 }),
    kernels(3, { perSample: false, groups: 6 }),
    kernels(5, { perSample: false, groups: 24 }),
  ])
    assert.equal(found, ["conv3dPackWeights", "conv3dPacked", "moments"]);
  assert.ok(kernels(3, { perSample: false, groups: 24 }).includes("conv3dPackedMoments"));
});

test.run();
