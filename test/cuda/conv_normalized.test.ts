/** Convolutions of the CUDA backend that normalise what they load, against float64 and against a pass of its own before them. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { gradients } from "../../lib/autograd/gradients.ts";
import { compile, type CompileOptions, planOnly } from "../../lib/compile/compile.ts";
import type { Graph } from "../../lib/graph/graph.ts";
import { elements, type Shape } from "../../lib/graph/value.ts";
import { relu } from "../../lib/ops/activation.ts";
import { mul, sum } from "../../lib/ops/arithmetic.ts";
import { conv3d, type ConvOptions, convTranspose3d } from "../../lib/ops/conv.ts";
import { batchNormEval, groupNorm, moments } from "../../lib/ops/norm.ts";
import { openDevice, type Precision, precisions, whyNot } from "../../lib/runtime/device.ts";
import { expectClose, random } from "../ops/harness.ts";
import { type ConvGeometry, conv, convInputGradient, convWeightGradient } from "../oracle/conv.ts";
import { runStep } from "./run_step.ts";

const device = openDevice(whyNot("cuda") === undefined ? "cuda" : "emulator");
const forward = /^normalizeReluConv3dPacked/;
const backward = "normalizeReluConv3dWeightGradient";

interface Case {
  readonly name: string;
  readonly x: Shape;
  readonly w: Shape;
  readonly options: ConvOptions;
  readonly transposed?: boolean;
  /** Of the moments; by the samples of a batch of one instead of running ones. */
  readonly groups?: number;
}

const cases: readonly Case[] = [
  { name: "3x3x3, 8 to 16", x: [2, 3, 7, 15, 8], w: [16, 3, 3, 3, 8], options: { padding: 1 } },
  { name: "3x3x3, 16 to 16", x: [2, 4, 7, 13, 16], w: [16, 3, 3, 3, 16], options: { padding: 1 } },
  {
    name: "transposed, in groups, 32 to 24, taps along the width as columns",
    x: [1, 8, 4, 14, 32],
    w: [32, 3, 2, 3, 12],
    options: { padding: [1, 0, 1], groups: 2 },
    transposed: true,
  },
  {
    name: "dilated, without padding, moments of groups, 16 to 24",
    x: [1, 5, 12, 16, 16],
    w: [24, 2, 3, 2, 16],
    options: { dilation: [1, 2, 3] },
    groups: 4,
  },
  {
    name: "of slices, 24 to 40",
    x: [3, 1, 15, 14, 24],
    w: [40, 1, 3, 3, 24],
    options: { padding: [0, 1, 1] },
  },
  {
    name: "transposed, in groups, 32 to 16",
    x: [1, 4, 7, 13, 32],
    w: [32, 3, 3, 3, 8],
    options: { padding: 1, groups: 2 },
    transposed: true,
  },
];

const trace =
  ({ x: extents, w: weights, options, transposed, groups }: Case, precision: Precision = "f32") =>
  (g: Graph) => {
    const channels = [extents[4]];
    const [source, w] = [g.input("x", extents), g.input("w", weights)];
    // What a convolution stores is bf16, and this one leaves it as it is.
    const same = () => g.input("same", [extents[4], 1, 1, 1, extents[4]]);
    const x = precision === "bf16" ? conv3d(source, same()) : source;
    const [gamma, beta] = [g.input("gamma", channels), g.input("beta", channels)];
    const normal =
      groups === undefined
        ? batchNormEval(x, g.input("running", [1, extents[4], 2]), gamma, beta)
        : groupNorm(x, gamma, beta, { groups });
    const y = (transposed ? convTranspose3d : conv3d)(relu(normal), w, options);
    const [dw] = gradients(sum(mul(y, g.input("slopes", y.shape))), [w]);
    return { y, dw, own: moments(y, { perSample: false, groups: y.shape[4] }) };
  };

function feedOf(inputs: Graph["inputs"]): Record<string, Float32Array> {
  return Object.fromEntries(
    [...inputs].map(([name, { shape }], index) => {
      const values = Float32Array.from(random(elements(shape), index + 1));
      // Variances are positive; a gamma of 0 leaves beta alone, which the padding must not show.
      if (name === "running") for (let i = 1; i < values.length; i += 2) values[i] += 1.5;
      if (name === "gamma") values[1] = 0;
      if (name === "beta") values[1] = 0.75;
      if (name === "same") values.forEach((_, i) => (values[i] = Number(i % (shape[0] + 1) === 0)));
      return [name, values];
    }),
  );
}

async function run(each: Case, precision: Precision, options?: CompileOptions) {
  using plan = await compile(trace(each, precision), { device, precision, paranoid: true, ...options });
  const feed = feedOf(plan.graph.inputs);
  const [first, second] = [await plan.run(feed), await plan.run(feed)] as Record<
    "y" | "dw" | "own",
    Float32Array
  >[];
  for (const name of ["y", "dw", "own"] as const) expectClose(second[name], first[name], 0, name);
  const steps = plan.layout.steps.map(({ spec: { kernel }, algorithm = "" }) => ({ kernel, algorithm }));
  return { ...first, steps, feed, shape: plan.graph.outputs.get("y")?.shape as Shape };
}

/** y and dw in float64, of moments that are given. */
function expected({ x, w, options, transposed }: Case, feed: Record<string, Float32Array>, shape: Shape) {
  const perAxis = (value: ConvOptions["padding"] = 1) =>
    typeof value === "number" ? [value, value, value] : [...value];
  const geometry: ConvGeometry = {
    stride: [1, 1, 1],
    padding: perAxis(options.padding ?? 0),
    dilation: perAxis(options.dilation),
    groups: options.groups ?? 1,
  };
  const active = Float64Array.from(feed.x, (value, i) => {
    const channel = i % x[4];
    const [mean, variance] = feed.running.subarray(2 * channel);
    const scale = feed.gamma[channel] / Math.sqrt(variance + 1e-5);
    return Math.max((value - mean) * scale + feed.beta[channel], 0);
  });
  const dense = (data: ArrayLike<number>, extents: Shape) => ({
    shape: extents,
    data: Float64Array.from(data),
  });
  const [source, weights, slopes] = [dense(active, x), dense(feed.w, w), dense(feed.slopes, shape)];
  return transposed
    ? {
        y: convInputGradient(source, weights, shape, geometry),
        dw: convWeightGradient(slopes, source, w, geometry),
      }
    : { y: conv(source, weights, geometry), dw: convWeightGradient(source, slopes, w, geometry) };
}

const tolerances: Readonly<Record<Precision, number>> = { f32: 2e-6, tf32: 2e-3, bf16: 2 ** -7 };
const launched = new Set<string>();

for (const each of cases)
  for (const precision of precisions)
    test(`${each.name}, in ${precision}: the bits of a pass of its own`, async () => {
      const [fused, base] = [await run(each, precision), await run(each, precision, { fuse: false })];
      const kernels = fused.steps.map(({ kernel }) => kernel);
      assert.ok(
        kernels.some((kernel) => forward.test(kernel)),
        kernels.join(" "),
      );
      assert.is(kernels.includes(backward), each.transposed !== true);
      assert.is(kernels.includes("normalizeRelu"), each.transposed === true);
      for (const { kernel, algorithm } of fused.steps)
        if (/^normalizeReluConv/.test(kernel)) launched.add(algorithm);
      for (const name of ["y", "dw"] as const) expectClose(fused[name], base[name], 0, name);
      expectClose(fused.own, base.own, 1e-6, "moments");
      if (each.groups !== undefined) return;
      const reference = expected(each, fused.feed, fused.shape);
      for (const name of ["y", "dw"] as const)
        expectClose(fused[name], reference[name].data, tolerances[precision], name);
    });

test("every kernel with a halo was launched so", () => {
  const tiles = [
    "folded halo 224x16",
    "halo 128x16",
    "halo 128x32",
    "halo 128x64",
    "halo over voxels 16x448",
    "halo over voxels 32x288",
  ];
  const suffixes = ["tf32x3", "tf32", "bf16"];
  assert.equal(
    [...launched].sort(),
    tiles.flatMap((tile) => suffixes.map((suffix) => `${tile}, ${suffix}`)).sort(),
  );
});

test("what is not a number shows", async () => {
  using plan = await compile((g) => ({ y: trace(cases[0])(g).y }), { device });
  const feed = feedOf(plan.graph.inputs);
  feed.x[feed.x.length - 1] = Number.NaN;
  const y = (await plan.run(feed)).y as Float32Array;
  assert.ok(Number.isNaN(y[y.length - 1]));
});

test("operands that are not aligned are refused by name", async () => {
  const { steps } = planOnly(trace(cases[0]), { device }).layout;
  for (const { spec } of steps.filter(({ spec: { kernel } }) => /^normalizeReluConv/.test(kernel))) {
    const data = spec.inputs.map(({ shape }, i) => Float32Array.from(random(elements(shape), i)));
    try {
      await runStep(device, spec, data, 4);
      assert.unreachable(spec.kernel);
    } catch (error) {
      assert.match(String(error), new RegExp(`${spec.kernel}: it takes operands aligned to 16 bytes`));
    }
  }
});

test.run();
