/** Forward ops against onnxruntime, which knows nothing of voxgrad. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { compile } from "../../lib/compile/compile.ts";
import { elements, type Shape, type Value } from "../../lib/graph/value.ts";
import { leakyRelu, prelu } from "../../lib/ops/activation.ts";
import { conv3d, convTranspose3d } from "../../lib/ops/conv.ts";
import { batchNormEval, groupNorm, instanceNorm } from "../../lib/ops/norm.ts";
import { averagePool3d, globalAveragePool, maxPool3d } from "../../lib/ops/pool.ts";
import { resize } from "../../lib/ops/resize.ts";
import { softmax } from "../../lib/ops/softmax.ts";
import { expectClose, random } from "../ops/harness.ts";
import { channelsFirst, channelsLast, type Dense, loadRuntime, modelOf } from "./onnx.ts";

const runtime = await loadRuntime();

interface Comparison {
  readonly op: string;
  readonly opset?: number;
  readonly attributes?: Parameters<typeof modelOf>[2];
  /** Operands in ONNX's order. Those of 5 axes are `[N, D, H, W, C]` or `[Cout, k, k, k, Cin]` and get transposed. */
  readonly operands: Readonly<Record<string, Dense>>;
  /** What ONNX gets instead of `operands`, `""` being absent; default the transposed operands. */
  readonly onnx?: readonly (readonly [string, Dense] | "")[];
  readonly build: (values: Record<string, Value>) => Value;
  readonly tolerance?: number;
}

async function compare(each: Comparison): Promise<void> {
  if (typeof runtime === "string") return;
  const { op, operands, attributes = {}, opset = 17 } = each;
  const given =
    each.onnx ??
    Object.entries(operands).map(([name, x]) => [name, x.shape.length === 5 ? channelsFirst(x) : x] as const);
  const model = modelOf(
    op,
    given.map((input) => (input === "" ? "" : [input[0], input[1].shape])),
    attributes,
    opset,
  );
  const session = await runtime.InferenceSession.create(model, { logSeverityLevel: 3, intraOpNumThreads: 1 });
  const feeds = Object.fromEntries(
    given.flatMap((input) =>
      input === "" ? [] : [[input[0], new runtime.Tensor("float32", input[1].data, input[1].shape)]],
    ),
  );
  const { y: theirs } = await session.run(feeds);
  await session.release();
  const expected = channelsLast({ shape: theirs.dims, data: theirs.data as Float32Array });

  using plan = await compile((graph) => ({
    y: each.build(
      Object.fromEntries(
        Object.entries(operands).map(([name, { shape }]) => [name, graph.input(name, shape)]),
      ),
    ),
  }));
  const { y } = await plan.run(
    Object.fromEntries(Object.entries(operands).map(([name, { data }]) => [name, data])),
  );
  const what = `${op} ${JSON.stringify(attributes)}`;
  assert.equal(plan.graph.outputs.get("y")?.shape, expected.shape, `${what}: shape`);
  expectClose(y, expected.data, each.tolerance ?? 2e-6, what);
}

function dense(shape: Shape, seed: number, map: (value: number) => number = (value) => value): Dense {
  return { shape, data: Float32Array.from(random(elements(shape), seed), map) };
}

/** Registers a test that runs where onnxruntime does. */
function oracle(name: string, body: () => Promise<void>): void {
  if (typeof runtime === "string") test.skip(name, body);
  else test(name, body);
}
if (typeof runtime === "string") console.log(`skipped: ${runtime}`);

test("the oracle runs, or this platform is one that onnxruntime is not built for", () => {
  const built = ["linux-x64", "linux-arm64", "darwin-arm64", "win32-x64", "win32-arm64"];
  const here = `${process.platform}-${process.arch}`;
  if (typeof runtime === "string") assert.not(built.includes(here), runtime);
});

oracle("Conv", async () => {
  const cases = [
    {
      x: [2, 6, 7, 9, 3],
      w: [5, 3, 3, 3, 3],
      stride: [1, 1, 1],
      padding: [1, 1, 1],
      dilation: [1, 1, 1],
      groups: 1,
    },
    {
      x: [1, 9, 8, 7, 8],
      w: [16, 2, 2, 2, 8],
      stride: [2, 2, 2],
      padding: [0, 0, 0],
      dilation: [1, 1, 1],
      groups: 1,
    },
    {
      x: [1, 9, 10, 11, 6],
      w: [4, 3, 3, 3, 3],
      stride: [1, 2, 1],
      padding: [2, 1, 2],
      dilation: [2, 2, 2],
      groups: 2,
    },
    {
      x: [1, 5, 6, 8, 7],
      w: [14, 3, 1, 3, 1],
      stride: [1, 1, 2],
      padding: [1, 0, 1],
      dilation: [1, 1, 1],
      groups: 7,
    },
    {
      x: [1, 1, 17, 15, 9],
      w: [8, 1, 5, 5, 9],
      stride: [1, 2, 3],
      padding: [0, 2, 1],
      dilation: [1, 1, 2],
      groups: 1,
    },
  ] as const;
  for (const { x, w, stride, padding, dilation, groups } of cases)
    await compare({
      op: "Conv",
      operands: { x: dense(x, 1), w: dense(w, 2), b: dense([w[0]], 3) },
      attributes: { strides: stride, pads: [...padding, ...padding], dilations: dilation, group: groups },
      build: ({ x, w, b }) => conv3d(x, w, { stride, padding, dilation, groups, bias: b }),
    });
});

oracle("ConvTranspose", async () => {
  const cases = [
    {
      x: [1, 4, 5, 3, 8],
      w: [8, 2, 2, 2, 5],
      stride: [2, 2, 2],
      padding: [0, 0, 0],
      dilation: [1, 1, 1],
      extra: [0, 0, 0],
      groups: 1,
    },
    {
      x: [2, 3, 4, 5, 6],
      w: [6, 3, 3, 3, 3],
      stride: [2, 2, 2],
      padding: [1, 1, 1],
      dilation: [1, 1, 1],
      extra: [1, 1, 1],
      groups: 1,
    },
    {
      x: [1, 3, 4, 5, 6],
      w: [6, 3, 2, 3, 2],
      stride: [2, 3, 1],
      padding: [1, 0, 2],
      dilation: [2, 1, 2],
      extra: [1, 2, 0],
      groups: 2,
    },
  ] as const;
  for (const { x, w, stride, padding, dilation, extra, groups } of cases)
    await compare({
      op: "ConvTranspose",
      operands: { x: dense(x, 1), w: dense(w, 2), b: dense([w[4] * groups], 3) },
      attributes: {
        strides: stride,
        pads: [...padding, ...padding],
        dilations: dilation,
        output_padding: extra,
        group: groups,
      },
      build: ({ x, w, b }) =>
        convTranspose3d(x, w, { stride, padding, dilation, outputPadding: extra, groups, bias: b }),
    });
});

oracle("InstanceNormalization, GroupNormalization and BatchNormalization", async () => {
  const operands = {
    x: dense([2, 4, 5, 6, 6], 1, (v) => 3 * v + 1),
    gamma: dense([6], 2, (v) => v + 1.5),
    beta: dense([6], 3),
  };
  const epsilon = { float: 1e-3 };
  await compare({
    op: "InstanceNormalization",
    operands,
    attributes: { epsilon },
    build: ({ x, gamma, beta }) => instanceNorm(x, gamma, beta, { epsilon: 1e-3 }),
    tolerance: 4e-6,
  });
  for (const groups of [1, 3])
    await compare({
      op: "GroupNormalization",
      opset: 21,
      operands,
      attributes: { epsilon, num_groups: groups },
      build: ({ x, gamma, beta }) => groupNorm(x, gamma, beta, { groups, epsilon: 1e-3 }),
      tolerance: 4e-6,
    });
  const mean = dense([6], 4);
  const variance = dense([6], 5, (v) => v + 1.25);
  const moments = {
    shape: [1, 6, 2],
    data: Float32Array.from({ length: 12 }, (_, i) => (i % 2 === 0 ? mean : variance).data[i >> 1]),
  };
  const { x, gamma, beta } = operands;
  await compare({
    op: "BatchNormalization",
    operands: { ...operands, moments },
    onnx: [
      ["x", channelsFirst(x)],
      ["gamma", gamma],
      ["beta", beta],
      ["mean", mean],
      ["variance", variance],
    ],
    attributes: { epsilon },
    build: ({ x, gamma, beta, moments }) => batchNormEval(x, moments, gamma, beta, { epsilon: 1e-3 }),
  });
});

oracle("Resize", async () => {
  const x = dense([1, 4, 5, 6, 3], 1);
  const modes = [
    {
      ours: { mode: "linear", alignCorners: true },
      theirs: { mode: "linear", coordinate_transformation_mode: "align_corners" },
    },
    { ours: { mode: "linear" }, theirs: { mode: "linear", coordinate_transformation_mode: "half_pixel" } },
    {
      ours: { mode: "nearest" },
      theirs: { mode: "nearest", coordinate_transformation_mode: "asymmetric", nearest_mode: "floor" },
    },
  ] as const;
  // Ratios that are exact in single precision, so that nearest neighbours are not a matter of rounding.
  const sizes = [
    [8, 10, 12],
    [2, 5, 3],
    [6, 5, 9],
    [16, 1, 6],
  ] as const;
  for (const { ours, theirs } of modes)
    for (const size of sizes) {
      const scales = { shape: [5], data: Float32Array.of(1, 1, size[0] / 4, size[1] / 5, size[2] / 6) };
      await compare({
        op: "Resize",
        operands: { x },
        onnx: [["x", channelsFirst(x)], "", ["scales", scales]],
        attributes: theirs,
        build: ({ x }) => resize(x, { ...ours, size }),
        tolerance: 4e-6,
      });
    }
});

oracle("MaxPool, AveragePool and GlobalAveragePool", async () => {
  const operands = { x: dense([2, 7, 8, 9, 5], 1) };
  const windows = [
    { kernel: [2, 2, 2], stride: [2, 2, 2], padding: [0, 0, 0] },
    { kernel: [3, 3, 3], stride: [2, 1, 3], padding: [1, 1, 1] },
    { kernel: [1, 3, 5], stride: [1, 2, 2], padding: [0, 1, 2] },
  ] as const;
  for (const window of windows) {
    const { kernel, stride, padding } = window;
    const attributes = { kernel_shape: kernel, strides: stride, pads: [...padding, ...padding] };
    await compare({
      op: "MaxPool",
      operands,
      attributes,
      build: ({ x }) => maxPool3d(x, window),
      tolerance: 0,
    });
    for (const countIncludePad of [true, false])
      await compare({
        op: "AveragePool",
        operands,
        attributes: { ...attributes, count_include_pad: countIncludePad ? 1 : 0 },
        build: ({ x }) => averagePool3d(x, { ...window, countIncludePad }),
      });
  }
  await compare({ op: "GlobalAveragePool", operands, build: ({ x }) => globalAveragePool(x) });
});

oracle("Softmax, LeakyRelu and PRelu", async () => {
  for (const channels of [1, 2, 3, 14])
    await compare({
      op: "Softmax",
      operands: { x: dense([1, 3, 4, 5, channels], 1, (v) => 12 * v) },
      attributes: { axis: 1 },
      build: ({ x }) => softmax(x),
    });
  const x = dense([1, 3, 4, 5, 6], 1);
  await compare({
    op: "LeakyRelu",
    operands: { x },
    attributes: { alpha: { float: 0.125 } },
    build: ({ x }) => leakyRelu(x, { slope: 0.125 }),
    tolerance: 0,
  });
  for (const slopes of [1, 6]) {
    const slope = dense([slopes], 2);
    await compare({
      op: "PRelu",
      operands: { x, slope },
      onnx: [
        ["x", channelsFirst(x)],
        ["slope", { shape: [slopes, 1, 1, 1], data: slope.data }],
      ],
      build: ({ x, slope }) => prelu(x, slope),
      tolerance: 0,
    });
  }
});

test.run();
