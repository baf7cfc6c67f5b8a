/** Convolutions of the CUDA backend that normalise what they load, against float64 and against a pass of its own before them. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { compile, type CompileOptions, planOnly } from "../../lib/compile/compile.ts";
import { elements, type Shape } from "../../lib/graph/value.ts";
import type { ConvOptions } from "../../lib/ops/conv.ts";
import { type Precision, precisions } from "../../lib/runtime/device.ts";
import { expectClose, random } from "../ops/harness.ts";
import { kernelDevice as device } from "./devices.ts";
import { type ConvGeometry, conv, convInputGradient, convWeightGradient } from "../oracle/conv.ts";
import {
  feedOfNormalized,
  type NormalizedConv,
  normalizedConvs,
  traceNormalized,
} from "./normalized_conv.ts";
import { runStep } from "./run_step.ts";

const forward = /^normalizeReluConv3dPacked/;
const backward = "normalizeReluConv3dWeightGradient";

async function run(each: NormalizedConv, precision: Precision, options?: CompileOptions) {
  using plan = await compile(traceNormalized(each, precision), {
    device,
    precision,
    paranoid: true,
    ...options,
  });
  const feed = feedOfNormalized(plan.graph.inputs);
  const [first, second] = [await plan.run(feed), await plan.run(feed)] as Record<
    "y" | "dw" | "own",
    Float32Array
  >[];
  for (const name of ["y", "dw", "own"] as const) expectClose(second[name], first[name], 0, name);
  const steps = plan.layout.steps.map(({ spec: { kernel }, algorithm = "" }) => ({ kernel, algorithm }));
  return { ...first, steps, feed, shape: plan.graph.outputs.get("y")?.shape as Shape };
}

/** y and dw in float64, of moments that are given. */
function expected(
  { x, w, options, transposed }: NormalizedConv,
  feed: Record<string, Float32Array>,
  shape: Shape,
) {
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

for (const each of normalizedConvs)
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
  using plan = await compile((g) => ({ y: traceNormalized(normalizedConvs[0])(g).y }), { device });
  const feed = feedOfNormalized(plan.graph.inputs);
  feed.x[feed.x.length - 1] = Number.NaN;
  const y = (await plan.run(feed)).y as Float32Array;
  assert.ok(Number.isNaN(y[y.length - 1]));
});

test("operands that are not aligned are refused by name", async () => {
  const { steps } = planOnly(traceNormalized(normalizedConvs[0]), { device }).layout;
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
