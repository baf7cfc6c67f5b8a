/** Losses of a segmentation and their gradient by one launch whose blocks wait for each other. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { gradients } from "../../lib/autograd/gradients.ts";
import { compile } from "../../lib/compile/compile.ts";
import type { Graph } from "../../lib/graph/graph.ts";
import { elements } from "../../lib/graph/value.ts";
import { add, mul, scale } from "../../lib/ops/arithmetic.ts";
import { segmentationLosses } from "../../lib/ops/segmentation.ts";
import { type Device, openDevice } from "../../lib/runtime/device.ts";
import { expectClose, random } from "../ops/harness.ts";
import { emulated, kernelDevice as device } from "./devices.ts";
import { withBlocks } from "./with_variable.ts";

function onDevice(name: string, run: () => Promise<void>): void {
  if (device.name !== "cpu") test(name, run);
}

/** More voxels than a block adds up at a time, and a number of them that fills no vectors. */
const shape = [3, 1, 43, 97];

interface Case {
  readonly classes: number;
  readonly masked: boolean;
}

const trace =
  ({ classes, masked }: Case) =>
  (graph: Graph) => {
    const x = graph.input("x", [...shape, classes]);
    const labels = graph.input("labels", shape, "u8");
    const mask = masked ? graph.input("mask", shape, "u8") : undefined;
    const { crossEntropy, dice, diceOfSamples, maskedMse } = segmentationLosses(x, labels, { mask });
    const terms = [crossEntropy, scale(dice, 0.5), mul(diceOfSamples, graph.input("weight", []))];
    if (maskedMse !== undefined) terms.push(scale(maskedMse, 2));
    const loss = terms.reduce((a, b) => add(a, b));
    return { loss, dice, gradient: gradients(loss, [x])[0] };
  };

function feedOf({ classes, masked }: Case) {
  const count = elements(shape);
  const feed = {
    x: Float32Array.from(random(count * classes, 3), (value) => 4 * value),
    labels: Uint8Array.from({ length: count }, (_, i) => (i % 13 === 5 ? 255 : (i * 7 + (i >> 3)) % classes)),
    weight: 0.3,
  };
  return masked ? { ...feed, mask: Uint8Array.from({ length: count }, (_, i) => i % 3) } : feed;
}

/** What a plan yields in its first run and in a recorded one, and what it launches for it. */
async function results(which: Case, on: Device) {
  using plan = await compile(trace(which), { device: on });
  const before = on.native.launches().segmentationLosses ?? 0;
  const first = await plan.run(feedOf(which));
  const launches = (on.native.launches().segmentationLosses ?? 0) - before;
  await plan.run(feedOf(which));
  return {
    first,
    recorded: await plan.run(feedOf(which)),
    launches,
    kernels: plan.layout.steps.map(({ spec }) => spec.kernel),
  };
}

for (const which of [
  { classes: 2, masked: true },
  { classes: 5, masked: false },
])
  onDevice(
    `${which.classes} classes: one launch, the same bits for any number of blocks, recorded or not`,
    async () => {
      const expected = await results(which, openDevice("cpu"));
      const few = await withBlocks(2, () => results(which, device));
      for (const name of [
        "segmentationSums",
        "segmentationSumsGradient",
        "ratioOfSumsGradient",
        "diceOfSumsGradient",
      ])
        assert.not.ok(few.kernels.includes(name), name);
      assert.is(few.launches, 1);
      const scaled = (values: ArrayLike<number>) =>
        Float64Array.from(values, (value) => value * elements(shape));
      for (const name of ["loss", "dice"] as const)
        expectClose(few.first[name], expected.first[name], 1e-5, name);
      expectClose(scaled(few.first.gradient), scaled(expected.first.gradient), 1e-5, "gradient");
      for (const blocks of [1, 5]) {
        const found = await withBlocks(blocks, () => results(which, device));
        assert.equal(found.first, few.first, `${blocks} blocks`);
        assert.equal(found.recorded, few.first, `${blocks} blocks, recorded`);
        assert.is(found.launches, 1);
      }
      const apart = await withBlocks(0, () => results(which, device));
      assert.equal(apart.first, few.first, "where blocks cannot wait for each other");
      assert.equal(apart.recorded, few.first);
      if (emulated) assert.is(apart.launches, 3);
    },
  );

onDevice("rows of many classes, and every write inside the results", async () => {
  const classes = 40;
  const build = (graph: Graph) => {
    const x = graph.input("x", [2, 1, 1, 7, classes]);
    const { crossEntropy, dice } = segmentationLosses(x, graph.input("labels", [2, 1, 1, 7], "u8"));
    const loss = add(crossEntropy, dice);
    return { loss, gradient: gradients(loss, [x])[0] };
  };
  const feed = {
    x: Float32Array.from(random(14 * classes, 1)),
    labels: new Uint8Array(14).map((_, i) => 3 * i),
  };
  using plan = await compile(build, { device, paranoid: true });
  using cpu = await compile(build, { device: openDevice("cpu") });
  const [found, expected] = [await plan.run(feed), await cpu.run(feed)];
  for (const name of ["loss", "gradient"] as const) expectClose(found[name], expected[name], 1e-6, name);
});

test.run();
