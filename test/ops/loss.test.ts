import { test } from "uvu";
import * as assert from "uvu/assert";
import { gradients } from "../../lib/autograd/gradients.ts";
import { compile } from "../../lib/compile/compile.ts";
import { Graph } from "../../lib/graph/graph.ts";
import type { DType, Shape } from "../../lib/graph/value.ts";
import { mul } from "../../lib/ops/arithmetic.ts";
import { dice } from "../../lib/ops/dice.ts";
import { crossEntropy, maskedMse, oneHot } from "../../lib/ops/loss.ts";
import { type Array64, checkOp, expectClose, random } from "./harness.ts";

/** Labels 0 … classes - 1 with some that are no class. */
function labelsOf(shape: Shape, classes: number, dtype: DType = "u8") {
  const count = shape.reduce((product, extent) => product * extent, 1);
  const outside = dtype === "u8" ? 255 : -7;
  const data = Int32Array.from({ length: count }, (_, i) =>
    i % 13 === 5 ? outside : (i * 7 + (i >> 3)) % classes,
  );
  return { shape, dtype, data };
}

function maskOf(shape: Shape) {
  const count = shape.reduce((product, extent) => product * extent, 1);
  return {
    shape,
    dtype: "u8" as const,
    data: Uint8Array.from({ length: count }, (_, i) => (i % 3 === 1 ? 1 : 0)),
  };
}

interface Voxel {
  readonly sample: number;
  readonly index: number;
  readonly row: Float64Array;
  readonly label: number;
}

/** The voxels of `x` with their labels; those whose label is no class are left out. */
function voxels(x: Array64, labels: Array64): Voxel[] {
  const classes = x.shape[x.shape.length - 1];
  const perSample = labels.data.length / x.shape[0];
  return [...labels.data]
    .map((label, index) => ({
      sample: Math.floor(index / perSample),
      index,
      row: x.data.subarray(index * classes, (index + 1) * classes),
      label,
    }))
    .filter(({ label }) => label >= 0 && label < classes);
}

const total = (values: Iterable<number>) => [...values].reduce((sum, value) => sum + value, 0);

function crossEntropyOf(x: Array64, labels: Array64, weightOf: (voxel: Voxel) => number): number[] {
  const nll = ({ row, label }: Voxel) => Math.log(total(row.map(Math.exp))) - row[label];
  const counted = voxels(x, labels);
  const weight = total(counted.map(weightOf));
  return [weight === 0 ? 0 : total(counted.map((voxel) => weightOf(voxel) * nll(voxel))) / weight];
}

const spatial = [2, 2, 3, 9];

for (const classes of [1, 2, 3, 5, 8, 14, 17, 70])
  test(`crossEntropy of ${classes} classes`, async () => {
    for (const dtype of ["u8", "i32"] as const)
      await checkOp({
        inputs: { x: { shape: [...spatial, classes] }, labels: labelsOf(spatial, classes, dtype) },
        build: ({ x, labels }) => crossEntropy(x, labels),
        reference: ({ x, labels }) => crossEntropyOf(x, labels, () => 1),
      });
  });

test("crossEntropy with class weights, an ignored label and a mask", async () => {
  const weights = [0.2, 1, 0, 3];
  const inputs = { x: { shape: [...spatial, 4] }, labels: labelsOf(spatial, 4), mask: maskOf(spatial) };
  await checkOp({
    inputs,
    build: ({ x, labels }) => crossEntropy(x, labels, { weights }),
    reference: ({ x, labels }) => crossEntropyOf(x, labels, ({ label }) => weights[label]),
  });
  await checkOp({
    inputs,
    build: ({ x, labels }) => crossEntropy(x, labels, { ignore: 1 }),
    reference: ({ x, labels }) => crossEntropyOf(x, labels, ({ label }) => (label === 1 ? 0 : 1)),
  });
  await checkOp({
    inputs,
    build: ({ x, labels, mask }) => crossEntropy(x, labels, { weights, ignore: 3, mask }),
    reference: ({ x, labels, mask }) =>
      crossEntropyOf(x, labels, ({ label, index }) => (label === 3 ? 0 : weights[label] * mask.data[index])),
  });
});

test("a NaN among the logits shows in the loss", async () => {
  const plan = await compile((graph) => {
    const labels = graph.input("labels", [1, 1, 1, 2], "u8");
    return { y: crossEntropy(graph.input("x", [1, 1, 1, 2, 3]), labels) };
  });
  for (const at of [0, 2, 4])
    assert.ok(
      Number.isNaN(
        (await plan.run({ x: new Float32Array(6).fill(Number.NaN, at, at + 1), labels: new Uint8Array(2) }))
          .y[0],
      ),
    );
  plan.dispose();
});

test("losses of many tasks, and of voxels that all do not count", async () => {
  const shape = [1, 5, 23, 31];
  await checkOp({
    inputs: { x: { shape: [...shape, 2] }, labels: labelsOf(shape, 2) },
    build: ({ x, labels }) => crossEntropy(x, labels),
    reference: ({ x, labels }) => crossEntropyOf(x, labels, () => 1),
    gradientTolerance: 1e-3,
  });
  const none = { shape: spatial, dtype: "u8" as const, data: new Uint8Array(108).fill(255) };
  const empty = { shape: spatial, dtype: "u8" as const, data: new Uint8Array(108) };
  const x = { shape: [...spatial, 3] };
  const reference = () => [0];
  await checkOp({ inputs: { x, none }, build: (v) => crossEntropy(v.x, v.none), reference });
  await checkOp({ inputs: { x, none }, build: (v) => maskedMse(v.x, v.none), reference });
  await checkOp({
    inputs: { x, empty },
    build: (v) => maskedMse(v.x, v.empty, { mask: v.empty }),
    reference,
  });
  await checkOp({ inputs: { x, none }, build: (v) => dice(v.x, v.none), reference });
});

interface Dice {
  squared?: boolean;
  background?: boolean;
  perSample?: boolean;
  smooth?: number;
}

function diceOf(p: Array64, labels: Array64, options: Dice): number[] {
  const { squared = true, background = false, perSample = false, smooth = 1e-5 } = options;
  const classes = p.shape[p.shape.length - 1];
  const all = voxels(p, labels);
  const losses: number[] = [];
  for (let sample = 0; sample < (perSample ? p.shape[0] : 1); sample++) {
    const of = perSample ? all.filter((voxel) => voxel.sample === sample) : all;
    for (let c = background ? 0 : 1; c < classes; c++) {
      const both = total(of.map(({ row, label }) => (label === c ? row[c] : 0)));
      const mass = total(of.map(({ row }) => (squared ? row[c] ** 2 : row[c])));
      const truth = of.filter(({ label }) => label === c).length;
      losses.push(1 - (2 * both + smooth) / (mass + truth + smooth));
    }
  }
  return [total(losses) / losses.length];
}

for (const classes of [2, 3, 5, 8, 14, 17, 70])
  test(`dice of ${classes} classes`, async () => {
    const inputs = { p: { shape: [...spatial, classes] }, labels: labelsOf(spatial, classes) };
    const cases: Dice[] = [
      {},
      { squared: false, smooth: 200 },
      { perSample: true, background: true, smooth: 50 },
      { perSample: true, squared: false, smooth: 300 },
    ];
    for (const options of cases)
      await checkOp({
        inputs,
        build: ({ p, labels }) => dice(p, labels, options),
        reference: ({ p, labels }) => diceOf(p, labels, options),
        gradientTolerance: 1e-3,
      });
  });

test("dice of samples that end between blocks, with more voxels than a task", async () => {
  const shape = [2, 3, 19, 37];
  await checkOp({
    inputs: { p: { shape: [...shape, 2] }, labels: labelsOf(shape, 2, "i32") },
    build: ({ p, labels }) => dice(p, labels, { perSample: true }),
    reference: ({ p, labels }) => diceOf(p, labels, { perSample: true }),
    gradientTolerance: 1e-3,
  });
});

test("dice is 0 for a perfect prediction and 1 for a disjoint one", async () => {
  const plan = await compile((graph) => {
    const truth = graph.input("truth", [1, 1, 1, 8], "u8");
    const guess = graph.input("guess", [1, 1, 1, 8], "u8");
    return { y: dice(oneHot(guess, { classes: 2 }), truth) };
  });
  const truth = Uint8Array.of(0, 0, 1, 1, 0, 0, 0, 1);
  assert.is((await plan.run({ truth, guess: truth })).y[0], 0);
  assert.ok((await plan.run({ truth, guess: Uint8Array.of(1, 0, 0, 0, 0, 1, 0, 0) })).y[0] > 0.99999);
  plan.dispose();
});

/** `weightOf` null: the mean over voxels and channels. */
function mseOf(
  p: Array64,
  of: Voxel[],
  target: (v: Voxel, c: number) => number,
  mask: Array64 | null,
  first: number,
) {
  const classes = p.shape[p.shape.length - 1];
  const error = (voxel: Voxel) =>
    total(Array.from(voxel.row, (value, c) => (c < first ? 0 : (value - target(voxel, c)) ** 2)));
  if (mask === null) return [total(of.map(error)) / (of.length * (classes - first))];
  const chosen = of.filter(({ index }) => mask.data[index] !== 0);
  return [total(chosen.map(error)) / (chosen.length + 1e-16)];
}

for (const classes of [2, 3, 5, 8, 14, 17, 70])
  test(`maskedMse of ${classes} channels`, async () => {
    const shape = [...spatial, classes];
    const all = { shape: spatial, data: new Float64Array(108) };
    const inputs = { p: { shape }, t: { shape }, labels: labelsOf(spatial, classes), mask: maskOf(spatial) };
    for (const background of [true, false]) {
      const first = background ? 0 : 1;
      const options = { background };
      const hit = ({ label }: Voxel, c: number) => (label === c ? 1 : 0);
      const shared = { inputs, wrt: ["p"], gradientTolerance: 1e-3 };
      await checkOp({
        ...shared,
        build: ({ p, labels }) => maskedMse(p, labels, options),
        reference: ({ p, labels }) => mseOf(p, voxels(p, labels), hit, null, first),
      });
      await checkOp({
        ...shared,
        build: ({ p, labels, mask }) => maskedMse(p, labels, { ...options, mask }),
        reference: ({ p, labels, mask }) => mseOf(p, voxels(p, labels), hit, mask, first),
      });
      for (const masked of [true, false])
        await checkOp({
          ...shared,
          build: ({ p, t, mask }) => maskedMse(p, t, masked ? { ...options, mask } : options),
          reference: ({ p, t, mask }) =>
            mseOf(
              p,
              voxels(p, all),
              ({ index }, c) => t.data[index * classes + c],
              masked ? mask : null,
              first,
            ),
        });
    }
  });

test("no gradient flows to the target", async () => {
  const shape = [1, 1, 1, 4, 2];
  const plan = await compile((graph) => {
    const p = graph.input("p", shape);
    const [dp] = gradients(maskedMse(p, mul(p, p)), [p]);
    return { dp };
  });
  const p = Float32Array.from(random(8, 3));
  const { dp } = await plan.run({ p });
  plan.dispose();
  expectClose(
    dp,
    p.map((value) => (2 * (value - value * value)) / 8),
    1e-6,
    "gradient",
  );
});

for (const classes of [1, 3, 14, 17])
  test(`oneHot of ${classes} classes`, async () => {
    for (const dtype of ["u8", "i32"] as const)
      await checkOp({
        inputs: { labels: labelsOf([2, 3, 5, 7], classes, dtype) },
        build: ({ labels }) => oneHot(labels, { classes }),
        reference: ({ labels }) =>
          Float64Array.from({ length: 210 * classes }, (_, i) =>
            labels.data[Math.floor(i / classes)] === i % classes ? 1 : 0,
          ),
      });
  });

test("what does not fit is named", () => {
  const graph = new Graph();
  const x = graph.input("x", [1, 2, 2, 2, 3]);
  const labels = graph.input("labels", [1, 2, 2, 2], "u8");
  const short = graph.input("short", [1, 2, 2], "u8");
  assert.throws(
    () => crossEntropy(x, short),
    /crossEntropy: labels must have shape \[1,2,2,2\], found u8\[1,2,2\]/,
  );
  assert.throws(() => crossEntropy(x, x), /crossEntropy: labels must be u8 or i32, found f32\[1,2,2,2,3\]/);
  assert.throws(
    () => crossEntropy(x, labels, { weights: [1] }),
    /crossEntropy: expected 3 class weights, found 1/,
  );
  assert.throws(() => crossEntropy(x, labels, { weights: [1, -1, 1] }), /crossEntropy: class weights .*-1/);
  assert.throws(() => crossEntropy(x, labels, { mask: short }), /crossEntropy: the mask must have shape/);
  assert.throws(() => dice(x, labels, { smooth: 0 }), /diceOfSums: smooth must be above 0, found 0/);
  assert.throws(
    () => dice(graph.input("one", [1, 2, 2, 2, 1]), labels),
    /without the background no class is left/,
  );
  assert.throws(() => maskedMse(x, short), /maskedMse: target labels must have shape/);
  assert.throws(() => oneHot(labels, { classes: 0 }), /oneHot: the number of classes .* found 0/);
});

test.run();
