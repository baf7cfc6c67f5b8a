/** Convolutions of the CUDA backend that sum the moments of what they store: on a GPU where there is one, else emulated. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { upperHalves } from "../../lib/bench/fill.ts";
import { compile, planOnly } from "../../lib/compile/compile.ts";
import type { Graph } from "../../lib/graph/graph.ts";
import { conv3d, convTranspose3d } from "../../lib/ops/conv.ts";
import { moments } from "../../lib/ops/norm.ts";
import { precisions } from "../../lib/runtime/device.ts";
import { makeConfig } from "../../lib/train/config.ts";
import { recipeNamed } from "../../lib/train/recipes/index.ts";
import { makeLearners, traceStep } from "../../lib/train/step.ts";
import { expectClose } from "../ops/harness.ts";
import { kernelDevice as device } from "./devices.ts";
import { runStep } from "./run_step.ts";
import { expectMoments, feedOfSummed, numbers, type SummedConv, traceSummed } from "./summed_conv.ts";

const cases: readonly SummedConv[] = [
  { name: "halo 128x16", x: [1, 4, 6, 15, 8], w: [11, 3, 3, 3, 8], options: { padding: 1 } },
  { name: "folded halo 224x16", x: [2, 4, 7, 13, 8], w: [11, 3, 3, 3, 8], options: { padding: 1 } },
  {
    name: "implicit GEMM 128x16",
    x: [2, 3, 7, 18, 8],
    w: [16, 2, 2, 2, 8],
    options: { stride: 2, padding: 1 },
  },
  {
    name: "implicit GEMM 64x32 of single numbers, in parts",
    x: [2, 3, 4, 5, 70],
    w: [21, 1, 3, 3, 70],
    options: {},
  },
];

for (const each of cases)
  for (const precision of precisions)
    test(`${each.name} sums a mean far from zero, in ${precision}, twice alike`, async () => {
      using plan = await compile(traceSummed(each, precision), { device, precision, paranoid: true });
      const sums = plan.layout.steps.find(({ spec }) => spec.kernel === "conv3dPackedMoments");
      assert.ok(sums !== undefined);
      assert.ok(sums.algorithm?.startsWith(each.name.split(",")[0]), sums.algorithm);
      // Of what is stored as bf16, far is nearer.
      const feed = feedOfSummed(each, precision === "bf16" ? 10 : 1000, precision);
      const [first, second] = [await plan.run(feed), await plan.run(feed)];
      assert.is(sums.spec.output.dtype, precision === "bf16" ? "bf16" : "f32");
      expectMoments(first.own, first.y as Float32Array, each.w[0]);
      assert.equal(second.own, first.own);
    });

const deep: readonly (SummedConv & { readonly transposed?: boolean })[] = [
  { name: "boxes that end outside", x: [2, 3, 5, 7, 64], w: [136, 1, 1, 3, 64], options: { padding: 1 } },
  { name: "a stride", x: [1, 5, 6, 17, 64], w: [72, 2, 1, 1, 64], options: { stride: [2, 1, 2] } },
  // No tap reaches the last of every three positions of a line.
  {
    name: "classes of voxels",
    x: [1, 2, 5, 7, 64],
    w: [64, 1, 2, 2, 72],
    options: { stride: [1, 2, 3] },
    transposed: true,
  },
  { name: "taps of one channel", x: [2, 4, 8, 15, 1], w: [20, 3, 3, 3, 1], options: { padding: 1 } },
];

for (const { transposed, ...each } of deep)
  for (const precision of ["tf32", "bf16"] as const)
    test(`${each.name}, in ${precision}: every way sums what it stores`, async () => {
      const channels = each.w[transposed ? 4 : 0];
      const traceDeep = (g: Graph) => {
        const conv = transposed ? convTranspose3d : conv3d;
        const bias = g.input("bias", [channels]);
        const y = conv(g.input("x", each.x), g.input("w", each.w), { ...each.options, bias });
        return { y, own: moments(y, { perSample: false, groups: channels }) };
      };
      const { steps } = planOnly(traceDeep, { device, precision }).layout;
      const spec = steps.find((step) => step.spec.kernel === "conv3dPackedMoments")?.spec;
      assert.ok(spec !== undefined);
      const data = spec.inputs.map(({ shape, dtype }, i) =>
        dtype === "bf16" ? upperHalves(numbers(shape, i)) : numbers(shape, i).map((value) => value + 30),
      );
      const ways = device.native.ways(spec);
      for (const [way, name] of ways.entries()) {
        if (name.startsWith("cuDNN")) continue;
        const step = { ...spec, attributes: { ...spec.attributes, way } };
        const before = device.native.launches().sumOutput ?? 0;
        const [y, own] = await runStep(device, step, data);
        expectMoments(new Float32Array(own), new Float32Array(y), channels);
        assert.is(device.native.launches().sumOutput ?? 0, before, `${name} reads again what it has stored`);
      }
      if (device.name === "emulator")
        assert.is(
          ways.some((name) => name.startsWith("warpgroups")),
          each.x[4] === 64,
        );
    });

test("what is not a number shows", async () => {
  const [each] = cases;
  using plan = await compile(traceSummed(each), { device });
  const feed = feedOfSummed(each, 0);
  feed.x[feed.x.length - 1] = Number.NaN;
  assert.ok((await plan.run(feed)).own.every(Number.isNaN));
});

test("of an operand that is not aligned, what was stored is read once more", async () => {
  const [each] = cases;
  const { layout } = planOnly(traceSummed(each), { device });
  const step = layout.steps.find(({ spec }) => spec.kernel === "conv3dPackedMoments");
  assert.ok(step !== undefined);
  const { inputs } = step.spec;
  const data = inputs.map(({ shape }, i) => numbers(shape, i));
  const [whole] = await runStep(device, step.spec, data);
  const [shifted, own] = await runStep(device, step.spec, data, 4);
  assert.ok(device.native.launches().sumOutput > 0);
  expectClose(new Float32Array(shifted), new Float32Array(whole), 2e-6, "result");
  expectMoments(new Float32Array(own), new Float32Array(shifted), each.w[0]);
});

test("in a V-Net, convolutions sum the moments of all batch norms, and blocks with a halo normalise what they load", () => {
  const config = makeConfig("recommended", { networks: ["vnet"], patch: [96, 96, 96] });
  const learners = makeLearners(config);
  const supervised = recipeNamed("supervised");
  for (const precision of precisions) {
    const plan = planOnly((g) => traceStep(g, config, supervised, learners), { device, precision });
    const kernels = plan.layout.steps.map(({ spec }) => spec.kernel);
    const count = (kernel: string) => kernels.filter((each) => each === kernel).length;
    assert.is(count("normalizeReluConv3dPackedMoments"), 3);
    assert.is(count("normalizeReluConv3dWeightGradient"), 3);
    assert.is(count("conv3dPackedMoments"), 26);
    assert.is(count("moments"), 0);
  }
});

test.run();
