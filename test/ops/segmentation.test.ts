import { test } from "uvu";
import * as assert from "uvu/assert";
import { gradients } from "../../lib/autograd/gradients.ts";
import { compile } from "../../lib/compile/compile.ts";
import { Graph } from "../../lib/graph/graph.ts";
import { elements, type Shape, type Value } from "../../lib/graph/value.ts";
import { add, mul, scale } from "../../lib/ops/arithmetic.ts";
import { diceOfSums } from "../../lib/ops/dice.ts";
import {
  pseudoLabelError,
  pseudoLabelErrorInSteps,
  ratioOfSums,
  segmentationLosses,
  type SegmentationLosses,
  segmentationLossesInSteps,
  type SegmentationOptions,
} from "../../lib/ops/segmentation.ts";
import { checkOp, expectClose, random } from "./harness.ts";

/** Labels of all classes, some of none, and a mask of every third voxel. */
function voxelsOf(shape: Shape, classes: number) {
  const count = elements(shape);
  return {
    labels: Uint8Array.from({ length: count }, (_, i) => (i % 13 === 5 ? 255 : (i * 7 + (i >> 3)) % classes)),
    mask: Uint8Array.from({ length: count }, (_, i) => (i % 3 === 1 ? i & 255 : 0)),
  };
}

/**
 * All losses, and the gradient in the logits of their weighted sum, which is made together with the losses, and of its
 * square, which is not, from one of the two ways.
 */
function lossesAndGradient(losses: SegmentationLosses, x: Value, name: string): Record<string, Value> {
  const all = [losses.crossEntropy, losses.dice, losses.diceOfSamples];
  if (losses.maskedMse !== undefined) all.push(losses.maskedMse);
  const factors = [0.7, 1.3, -0.5, 2];
  const loss = all.map((each, i) => scale(each, factors[i])).reduce((a, b) => add(a, b));
  const [gradient] = gradients(loss, [x]);
  const [squared] = gradients(mul(loss, loss), [x]);
  return Object.fromEntries([...all, gradient, squared].map((value, i) => [`${name}${i}`, value]));
}

async function compare(
  shape: Shape,
  classes: number,
  { masked = false, ...options }: Omit<SegmentationOptions, "mask"> & { masked?: boolean },
  x = Float32Array.from(random(elements(shape) * classes, 3), (value) => 4 * value),
) {
  const plan = await compile(
    (graph) => {
      const logits = graph.input("x", [...shape, classes]);
      const labels = graph.input("labels", shape, "u8");
      const mask = graph.input("mask", shape, "u8");
      const all = masked ? { ...options, mask } : options;
      return {
        ...lossesAndGradient(segmentationLosses(logits, labels, all), logits, "fused"),
        ...lossesAndGradient(segmentationLossesInSteps(logits, labels, all), logits, "steps"),
      };
    },
    { paranoid: true },
  );
  const results = (await plan.run({ x, ...voxelsOf(shape, classes) })) as Record<string, Float32Array>;
  plan.dispose();
  const losses = masked ? 4 : 3;
  for (let i = 0; i < losses + 2; i++) {
    const [fused, steps] = [results[`fused${i}`], results[`steps${i}`]];
    const largest = steps.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    assert.ok(largest > 0 && Number.isFinite(largest), `output ${i}: largest ${largest}`);
    const unit = (values: Float32Array) => Float64Array.from(values, (value) => value / largest);
    expectClose(unit(fused), unit(steps), i < losses ? 1e-6 : 3e-6, `${classes} classes, output ${i}`);
  }
}

const variants = [
  {},
  { masked: true },
  { squared: false, smooth: 20 },
  { background: true, masked: true, smooth: 3 },
  { background: true, squared: false, masked: true },
];

for (const classes of [2, 3, 4, 5, 8, 14, 16, 17, 70, 256])
  test(`losses of ${classes} classes are those in steps, and so is their gradient`, async () => {
    for (const options of variants) await compare([2, 2, 3, 9], classes, options);
  });

test("samples that end between groups of voxels, with more voxels than a task", async () => {
  for (const classes of [2, 3, 14])
    for (const options of variants) await compare([3, 3, 31, 47], classes, options);
});

test("one voxel, and logits far apart", async () => {
  await compare([1, 1, 1, 1], 3, { background: true, masked: false });
  for (const classes of [2, 5]) {
    const x = Float32Array.from(random(60 * classes, 5), (value) => 300 * value);
    await compare([1, 3, 4, 5], classes, { masked: true }, x);
  }
});

for (const classes of [2, 3, 5, 14, 17, 70])
  test(`pseudoLabelError of ${classes} classes is the one in steps, and so is its gradient`, async () => {
    for (const space of [
      [2, 2, 3, 9],
      [1, 7, 23, 31],
    ]) {
      const shape = [...space, classes];
      const plan = await compile(
        (graph) => {
          const x = graph.input("x", shape);
          const teacher = graph.input("teacher", shape);
          const fused = pseudoLabelError(x, teacher, 0.3);
          const steps = pseudoLabelErrorInSteps(x, teacher, 0.3);
          return { fused, steps, dFused: gradients(fused, [x])[0], dSteps: gradients(steps, [x])[0] };
        },
        { paranoid: true },
      );
      const x = Float32Array.from(random(elements(shape), 3), (value) => 4 * value);
      const teacher = Float32Array.from(random(elements(shape), 4), (value) => 4 * value);
      const { fused, steps, dFused, dSteps } = await plan.run({ x, teacher });
      plan.dispose();
      assert.ok(Math.abs(fused[0] / steps[0] - 1) < 1e-6, `${fused[0]}, in steps ${steps[0]}`);
      const scaled = (values: ArrayLike<number>) =>
        Float64Array.from(values, (value) => value * elements(shape));
      expectClose(scaled(dFused), scaled(dSteps), 3e-6, "gradient");
    }
  });

test("a sure and right prediction costs nothing, and no voxel that counts gives 0", async () => {
  const shape = [1, 1, 2, 10];
  for (const classes of [2, 4]) {
    const plan = await compile((graph) => {
      const logits = graph.input("x", [...shape, classes]);
      const labels = graph.input("labels", shape, "u8");
      const { crossEntropy, dice, maskedMse } = segmentationLosses(logits, labels, { mask: labels });
      const total = add(add(crossEntropy, dice), maskedMse as Value);
      return { crossEntropy, dice, maskedMse: maskedMse as Value, gradient: gradients(total, [logits])[0] };
    });
    const labels = Uint8Array.from({ length: 20 }, (_, i) => i % classes);
    const x = Float32Array.from({ length: 20 * classes }, (_, i) =>
      labels[Math.floor(i / classes)] === i % classes ? 0 : Number.NEGATIVE_INFINITY,
    );
    const sure = await plan.run({ x, labels });
    assert.equal([sure.crossEntropy[0], sure.dice[0], sure.maskedMse[0]], [0, 0, 0]);
    const none = await plan.run({
      x: x.fill(1).fill(Number.NEGATIVE_INFINITY, 0, 1),
      labels: labels.fill(255),
    });
    assert.equal([none.crossEntropy[0], none.dice[0], none.maskedMse[0]], [0, 0, 0]);
    assert.ok((none.gradient as Float32Array).every((value) => value === 0));
    plan.dispose();
  }
});

test("a NaN among the logits shows in the losses and in the gradient", async () => {
  // Two voxels are less than a group, 45 whole groups and some more.
  for (const voxels of [2, 45])
    for (const classes of [2, 3, 5]) {
      const plan = await compile((graph) => {
        const logits = graph.input("x", [1, 1, 1, voxels, classes]);
        const labels = graph.input("labels", [1, 1, 1, voxels], "u8");
        const { crossEntropy, dice } = segmentationLosses(logits, labels);
        return { crossEntropy, dice, gradient: gradients(crossEntropy, [logits])[0] };
      });
      const labels = Uint8Array.from({ length: voxels }, (_, i) => i % 2);
      for (let at = 0; at < voxels * classes; at++) {
        const x = new Float32Array(voxels * classes).fill(Number.NaN, at, at + 1);
        const y = await plan.run({ x, labels });
        for (const name of ["crossEntropy", "dice"] as const)
          assert.ok(Number.isNaN(y[name][0]), `${name}, ${classes} classes, at ${at}`);
        const voxel = Math.floor(at / classes);
        (y.gradient as Float32Array).forEach((value, i) => {
          assert.is(Number.isNaN(value), Math.floor(i / classes) === voxel, `gradient ${i}, NaN at ${at}`);
        });
        // Where the label is no class, in dice alone.
        const unlabelled = await plan.run({ x, labels: labels.with(voxel, 255) });
        assert.is(Number.isNaN(unlabelled.crossEntropy[0]), false);
        assert.ok(Number.isNaN(unlabelled.dice[0]), `dice without a label, ${classes} classes, at ${at}`);
      }
      plan.dispose();
    }
});

test("ratioOfSums adds the samples before it divides, and diceOfSums takes the first rows", async () => {
  const sums = { shape: [2, 4, 3], data: random(24, 7).map((value) => 1.5 + value) };
  await checkOp({
    inputs: { sums },
    build: (v) => ratioOfSums(v.sums, 2),
    reference: ({ sums: { data } }) => [(data[6] + data[18]) / (data[7] + data[19])],
  });
  const term = (data: Float64Array, at: readonly number[]) => {
    const total = (k: number) => at.reduce((sum, row) => sum + data[3 * row + k], 0);
    return 1 - (2 * total(0) + 0.5) / (total(1) + total(2) + 0.5);
  };
  const options = { smooth: 0.5 };
  await checkOp({
    inputs: { sums },
    build: (v) => diceOfSums(v.sums, 3, options),
    reference: ({ sums: { data } }) => [(term(data, [1, 5]) + term(data, [2, 6])) / 2],
  });
  await checkOp({
    inputs: { sums },
    build: (v) => diceOfSums(v.sums, 3, { ...options, perSample: true }),
    reference: ({ sums: { data } }) => [
      [[1], [2], [5], [6]].reduce((sum, rows) => sum + term(data, rows), 0) / 4,
    ],
  });
});

test("labels of another type are computed in steps, and what does not fit is named", () => {
  const graph = new Graph();
  const x = graph.input("x", [1, 2, 2, 2, 3]);
  const labels = graph.input("labels", [1, 2, 2, 2], "u8");
  const { dice } = segmentationLosses(x, graph.input("integers", [1, 2, 2, 2], "i32"));
  assert.is(dice.inputs[0].op, "diceSums");
  const short = graph.input("short", [1, 2, 2], "u8");
  assert.throws(() => segmentationLosses(x, short), /segmentationSums: labels must have shape \[1,2,2,2\]/);
  assert.throws(() => segmentationLosses(x, labels, { mask: short }), /segmentationSums: the mask must have/);
  assert.throws(() => pseudoLabelError(x, x, 0), /softmaxDistance: the temperature must be above 0, found 0/);
  assert.throws(() => ratioOfSums(graph.input("sums", [1, 2, 3]), 2), /ratioOfSums: .* row 2, found/);
  assert.throws(() => diceOfSums(graph.input("few", [1, 2, 3]), 3), /diceOfSums: the sums of 3 classes/);
});

test.run();
