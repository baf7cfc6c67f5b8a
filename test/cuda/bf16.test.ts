/** Kernels whose activations are stored as bf16, against themselves with floats; what a plan stores so; and training. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { convWork, passes, prepareConv } from "../../lib/bench/conv.ts";
import { upperHalves } from "../../lib/bench/fill.ts";
import { measureMemory } from "../../lib/bench/memory.ts";
import { gradients } from "../../lib/autograd/gradients.ts";
import { planOnly } from "../../lib/compile/compile.ts";
import { takes } from "../../lib/compile/precision.ts";
import { Graph } from "../../lib/graph/graph.ts";
import { elements, type TensorType, type Value } from "../../lib/graph/value.ts";
import { leakyRelu, relu } from "../../lib/ops/activation.ts";
import { add, mul, scale, sum } from "../../lib/ops/arithmetic.ts";
import { dropout } from "../../lib/ops/dropout.ts";
import { batchNorm, instanceNorm } from "../../lib/ops/norm.ts";
import {
  normalizeAddRelu,
  normalizeRelu,
  normalizeReluAdd,
  normalizeReluSum,
} from "../../lib/ops/norm_fused.ts";
import { averagePool3d, globalAveragePool, maxPool3d } from "../../lib/ops/pool.ts";
import { sumToChannels } from "../../lib/ops/reduce.ts";
import { resize } from "../../lib/ops/resize.ts";
import { concat, slice } from "../../lib/ops/shape.ts";
import type { StepSpec } from "../../lib/runtime/native.ts";
import { makeConfig } from "../../lib/train/config.ts";
import { recipeNamed } from "../../lib/train/recipes/index.ts";
import { makeLearners, traceStep } from "../../lib/train/step.ts";
import { expectClose, random } from "../ops/harness.ts";
import { kernelDevice as device } from "./devices.ts";
import { narrowed } from "./narrowed.ts";
import { runStep } from "./run_step.ts";

/** Every op that takes bf16 but for convolutions, with gradients; of channels that fill whole vectors or do not. */
function graphOf(channels: number): Graph {
  const graph = new Graph();
  const [x, z] = ["x", "z"].map((name) => graph.input(name, [2, 3, 4, 5, channels]));
  const [gamma, beta] = ["gamma", "beta"].map((name) => graph.input(name, [channels]));
  const moments = graph.input("moments", [1, channels, 2]);
  const key = graph.input("key", [2], "i32");
  const norm = { batch: true };
  const results = [
    batchNorm(x, gamma, beta).y,
    instanceNorm(x, gamma, beta),
    normalizeRelu(x, moments, gamma, beta, norm),
    normalizeReluAdd(x, moments, gamma, beta, z, norm),
    normalizeAddRelu(x, moments, gamma, beta, z, { batch: false }),
    normalizeReluSum([x, moments, gamma, beta], [z, moments, gamma, beta], norm),
    relu(x),
    leakyRelu(x),
    add(x, z),
    mul(x, z),
    scale(x, -3),
    dropout(x, key, { rate: 0.5, stream: 1 }),
    dropout(x, key, { rate: 0.25, stream: 2, channels: true }),
    concat([x, z, x], { axis: 4 }),
    slice(x, { axis: 4, start: 1, length: channels - 2 }),
    maxPool3d(x, { kernel: 3, stride: 2, padding: 1 }),
    averagePool3d(x, { kernel: [1, 2, 3], padding: [0, 1, 1], countIncludePad: false }),
    globalAveragePool(x),
    resize(x, { size: [5, 3, 7], mode: "linear" }),
    resize(x, { size: [2, 8, 5], mode: "nearest" }),
  ];
  for (const y of results) {
    sumToChannels(y);
    gradients(sum(mul(y, graph.input(`dy${y.id}`, y.shape))), [x, z]);
  }
  return graph;
}

const floatsOf = (halves: ArrayLike<number>) =>
  new Float32Array(Uint32Array.from(halves, (half) => half << 16).buffer);

/** Contents of an input in either type, the same numbers; of moments and their like positive ones. */
function contents({ op, dtype, shape }: Value, seed: number, stored: TensorType) {
  const values = random(elements(shape), seed);
  if (dtype === "i32") return [0, 1].map(() => Int32Array.from(values, (value) => value * 100));
  const positive = op === "moments" || shape.length === 3;
  const floats = Float32Array.from(values, (value) => (positive ? value + 1.5 : value));
  if (stored.dtype !== "bf16") return [floats, floats];
  const halves = upperHalves(floats);
  return [floatsOf(halves), halves];
}

const tried = new Set<string>();
for (const channels of [8, 5])
  test(`every kernel reads and writes bf16 as it does floats, of ${channels} channels`, async () => {
    for (const node of graphOf(channels).nodes) {
      const short = narrowed(node);
      if (short === undefined) continue;
      tried.add(node.op);
      const place = ({ dtype, shape }: TensorType) => ({ dtype, shape, offset: 0 });
      const steps: StepSpec[] = [
        {
          kernel: node.op,
          label: node.op,
          inputs: node.inputs.map(place),
          output: place(node),
          attributes: node.attributes,
        },
        { ...short, label: node.op, inputs: short.inputs.map(place), output: place(short.output) },
      ];
      const data = node.inputs.map((input, i) => contents(input, node.id * 7 + i, short.inputs[i]));
      const [[long], [found]] = await Promise.all(
        steps.map((step, which) =>
          runStep(
            device,
            step,
            data.map((each) => each[which]),
          ),
        ),
      );
      const expected = new Float32Array(long);
      const what = `${node.op} #${node.id}`;
      if (short.output.dtype !== "bf16") expectClose(new Float32Array(found), expected, 1e-6, what);
      else expectClose(floatsOf(new Uint16Array(found)), expected, 2 ** -8, what);
    }
  });

test("all that may be bf16 was tried", () => {
  // Tests of their own hold those that multiply.
  const others = Object.keys(takes).filter((name) => !/^(conv3d|aspp)/.test(name));
  assert.equal([...tried].sort(), others.sort());
});

test("of a training step, activations between convolutions are bf16; logits, losses and gradients of weights are not", () => {
  const settings = { networks: ["vnet"], patch: [64, 64, 64], baseChannels: 8 };
  const config = makeConfig("recommended", settings);
  const recipe = recipeNamed("supervised");
  const plans = (["f32", "bf16"] as const).map((precision) => {
    const learners = makeLearners(config);
    return planOnly((graph) => traceStep(graph, config, recipe, learners), { device, precision });
  });
  const [wide, narrow] = plans;
  assert.ok(
    narrow.layout.arenaBytes < 0.62 * wide.layout.arenaBytes,
    `${narrow.layout.arenaBytes} of ${wide.layout.arenaBytes} bytes`,
  );
  const { nodes } = narrow.graph;
  const short = nodes.filter(({ dtype }) => dtype === "bf16");
  for (const op of ["normalizeRelu", "normalizeInputGradient", "conv3dPacked", "conv3dPackWeights"])
    assert.ok(
      short.some((node) => node.op === op),
      `no ${op} is bf16`,
    );
  for (const { op, dtype, shape } of nodes)
    if (dtype === "bf16") assert.ok(shape.length === 5 || op === "conv3dPackWeights", op);
    else if (shape.length === 5 && shape[0] === 2 && shape[1] > 1)
      assert.ok(shape[4] <= 2, `${op} is ${dtype}`);
  // The image, the gradient of the logits, and nothing in between.
  assert.is(nodes.filter(({ op }) => op === "cast").length, 2);
});

test("a convolution is measured with activations that are bf16 to begin with", async () => {
  const [stride, padding, dilation] = [1, 1, 1].map((each) => [each, each, each]);
  const extents = { input: [1, 3, 4, 5, 8], output: [1, 3, 4, 5, 16], kernel: [3, 3, 3] };
  const shape = {
    name: "small",
    ...extents,
    stride,
    padding,
    dilation,
    groups: 1,
    transposed: false,
    count: 1,
  };
  for (const pass of passes) {
    const signal = new AbortController().signal;
    using conv = await prepareConv(shape, pass, { device, precision: "bf16" }, signal);
    assert.is(conv.packing === undefined, pass === "weight gradient");
  }
  assert.is(convWork(shape, "bf16").bytes * 2, convWork(shape).bytes);
});

test("a step in bf16 takes less of the device's memory, and no more than its plan says", async () => {
  const small = {
    patch: [16, 16, 16],
    labeled: 2,
    unlabeled: 0,
    baseChannels: 4,
    classes: 2,
    dropout: 0,
  } as const;
  const shape = { name: "small", recipe: "supervised", networks: ["vnet"], ...small };
  const taken = async (precision: "f32" | "bf16") => {
    const { planned, idle, peak } = await measureMemory(
      shape,
      { device, precision },
      new AbortController().signal,
    );
    assert.is(peak - idle, planned);
    return peak;
  };
  assert.ok((await taken("bf16")) < (await taken("f32")));
});

test.run();
