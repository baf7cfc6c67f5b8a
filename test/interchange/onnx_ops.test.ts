/** Every op that ONNX export knows, by itself, in onnxruntime against our own plan. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { compile } from "../../lib/compile/compile.ts";
import { State } from "../../lib/graph/state.ts";
import { elements, type Shape, type Value } from "../../lib/graph/value.ts";
import { encodeOnnx } from "../../lib/interchange/onnx.ts";
import { translations } from "../../lib/interchange/onnx_ops.ts";
import { leakyRelu, prelu, relu } from "../../lib/ops/activation.ts";
import { add, mul, scale } from "../../lib/ops/arithmetic.ts";
import { constant } from "../../lib/ops/constant.ts";
import { aspp } from "../../lib/ops/aspp.ts";
import { conv3d, convTranspose3d } from "../../lib/ops/conv.ts";
import { batchNorm, batchNormEval, instanceNorm } from "../../lib/ops/norm.ts";
import { averagePool3d, globalAveragePool, maxPool3d } from "../../lib/ops/pool.ts";
import { resize } from "../../lib/ops/resize.ts";
import { concat, slice } from "../../lib/ops/shape.ts";
import { softmax } from "../../lib/ops/softmax.ts";
import { channelsFirst, loadRuntime } from "../oracle/onnx.ts";
import { expectClose, random } from "../ops/harness.ts";
import { decodeModel, slicesApart } from "./onnx_file.ts";

const runtime = await loadRuntime();

const weights = new Map<State, Float32Array>();

/** A state of random numbers, positive ones on request. */
function state(name: string, shape: Shape, positive = false): State {
  const data = Float32Array.from(random(elements(shape), weights.size + 1), (value) =>
    positive ? Math.abs(value) + 0.5 : value,
  );
  const made = new State(name, shape, { initial: () => data });
  weights.set(made, data);
  return made;
}

const encode = async (trace: (image: Value) => Value, channels: number, opset?: number) => {
  const read = (each: State) => Promise.resolve(weights.get(each) as Float32Array);
  const { bytes, flat } = await encodeOnnx({ trace, channels, divisor: [1, 1, 1] }, read, { opset });
  return { file: Buffer.concat(bytes), flat };
};

const used = new Set<string>();

interface Example {
  readonly flat: boolean;
  readonly trace: (image: Value) => Value;
  readonly opset?: number;
}

/** Runs a model at two shapes of its input, neither that of a trace. */
async function compare({ trace, flat, opset }: Example): Promise<void> {
  const channels = 4;
  const model = await encode(trace, channels, opset);
  assert.is(model.flat, flat);
  for (const shape of [
    [1, 6, 7, 9, channels],
    [3, 8, 10, 5, channels],
  ]) {
    const data = Float32Array.from(random(elements(shape), 31 + shape[0]));
    let found: Shape = [];
    using plan = await compile((graph) => {
      const y = trace(graph.input("image", shape));
      for (const { op } of graph.nodes) used.add(op);
      found = y.shape;
      return { y };
    });
    if (typeof runtime === "string") continue;
    const { y } = await plan.run({ image: data });
    const session = await runtime.InferenceSession.create(model.file, { intraOpNumThreads: 1 });
    const image = flat ? slicesApart(channelsFirst({ shape, data })) : channelsFirst({ shape, data });
    const { probabilities } = await session.run({
      image: new runtime.Tensor("float32", image.data, image.shape),
    });
    await session.release();
    const own = channelsFirst({ shape: found, data: y as Float32Array });
    const expected = flat ? slicesApart(own) : own;
    assert.equal(probabilities.dims, expected.shape);
    expectClose(probabilities.data as Float32Array, expected.data, 2e-6, shape.join("x"));
  }
}

const flatWeight = state("flat.weight", [6, 1, 3, 2, 2]);
const weight = state("weight", [6, 3, 2, 1, 4]);
const bias = state("bias", [6]);
const upWeight = state("up.weight", [4, 2, 3, 1, 3]);
const [gamma, beta] = [state("gamma", [4]), state("beta", [4])];
const moments = state("moments", [1, 4, 2], true);
const [slope, slopes] = [state("slope", [1]), state("slopes", [4])];
const atrous = state("atrous", [5, 1, 3, 3, 4]);
const pointwise = state("pointwise", [5, 1, 1, 1, 4]);
const deep = state("deep", [5, 3, 3, 1, 4]);
const gate = state("gate", [4, 1, 1, 1, 4]);

const examples: Record<string, Example> = {
  "conv3d in volumes": {
    flat: false,
    trace: (x) => conv3d(x, weight, { bias, stride: [2, 1, 2], padding: [1, 2, 0], dilation: [1, 3, 1] }),
  },
  "conv3d in slices and groups": {
    flat: true,
    trace: (x) => conv3d(x, flatWeight, { stride: [1, 2, 1], padding: [0, 1, 1], groups: 2 }),
  },
  "aspp in slices": {
    flat: true,
    trace: (x) => aspp(x, [pointwise, atrous, atrous], { dilations: [1, [1, 2, 2], [1, 3, 5]] }),
  },
  "aspp in volumes": { flat: false, trace: (x) => aspp(x, [deep, pointwise], { dilations: [2, 1] }) },
  convTranspose3d: {
    flat: false,
    trace: (x) =>
      convTranspose3d(x, upWeight, { stride: [2, 3, 1], padding: [0, 1, 0], outputPadding: [1, 0, 0] }),
  },
  batchNormEval: { flat: true, trace: (x) => batchNormEval(x, moments, gamma, beta, { epsilon: 1e-3 }) },
  "relu and leakyRelu": { flat: true, trace: (x) => add(relu(x), leakyRelu(x, { slope: 0.3 })) },
  "prelu with one slope and with many": { flat: true, trace: (x) => prelu(prelu(x, slopes), slope) },
  "prelu in volumes": { flat: false, trace: (x) => maxPool3d(prelu(x, slopes), { kernel: [2, 1, 1] }) },
  arithmetic: {
    flat: true,
    trace: (x) => mul(add(scale(x, 1.5), constant(x.graph, 0.25)), x),
  },
  "concat of channels and of slices": {
    flat: false,
    trace: (x) => concat([concat([x, x], { axis: -1 }), concat([x, relu(x)], { axis: 4 })], { axis: 1 }),
  },
  "concat of rows": { flat: true, trace: (x) => concat([x, relu(x)], { axis: 2 }) },
  maxPool3d: { flat: true, trace: (x) => maxPool3d(x, { kernel: [1, 3, 2], padding: [0, 1, 0] }) },
  averagePool3d: {
    flat: false,
    trace: (x) => averagePool3d(x, { kernel: 3, stride: [2, 1, 1], padding: 1, countIncludePad: false }),
  },
  "averagePool3d with its padding": {
    flat: true,
    trace: (x) => averagePool3d(x, { kernel: [1, 3, 3], padding: [0, 1, 1] }),
  },
  "globalAveragePool, brought back by an expansion": {
    flat: false,
    trace: (x) => add(x, resize(globalAveragePool(x), { size: size(x), mode: "nearest" })),
  },
  "the mean of every slice": {
    flat: true,
    trace: (x) =>
      mul(
        x,
        resize(averagePool3d(x, { kernel: [1, x.shape[2], x.shape[3]] }), { size: size(x), mode: "linear" }),
      ),
  },
  "the mean along one axis, in an old and a new opset": {
    flat: false,
    trace: (x) => maxPool3d(averagePool3d(x, { kernel: [1, x.shape[2], 1] }), { kernel: [2, 1, 1] }),
  },
  "resize with corners aligned": {
    flat: true,
    trace: (x) =>
      resize(maxPool3d(x, { kernel: [1, 2, 2] }), { size: size(x), mode: "linear", alignCorners: true }),
  },
  "resize in volumes": {
    flat: false,
    trace: (x) => resize(maxPool3d(x, { kernel: 2 }), { size: size(x), mode: "linear" }),
  },
  "softmax with a temperature": { flat: true, trace: (x) => softmax(softmax(x, { temperature: 0.2 })) },
};

function size({ shape: [, depth, height, width] }: Value): [number, number, number] {
  return [depth, height, width];
}

for (const [name, example] of Object.entries(examples))
  test(name, async () => {
    await compare(example);
    await compare({ ...example, opset: 22 });
  });

test("every translation was in a model", () => {
  assert.equal(
    Object.keys(translations).filter((op) => !used.has(op)),
    [],
  );
});

test("states have their names, and a name that is taken gets a number", async () => {
  const { file } = await encode((x) => conv3d(conv3d(x, gate), gate), 4);
  const model = decodeModel(file);
  const names = model.graph?.initializer?.map(({ name }) => name);
  assert.equal(names, ["gate", "gate_2"]);
});

const refusals: Record<string, [trace: (image: Value) => Value, message: RegExp]> = {
  "an op without a translation": [
    (x) => x.graph.scope("head.norm", () => instanceNorm(x, gamma, beta)),
    /op moments of head\.norm cannot be exported: ONNX export knows .*normalize/,
  ],
  "batch statistics": [(x) => batchNorm(x, gamma, beta).y, /op moments cannot be exported/],
  "a slice": [(x) => slice(x, { axis: 1, start: 0, length: 1 }), /op slice cannot be exported/],
  "weights that are computed": [
    (x) => conv3d(x, scale(x.graph.read(gate), 2)),
    /state gate is an operand of an op that has none/,
  ],
  "a size that no tensor has": [
    (x) => resize(x, { size: [3, 3, 3], mode: "linear" }),
    /op resize cannot be exported: no tensor before it has the size 3x3x3/,
  ],
  "nearest neighbours": [
    (x) => resize(maxPool3d(x, { kernel: 2 }), { size: size(x), mode: "nearest" }),
    /op resize cannot be exported: .*use mode linear/,
  ],
  "a window that grows with the image": [
    (x) => averagePool3d(x, { kernel: [1, x.shape[2] - 1, 1] }),
    /op averagePool3d cannot be exported: its window depends on the extents/,
  ],
  "another network for larger images": [
    (x) => (x.shape[2] > 4 ? relu(x) : softmax(x)),
    /other ops at other extents/,
  ],
};

for (const [name, [trace, message]] of Object.entries(refusals))
  test(`${name}: refused`, async () => {
    let error: unknown;
    await encode(trace, 4).catch((thrown: unknown) => (error = thrown));
    assert.instance(error, Error);
    assert.is((error as { code?: string }).code, "ERR_USAGE");
    assert.match((error as Error).message, message);
  });

test.run();
