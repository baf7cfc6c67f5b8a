import { test } from "uvu";
import * as assert from "uvu/assert";
import { gradients } from "../../lib/autograd/gradients.ts";
import { compile } from "../../lib/compile/compile.ts";
import { Graph } from "../../lib/graph/graph.ts";
import { elements, type Shape } from "../../lib/graph/value.ts";
import { mul, sum } from "../../lib/ops/arithmetic.ts";
import { conv3d, type ConvOptions, convTranspose3d, type PerAxis } from "../../lib/ops/conv.ts";
import {
  conv,
  convBiasGradient,
  type ConvGeometry,
  convInputGradient,
  convShape,
  convWeightGradient,
  plain,
} from "../oracle/conv.ts";
import { pairwise } from "../oracle/pairwise.ts";
import { checkOp, expectClose, random } from "./harness.ts";

type Triple = readonly [number, number, number];

interface Case {
  readonly x: Shape;
  readonly w: Shape;
  readonly geometry: ConvGeometry;
}

const all = (n: number): Triple => [n, n, n];
const optionsOf = ({ stride, padding, dilation, groups }: ConvGeometry) =>
  ({ stride, padding, dilation, groups }) as unknown as ConvOptions;
const label = ({ x, w, geometry }: Case) =>
  `x [${x.join()}] w [${w.join()}] stride ${geometry.stride.join("x")} padding ${geometry.padding.join("x")} ` +
  `dilation ${geometry.dilation.join("x")} groups ${geometry.groups}`;

function dense(shape: Shape, seed: number) {
  return { shape, data: random(elements(shape), seed) };
}

/** Value and all gradients of one convolution, or of its transpose, against the reference, in one plan. */
async function checkConv(each: Case, transposed = false): Promise<void> {
  const { geometry } = each;
  const ySpatial = convShape(each.x, each.w, geometry);
  // The transposed convolution takes what the convolution yields, and yields what that takes.
  const [from, to] = transposed ? [ySpatial, each.x] : [each.x, ySpatial];
  const x = dense(from, 1);
  const w = dense(each.w, 2);
  const bias = dense([to[4]], 3);
  const dy = dense(to, 4);
  const outputPadding = [0, 1, 2].map((axis) => {
    const { stride, padding, dilation } = geometry;
    return (
      each.x[axis + 1] +
      2 * padding[axis] -
      dilation[axis] * (each.w[axis + 1] - 1) -
      1 -
      (ySpatial[axis + 1] - 1) * stride[axis]
    );
  }) as unknown as PerAxis;

  using plan = await compile(
    (graph) => {
      const inputs = {
        x: graph.input("x", from),
        w: graph.input("w", w.shape),
        bias: graph.input("bias", bias.shape),
      };
      const options = { ...optionsOf(geometry), bias: inputs.bias };
      const y = transposed
        ? convTranspose3d(inputs.x, inputs.w, { ...options, outputPadding })
        : conv3d(inputs.x, inputs.w, options);
      const loss = sum(mul(y, graph.input("dy", to)));
      const [dx, dw, dbias] = gradients(loss, Object.values(inputs));
      return { y, dx, dw, dbias };
    },
    { paranoid: true },
  );
  assert.equal(plan.graph.outputs.get("y")?.shape, to);
  const found = await plan.run({
    x: Float32Array.from(x.data),
    w: Float32Array.from(w.data),
    bias: Float32Array.from(bias.data),
    dy: Float32Array.from(dy.data),
  });
  const expected = transposed
    ? {
        y: convInputGradient(x, w, to, geometry, bias),
        dx: conv(dy, w, geometry),
        dw: convWeightGradient(dy, x, w.shape, geometry),
      }
    : {
        y: conv(x, w, geometry, bias),
        dx: convInputGradient(dy, w, from, geometry),
        dw: convWeightGradient(x, dy, w.shape, geometry),
      };
  const what = label(each);
  expectClose(found.y, expected.y.data, 2e-6, `y of ${what}`);
  expectClose(found.dx, expected.dx.data, 2e-6, `dx of ${what}`);
  expectClose(found.dw, expected.dw.data, 4e-6, `dw of ${what}`);
  expectClose(found.dbias, convBiasGradient(dy), 2e-6, `dbias of ${what}`);
}

const kernels: readonly Triple[] = [all(1), all(2), all(3), [1, 3, 2], [3, 1, 1], all(5)];
const grouping = ["1", "2", "depthwise"] as const;

function caseOf(choice: {
  stride: Triple;
  padding: Triple;
  dilation: Triple;
  kernel: Triple;
  size: Triple;
  inputs: number;
  outputs: number;
  groups: (typeof grouping)[number];
}): Case {
  const { stride, padding, dilation, kernel, size, inputs, outputs } = choice;
  const groups = choice.groups === "depthwise" ? inputs : Number(choice.groups);
  const perGroup = choice.groups === "depthwise" ? 1 : inputs;
  const channels = perGroup * groups;
  const filters = choice.groups === "depthwise" ? channels * (outputs > 8 ? 2 : 1) : outputs * groups;
  return {
    x: [2, ...size, channels],
    w: [filters, ...kernel, perGroup],
    geometry: { stride, padding, dilation, groups },
  };
}

const fits = (choice: Parameters<typeof caseOf>[0]) => {
  const { x, w, geometry } = caseOf(choice);
  const y = convShape(x, w, geometry);
  return y.every((extent) => extent >= 1) && (elements(y) * elements(w)) / w[0] < 1.5e6;
};

test("conv3d and its gradients over pairs of stride, padding, dilation, kernel, size, channels and groups", async () => {
  const cases = pairwise(
    {
      stride: [all(1), all(2), all(3), [1, 2, 3] as Triple],
      padding: [all(0), all(1), all(2), [0, 2, 1] as Triple],
      dilation: [all(1), all(2), all(3), [1, 3, 2] as Triple],
      kernel: kernels,
      size: [
        [5, 7, 6],
        [3, 4, 19],
        [9, 5, 13],
      ] as Triple[],
      inputs: [1, 3, 5, 8, 9, 17],
      outputs: [1, 3, 5, 8, 9, 17],
      groups: grouping,
    },
    fits,
  );
  assert.ok(cases.length >= 36, `only ${cases.length} cases`);
  for (const each of cases) await checkConv(caseOf(each));
});

test("convTranspose3d and its gradients, output padding included", async () => {
  const cases = pairwise(
    {
      stride: [all(1), all(2), all(3), [1, 2, 2] as Triple],
      padding: [all(0), all(1)],
      dilation: [all(1), all(2)],
      kernel: [all(2), all(3), [1, 3, 2] as Triple],
      size: [
        [5, 7, 6],
        [4, 6, 11],
      ] as Triple[],
      inputs: [1, 3, 8, 17],
      outputs: [1, 5, 9],
      groups: grouping,
    },
    fits,
  );
  for (const each of cases) await checkConv(caseOf(each), true);
});

const small: readonly Case[] = [
  { x: [1, 3, 4, 5, 3], w: [2, 2, 3, 2, 3], geometry: plain },
  {
    x: [1, 4, 3, 5, 2],
    w: [4, 3, 1, 3, 1],
    geometry: { stride: [2, 1, 2], padding: [1, 0, 2], dilation: [1, 2, 2], groups: 2 },
  },
  {
    x: [2, 1, 4, 4, 3],
    w: [3, 1, 3, 3, 1],
    geometry: { stride: all(1), padding: [0, 1, 1], dilation: all(1), groups: 3 },
  },
];

test("gradients of conv3d by finite differences", async () => {
  for (const { x, w, geometry } of small)
    await checkOp({
      inputs: { x: { shape: x }, w: { shape: w }, bias: { shape: [w[0]] } },
      build: ({ x, w, bias }) => conv3d(x, w, { ...optionsOf(geometry), bias }),
      reference: ({ x, w, bias }) => conv(x, w, geometry, bias).data,
    });
});

test("gradients of convTranspose3d by finite differences", async () => {
  for (const { x, w, geometry } of small) {
    const filters = w[4] * geometry.groups;
    // These weights are read as [Cin, k, k, k, Cout / groups].
    const shape = [x[0], ...convShape(x, w, geometry).slice(1, 4), w[0]];
    const spatial = [0, 1, 2].map(
      (axis) =>
        (shape[axis + 1] - 1) * geometry.stride[axis] -
        2 * geometry.padding[axis] +
        geometry.dilation[axis] * (w[axis + 1] - 1) +
        1,
    );
    await checkOp({
      inputs: { x: { shape }, w: { shape: w }, bias: { shape: [filters] } },
      build: ({ x, w, bias }) => convTranspose3d(x, w, { ...optionsOf(geometry), bias }),
      reference: ({ x, w, bias }) =>
        convInputGradient(x, w, [shape[0], ...spatial, filters], geometry, bias).data,
    });
  }
});

test("second derivatives: each gradient of conv3d differentiates again", async () => {
  const x = [1, 2, 4, 3, 2];
  const w = [3, 2, 2, 3, 2];
  const geometry = { ...plain, stride: [1, 2, 1], padding: [1, 0, 1] };
  const inputs = { x: { shape: x }, w: { shape: w } };
  for (const target of ["x", "w"] as const)
    await checkOp({
      inputs,
      build: (values) => {
        const y = conv3d(values.x, values.w, optionsOf(geometry));
        return gradients(sum(mul(y, y)), [values[target]])[0];
      },
      reference: ({ x, w }) => {
        const y = conv(x, w, geometry);
        const dy = { shape: y.shape, data: y.data.map((v) => 2 * v) };
        return target === "x"
          ? convInputGradient(dy, w, x.shape, geometry).data
          : convWeightGradient(x, dy, w.shape, geometry).data;
      },
    });
});

test("a 2-D slice has depth 1", async () => {
  for (const [kernel, groups] of [
    [3, 1],
    [1, 1],
    [3, 9],
  ] as const)
    await checkConv({
      x: [2, 1, 13, 17, 9],
      w: [9, 1, kernel, kernel, 9 / groups],
      geometry: { ...plain, stride: [1, 2, 2], padding: [0, 1, 1], groups },
    });
});

test("dilation 6 as in spatial pyramids: most taps read padding", async () => {
  for (const size of [
    [1, 9, 10],
    [7, 5, 6],
  ] as Triple[]) {
    const flat = size[0] === 1;
    const reach: Triple = flat ? [0, 6, 6] : all(6);
    const geometry = { ...plain, padding: reach, dilation: flat ? [1, 6, 6] : all(6) };
    await checkConv({ x: [1, ...size, 8], w: [5, flat ? 1 : 3, 3, 3, 8], geometry });
    await checkConv({
      x: [1, ...size, 8],
      w: [8, flat ? 1 : 3, 3, 3, 1],
      geometry: { ...geometry, groups: 8 },
    });
  }
});

test("no tap reaches the source: zeros, and gradients of zero", async () => {
  await checkConv({
    x: [1, 2, 3, 4, 4],
    w: [4, 2, 2, 2, 4],
    geometry: { ...plain, stride: [7, 5, 3], padding: all(5), dilation: [3, 6, 2] },
  });
});

test("many channels: products of one tap at a time, over rows of any length and in chunks of channels", async () => {
  const pad = (padding: Triple) => ({ ...plain, padding });
  for (const each of [
    { x: [2, 3, 4, 5, 70], w: [68, 3, 3, 3, 70], geometry: pad(all(1)) },
    { x: [3, 2, 2, 1, 64], w: [72, 3, 3, 3, 64], geometry: pad(all(1)) },
    { x: [1, 1, 9, 15, 300], w: [35, 1, 3, 3, 300], geometry: { ...pad([0, 1, 1]), stride: [1, 2, 2] } },
    { x: [1, 1, 6, 7, 33], w: [290, 1, 3, 3, 33], geometry: { ...pad([0, 0, 2]), stride: [1, 1, 3] } },
    { x: [1, 1, 13, 14, 66], w: [66, 1, 3, 3, 66], geometry: { ...pad([0, 6, 6]), dilation: [1, 6, 6] } },
    { x: [1, 1, 3, 23, 64], w: [64, 1, 2, 3, 64], geometry: { ...pad([0, 1, 18]), dilation: [1, 1, 18] } },
    { x: [2, 1, 4, 9, 144], w: [136, 1, 3, 2, 72], geometry: { ...pad([0, 1, 1]), groups: 2 } },
  ])
    await checkConv(each);
  await checkConv(
    { x: [1, 3, 4, 7, 64], w: [64, 3, 3, 3, 64], geometry: { ...pad(all(1)), stride: all(2) } },
    true,
  );
});

test("larger volumes, shared out among the threads", async () => {
  await checkConv({ x: [1, 18, 21, 26, 8], w: [8, 3, 3, 3, 8], geometry: { ...plain, padding: all(1) } });
  await checkConv({ x: [1, 26, 22, 30, 3], w: [16, 2, 2, 2, 3], geometry: { ...plain, stride: all(2) } });
  await checkConv(
    { x: [1, 26, 22, 30, 3], w: [16, 2, 2, 2, 3], geometry: { ...plain, stride: all(2) } },
    true,
  );
  await checkConv({ x: [2, 1, 65, 70, 5], w: [9, 1, 3, 3, 5], geometry: { ...plain, padding: [0, 1, 1] } });
});

test("blocks that do not overlap, pointwise kernels and stems, with channels and extents that fill no vector", async () => {
  const of = (x: Shape, filters: number, kernel: Triple, stride: Triple, padding: Triple = all(0)): Case => ({
    x,
    w: [filters, ...kernel, x[4]],
    geometry: { ...plain, stride, padding },
  });
  const cases = [
    ...[1, 3, 5, 17].flatMap((channels) => [
      of([1, 4, 6, 8, channels], 33, all(2), all(2)),
      of([2, 5, 7, 11, channels], 17, all(2), all(2)),
      of([2, 3, 5, 9, channels], 40, all(1), all(1)),
      of([1, 5, 4, 13, 40], channels, all(1), [2, 1, 3]),
    ]),
    // So few output channels that lanes are input channels; the last case is more than one task.
    ...[1, 2, 3].flatMap((filters) => [16, 5, 33].map((c) => of([2, 3, 5, 3, c], filters, all(1), all(1)))),
    of([1, 15, 17, 19, 16], 2, all(1), all(1)),
    // Taps that leave gaps, voxels behind the last block, several slabs of voxels.
    of([1, 5, 4, 19, 16], 50, [2, 1, 3], [3, 2, 4]),
    of([2, 16, 17, 18, 16], 16, all(2), all(2)),
    // The same read where they lie, and output channels in ranges.
    of([2, 1, 64, 67, 32], 70, all(1), [1, 2, 2]),
    of([1, 5, 6, 7, 64], 140, all(1), all(2)),
    // Long rows, whose tiles clear what lies between the voxels of the next row.
    of([1, 21, 19, 54, 5], 24, all(1), all(2)),
    of([1, 9, 40, 60, 6], 20, [1, 2, 1], [2, 3, 2]),
    of([1, 1, 130, 60, 6], 3, all(1), [1, 2, 2]),
    of([1, 12, 14, 13, 20], 13, all(1), all(1)),
    // Lines of neighbours, and runs that are cut for want of registers.
    of([2, 6, 5, 24, 1], 24, all(3), all(1), all(1)),
    of([1, 9, 8, 16, 1], 35, all(7), all(1), all(3)),
    of([1, 5, 9, 15, 3], 16, [3, 1, 7], [1, 2, 1], [0, 2, 3]),
    of([1, 4, 9, 22, 4], 19, [1, 3, 9], [2, 1, 2], [1, 0, 4]),
    of([1, 1, 33, 35, 2], 16, [1, 5, 5], [1, 2, 2], [0, 2, 2]),
    // Blocks of several planes and rows; planes that read nothing but padding.
    of([1, 20, 18, 8, 1], 16, all(3), all(1), all(1)),
    of([2, 1, 160, 20, 3], 16, [1, 5, 5], [1, 2, 2], [0, 2, 2]),
    of([2, 5, 40, 20, 2], 16, [2, 3, 3], [1, 2, 1], [3, 4, 1]),
  ];
  for (const each of cases) {
    await checkConv(each);
    await checkConv(each, true);
  }
  await checkConv({
    x: [1, 9, 8, 12, 1],
    w: [16, 3, 3, 3, 1],
    geometry: { ...plain, padding: [2, 3, 1], dilation: [2, 3, 1] },
  });
});

test("what does not fit is refused with the shapes and the expectation", () => {
  const graph = new Graph();
  const x = graph.input("x", [1, 4, 4, 4, 6]);
  const w = graph.input("w", [4, 3, 3, 3, 6]);
  const refuses = (expected: RegExp, trace: () => unknown) => {
    assert.throws(trace, (error: Error & { code?: string }) => {
      assert.is(error.code, "ERR_SHAPE");
      assert.match(error.message, expected);
      return true;
    });
  };
  refuses(/conv3d: weight f32\[4,3,3,3,6\] in 2 groups does not fit the channels of f32\[1,4,4,4,6\]/, () =>
    conv3d(x, w, { groups: 2 }),
  );
  refuses(/conv3d: f32\[1,4,4,4,6\] is smaller than the dilated kernel of f32\[4,3,3,3,6\]/, () =>
    conv3d(x, w, { dilation: 2 }),
  );
  refuses(/conv3d: stride and dilation must be whole numbers from 1.*found stride 0x0x0/, () =>
    conv3d(x, w, { stride: 0 }),
  );
  refuses(/padding from 0.*found .*padding 1x-1x1/, () => conv3d(x, w, { padding: [1, -1, 1] }));
  refuses(/found stride 1.5x1x1/, () => conv3d(x, w, { stride: [1.5, 1, 1] }));
  refuses(/padding 1000000000x/, () => conv3d(x, w, { padding: 1e9 }));
  refuses(/conv3d: groups must be a whole number from 1, found 0/, () => conv3d(x, w, { groups: 0 }));
  refuses(/conv3d: the bias must have shape \[4\], found f32\[6\]/, () =>
    conv3d(x, w, { bias: graph.input("b", [6]) }),
  );
  refuses(/conv3d: the bias must be f32, found u8\[4\]/, () =>
    conv3d(x, w, { bias: graph.input("u", [4], "u8") }),
  );
  refuses(/the input \[N, D, H, W, C\] must have 5 axes, found f32\[4,4,6\]/, () =>
    conv3d(graph.input("flat", [4, 4, 6]), w),
  );
  refuses(/the input must be f32, found u8/, () => conv3d(graph.input("bytes", [1, 4, 4, 4, 6], "u8"), w));
  refuses(/convTranspose3d: outputPadding must be from 0 to below the stride, found 2x2x2/, () =>
    convTranspose3d(graph.input("y", [1, 2, 2, 2, 4]), w, { stride: 2, outputPadding: 2 }),
  );
  refuses(
    /convTranspose3d: weight f32\[4,3,3,3,6\] in 1 groups does not fit the channels of f32\[1,4,4,4,6\]/,
    () => convTranspose3d(x, w),
  );
  refuses(/extents must be positive/, () =>
    convTranspose3d(graph.input("one", [1, 1, 1, 1, 4]), w, { padding: 2 }),
  );
});

test.run();
