/** Logits, losses and the gradient of the logits by one launch from what the network's last convolution reads. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { gradients } from "../../lib/autograd/gradients.ts";
import { compile } from "../../lib/compile/compile.ts";
import { printPlan } from "../../lib/compile/print.ts";
import type { Graph } from "../../lib/graph/graph.ts";
import { type DType, elements, type Value } from "../../lib/graph/value.ts";
import { relu } from "../../lib/ops/activation.ts";
import { add, mul, scale } from "../../lib/ops/arithmetic.ts";
import { conv3d } from "../../lib/ops/conv.ts";
import { batchNormEval } from "../../lib/ops/norm.ts";
import { segmentationLosses } from "../../lib/ops/segmentation.ts";
import { type Device, openDevice, type Precision } from "../../lib/runtime/device.ts";
import { expectClose, random } from "../ops/harness.ts";
import { kernelDevice as device } from "./devices.ts";
import { inOrder, withBlocks } from "./with_variable.ts";

const kernel = "headSegmentationLosses";

interface Case {
  readonly classes: number;
  readonly features: number;
  readonly precision: Precision;
  readonly masked?: boolean;
  /** Features are the ReLU of a normalisation, which only the head reads: the gradient of its weights is left out. */
  readonly normalized?: boolean;
  /** `[N, D, H, W]` */
  readonly voxels?: readonly number[];
}

/** More voxels than a block adds up at a time, and a number of them that fills no warps. */
const usual = [2, 1, 43, 97];

/** With `steps` the logits are wanted themselves, so that the head and the losses keep kernels of their own. */
function trace({ classes, features, masked, normalized, voxels = usual }: Case, steps = false) {
  return (graph: Graph): Record<string, Value> => {
    const input = graph.input("x", [...voxels, features]);
    const [w, bias] = [graph.input("w", [classes, 1, 1, 1, features]), graph.input("bias", [classes])];
    let x: Value = input;
    if (normalized === true) {
      const raw = conv3d(input, graph.input("same", [features, 1, 1, 1, features]));
      const [gamma, beta] = [graph.input("gamma", [features]), graph.input("beta", [features])];
      x = relu(batchNormEval(raw, graph.input("running", [1, features, 2]), gamma, beta));
    }
    const logits = conv3d(x, w, { bias });
    const labels = graph.input("labels", voxels, "u8");
    const mask = masked === true ? graph.input("mask", voxels, "u8") : undefined;
    const { crossEntropy, dice, diceOfSamples, maskedMse } = segmentationLosses(logits, labels, { mask });
    const terms = [crossEntropy, scale(dice, 0.5), mul(diceOfSamples, graph.input("weight", []))];
    if (maskedMse !== undefined) terms.push(scale(maskedMse, 2));
    const loss = terms.reduce((a, b) => add(a, b));
    const wrt = normalized === true ? [logits, input, bias] : [logits, input, bias, w];
    const [slopes, dx, dBias, dw] = gradients(loss, wrt);
    const found = { loss, dice, slopes, dx, dBias };
    return { ...found, ...(normalized === true ? {} : { dw }), ...(steps ? { logits } : {}) };
  };
}

function feedOf(inputs: Graph["inputs"], { classes }: Case) {
  const fill = (name: string, { shape }: Value, seed: number): NodeJS.TypedArray => {
    const count = elements(shape);
    if (name === "labels")
      return Uint8Array.from({ length: count }, (_, i) =>
        i % 13 === 5 ? 255 : (i * 7 + (i >> 3)) % classes,
      );
    if (name === "mask") return Uint8Array.from({ length: count }, (_, i) => i % 3);
    const values = Float32Array.from(random(count, seed));
    if (name === "running") for (let i = 1; i < count; i += 2) values[i] += 1.5;
    // What a convolution stores is bf16, and this one leaves it as it is.
    if (name === "same") values.forEach((_, i) => (values[i] = Number(i % (shape[0] + 1) === 0)));
    return values;
  };
  return Object.fromEntries([...inputs].map(([name, value], i) => [name, fill(name, value, i + 1)]));
}

interface Results {
  readonly first: Record<string, Float32Array | number>;
  readonly recorded?: Record<string, Float32Array | number>;
  readonly launches: number;
  readonly kernels: readonly string[];
  readonly printed: string;
}

async function results(
  which: Case,
  on: Device,
  { steps = false, paranoid = false, record = false } = {},
): Promise<Results> {
  const precision = on.name === "cpu" ? "f32" : which.precision;
  using plan = await compile(trace(which, steps), { device: on, precision, paranoid });
  const feed = { ...feedOf(plan.graph.inputs, which), weight: 0.3 };
  const before = on.native.launches()[kernel] ?? 0;
  const first = (await plan.run(feed)) as Results["first"];
  const launches = (on.native.launches()[kernel] ?? 0) - before;
  if (record) await plan.run(feed);
  return {
    first,
    recorded: record ? ((await plan.run(feed)) as Results["first"]) : undefined,
    launches,
    kernels: plan.layout.steps.map(({ spec }) => spec.kernel),
    printed: printPlan(plan),
  };
}

/** Gradients of a mean over voxels are as small as these are many. */
function compare(
  found: Results["first"],
  expected: Results["first"],
  tolerances: Record<string, number>,
): void {
  const count = (expected.slopes as Float32Array).length;
  const scaled = (values: Float32Array | number) =>
    typeof values === "number" ? [values] : Float64Array.from(values, (value) => value * count);
  for (const [name, tolerance] of Object.entries(tolerances))
    if (name in found) expectClose(scaled(found[name]), scaled(expected[name]), tolerance, name);
}

function same(found: Results["first"], expected: Results["first"], what: string): void {
  const values = (value: Float32Array | number) => (typeof value === "number" ? [value] : value);
  for (const name of Object.keys(expected))
    expectClose(values(found[name]), values(expected[name]), 0, `${name}, ${what}`);
}

const cases: readonly Case[] = [
  { classes: 2, features: 16, precision: "f32", masked: true },
  { classes: 2, features: 16, precision: "f32", normalized: true },
  { classes: 14, features: 24, precision: "f32", normalized: true, masked: true },
  { classes: 5, features: 64, precision: "f32" },
  { classes: 3, features: 32, precision: "tf32" },
  { classes: 2, features: 16, precision: "bf16", normalized: true },
  { classes: 14, features: 16, precision: "bf16", masked: true },
  { classes: 15, features: 40, precision: "bf16", normalized: true },
];

for (const which of cases) {
  const { classes, features, precision, normalized } = which;
  const of = `${classes} classes of ${features}${normalized === true ? " normalised" : ""} features`;
  test(`${of} in ${precision}: one launch, any blocks, any order of threads, recorded or not`, async () => {
    const few = await withBlocks(2, () => results(which, device, { record: true }));
    for (const name of ["segmentationLosses", "segmentationSums", "segmentationSumsGradient"])
      assert.not.ok(few.kernels.includes(name), name);
    assert.is(few.kernels.includes("normalizeRelu"), false);
    assert.is(few.launches, 1);
    for (const op of [
      "conv3dPacked",
      "segmentationSumsGradient",
      ...(normalized === true ? ["normalizeRelu"] : []),
    ])
      assert.match(few.printed.split("\n").find((line) => line.includes("segmentationSums")) as string, op);

    const steps = await results(which, device, { steps: true });
    assert.ok(steps.kernels.includes("segmentationLosses"));
    assert.not.ok(steps.kernels.includes(kernel));
    // Of operands of 10 or 7 bits of mantissa: those of the head alone in the losses, but of their gradient behind.
    const close = precision === "tf32" ? 2e-3 : 2e-6;
    const behind = precision === "bf16" ? 2 ** -8 : 5 * close;
    compare(few.first, steps.first, { loss: close, dice: close, slopes: 5 * close, dBias: 5 * close });
    compare(few.first, steps.first, { dx: behind, dw: behind });
    if (precision === "f32") {
      const expected = await results(which, openDevice("cpu"));
      compare(few.first, expected.first, {
        loss: 1e-5,
        dice: 1e-5,
        slopes: 1e-5,
        dBias: 1e-5,
        dx: 1e-5,
        dw: 1e-5,
      });
    }
    same(few.recorded as Results["first"], few.first, "recorded");

    if (device.name !== "emulator") return;
    for (const [blocks, schedule] of [
      [1, "0"],
      [3, "1"],
      [5, "7"],
    ] as const) {
      const found = await inOrder(schedule, () => withBlocks(blocks, () => results(which, device)));
      same(found.first, few.first, `${blocks} blocks, threads in order ${schedule}`);
    }
    const apart = await withBlocks(0, () => results(which, device));
    same(apart.first, few.first, "where blocks cannot wait for each other");
    assert.is(apart.launches, 3);
  });
}

test("few voxels, and every write inside the results", async () => {
  for (const [classes, normalized] of [
    [4, true],
    [7, false],
    [8, true],
  ] as const) {
    const which: Case = { classes, features: 8, precision: "f32", normalized, voxels: [2, 1, 1, 7] };
    const found = await results(which, device, { paranoid: true });
    assert.ok(found.kernels.includes(kernel));
    compare(found.first, (await results(which, openDevice("cpu"))).first, {
      loss: 1e-6,
      slopes: 1e-6,
      dx: 1e-6,
    });
  }
});

test("heads that do not fit are refused", async () => {
  await Promise.resolve();
  const place = (of: readonly number[], dtype: DType = "f32") => ({ dtype, shape: of, offset: 0 });
  const [sums, logits, labels, scalar] = [place([1, 5, 3]), place([1, 4, 3]), place([1, 4], "u8"), place([])];
  const refuses = (head: ReturnType<typeof place>[], message: RegExp, attributes = {}, output = logits) =>
    assert.throws(
      () =>
        device.native.workspace({
          kernel,
          label: "losses",
          inputs: [sums, ...head, labels, scalar],
          output,
          attributes: { squared: true, background: true, terms: [0, 3, 0, 0, 0], ...attributes },
        }),
      message,
    );
  const [x, w, bias] = [place([1, 4, 8]), place([24]), place([3])];
  refuses([], /it takes features/);
  refuses([place([1, 4, 12], "bf16"), place([36], "bf16"), bias], /12 features and 3 classes is not for it/);
  refuses([place([1, 4, 68]), place([204]), bias], /68 features and 3 classes is not for it/);
  refuses([place([1, 5, 8]), w, bias], /expected 32 elements/);
  refuses([x, place([25]), bias], /expected 24 elements/);
  refuses([x, place([24], "bf16"), bias], /unexpected element type bf16/);
  refuses([x, w, place([2])], /expected 3 elements/);
  refuses([x, w, bias], /it takes features/, { epsilon: 1e-5 });
});

test.run();
