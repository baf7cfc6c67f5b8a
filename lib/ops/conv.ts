import { counted, ShapeError } from "../errors.ts";
import {
  elements,
  formatType,
  type Operand,
  type Shape,
  type TensorType,
  type Value,
} from "../graph/value.ts";
import { expectActivation, expectDType, expectOptions, expectRank, expectShape } from "./check.ts";
import { fill } from "./arithmetic.ts";
import { constant } from "./constant.ts";
import { type AddOp, defineOp, type Op } from "./define.ts";
import { sumsToZero } from "./norm_gradient.ts";
import { sumToChannels } from "./reduce.ts";

/** One number for all three axes, or one for each of depth, height and width. */
export type PerAxis = number | readonly [number, number, number];

export interface ConvOptions {
  /** `[Cout]`, added to every voxel. */
  readonly bias?: Operand;
  /** Default 1. */
  readonly stride?: PerAxis;
  /** Zeros before and after each axis; default 0. */
  readonly padding?: PerAxis;
  /** Distance between taps; default 1. */
  readonly dilation?: PerAxis;
  /** Default 1. */
  readonly groups?: number;
}

const convOptions = { bias: true, stride: true, padding: true, dilation: true, groups: true } as const;

export interface ConvTransposeOptions extends ConvOptions {
  /** Extra voxels behind each axis of the result; default 0, below the stride. */
  readonly outputPadding?: PerAxis;
}

type Window = {
  readonly stride: readonly number[];
  readonly padding: readonly number[];
  readonly dilation: readonly number[];
  readonly groups: number;
};
/** `shape` is that of the tensor whose gradient is computed: `[D, H, W]` of x, or all of w. */
export type ShapedWindow = Window & { readonly shape: readonly number[] };

export function perAxis(value: PerAxis): readonly [number, number, number] {
  return typeof value === "number" ? [value, value, value] : value;
}

function windowOf(options: ConvOptions): Window {
  return {
    stride: perAxis(options.stride ?? 1),
    padding: perAxis(options.padding ?? 0),
    dilation: perAxis(options.dilation ?? 1),
    groups: options.groups ?? 1,
  };
}

function unshaped({ stride, padding, dilation, groups }: ShapedWindow): Window {
  return { stride, padding, dilation, groups };
}

/** Whether there are three whole numbers in these bounds. Scripts in JavaScript may hand over `"same"`. */
export function isPerAxis(list: readonly number[], least: number, most: number): boolean {
  return (
    Array.isArray(list) &&
    list.length === 3 &&
    list.every((n) => Number.isInteger(n) && n >= least && n <= most)
  );
}

/** What was given per axis, for messages: `1x1x2`. */
export function formatPerAxis(list: readonly number[]): string {
  return Array.isArray(list) ? list.join("x") : JSON.stringify(list);
}

function checkWindow(op: string, { stride, padding, dilation, groups }: Window): void {
  if (!isPerAxis(stride, 1, 32768) || !isPerAxis(dilation, 1, 32768) || !isPerAxis(padding, 0, 32768))
    throw new ShapeError(
      `${op}: stride and dilation must be whole numbers from 1 to 32768, padding from 0, one or three of each; ` +
        `found stride ${formatPerAxis(stride)}, dilation ${formatPerAxis(dilation)}, padding ${formatPerAxis(padding)}`,
    );
  if (!Number.isInteger(groups) || groups < 1)
    throw new ShapeError(`${op}: groups must be a whole number from 1, found ${groups}`);
}

function expectBias(op: string, bias: TensorType | undefined, channels: number): void {
  if (bias === undefined) return;
  expectDType(op, "the bias", bias, "f32");
  expectShape(op, "the bias", bias, [channels]);
}

function inferForward([x, w, bias]: readonly Value[], window: Window): TensorType {
  const op = "conv3d";
  checkWindow(op, window);
  expectActivation(op, "the input", x);
  expectDType(op, "the weight", w, "f32");
  expectRank(op, "the weight [Cout, kD, kH, kW, Cin / groups]", w, 5);
  const { stride, padding, dilation, groups } = window;
  if (w.shape[4] * groups !== x.shape[4] || w.shape[0] % groups !== 0)
    throw new ShapeError(
      `${op}: weight ${formatType(w)} in ${counted(groups, "group")} does not fit the channels of ${formatType(x)}`,
    );
  expectBias(op, bias, w.shape[0]);
  const spatial = [0, 1, 2].map((axis) => {
    const reach = dilation[axis] * (w.shape[axis + 1] - 1) + 1;
    return Math.floor((x.shape[axis + 1] + 2 * padding[axis] - reach) / stride[axis]) + 1;
  });
  if (spatial.some((extent) => extent < 1))
    throw new ShapeError(`${op}: ${formatType(x)} is smaller than the dilated kernel of ${formatType(w)}`);
  return { dtype: "f32", shape: [x.shape[0], ...spatial, w.shape[0]] };
}

/** Multiply-adds count two; taps in the padding are counted, as is the custom. */
function flops(voxels: Shape, weight: Shape): number {
  return (2 * elements(voxels) * elements(weight)) / weight[0];
}

/** Of a bias before batch norm nothing is left: what it adds to a channel, the mean takes away. */
function biasGradient(inputs: readonly Value[], dy: Value): Value[] {
  if (inputs.length < 3) return [];
  return [sumsToZero(dy) ? fill(constant(dy.graph, 0), dy.shape.slice(-1)) : sumToChannels(dy)];
}

const conv3dOp: AddOp<Window> = defineOp({
  name: "conv3d",
  infer: inferForward,
  grad: (inputs, dy, _y, window) => [
    inputGradientOp([dy, inputs[1]], { ...window, shape: inputs[0].shape.slice(1, 4) }),
    weightGradientOp([inputs[0], dy], { ...window, shape: inputs[1].shape }),
    ...biasGradient(inputs, dy),
  ],
  flops: ([, w], y) => flops(y.shape, w.shape),
});

const inputGradientOp: AddOp<ShapedWindow> = defineOp({
  name: "conv3dInputGradient",
  infer: ([dy, w, bias], window) => {
    const op = "conv3dInputGradient";
    checkWindow(op, window);
    expectActivation(op, "the output gradient", dy);
    expectDType(op, "the weight", w, "f32");
    expectRank(op, "the weight [Cout, kD, kH, kW, Cin / groups]", w, 5);
    const channels = w.shape[4] * window.groups;
    if (dy.shape[4] !== w.shape[0] || w.shape[0] % window.groups !== 0)
      throw new ShapeError(`${op}: ${formatType(dy)} does not have the output channels of ${formatType(w)}`);
    expectBias(op, bias, channels);
    return { dtype: "f32", shape: [dy.shape[0], ...window.shape, channels] };
  },
  grad: (inputs, dx, _y, window) => [
    conv3dOp([dx, inputs[1]], unshaped(window)),
    weightGradientOp([dx, inputs[0]], { ...window, shape: inputs[1].shape }),
    ...biasGradient(inputs, dx),
  ],
  flops: ([dy, w]) => flops(dy.shape, w.shape),
});

export const conv3dWeightGradient: Op<ShapedWindow> = {
  name: "conv3dWeightGradient",
  infer: ([x, dy], window) => {
    const op = "conv3dWeightGradient";
    checkWindow(op, window);
    expectActivation(op, "the input", x);
    expectActivation(op, "the output gradient", dy);
    const { shape, groups } = window;
    if (
      shape.length !== 5 ||
      x.shape[0] !== dy.shape[0] ||
      shape[4] * groups !== x.shape[4] ||
      shape[0] !== dy.shape[4]
    )
      throw new ShapeError(
        `${op}: a weight [${shape.join(",")}] in ${counted(groups, "group")} does not fit ${formatType(x)} and ${formatType(dy)}`,
      );
    return { dtype: "f32", shape };
  },
  grad: ([x, dy], dw, _y, window) => [
    inputGradientOp([dy, dw], { ...window, shape: x.shape.slice(1, 4) }),
    conv3dOp([x, dw], unshaped(window)),
  ],
  flops: ([, dy], w) => flops(dy.shape, w.shape),
};
/** `[x, dy]`. */
export const weightGradientOp: AddOp<ShapedWindow> = defineOp(conv3dWeightGradient);

/**
 * Convolution of `x` `[N, D, H, W, Cin]` with `w` `[Cout, kD, kH, kW, Cin / groups]` to `[N, D', H', W', Cout]`,
 * `D' = floor((D + 2 padding - dilation (kD - 1) - 1) / stride) + 1`. A 2-D slice has D = kD = 1.
 */
export function conv3d(x: Operand, w: Operand, options: ConvOptions = {}): Value {
  expectOptions("conv3d", options, convOptions);
  return conv3dOp(options.bias === undefined ? [x, w] : [x, w, options.bias], windowOf(options));
}

/**
 * Transposed convolution of `x` `[N, D, H, W, Cin]` with `w` `[Cin, kD, kH, kW, Cout / groups]`: the input gradient of
 * a convolution with these options. `D' = (D - 1) stride - 2 padding + dilation (kD - 1) + 1 + outputPadding`.
 */
export function convTranspose3d(x: Operand, w: Operand, options: ConvTransposeOptions = {}): Value {
  const op = "convTranspose3d";
  expectOptions(op, options, { ...convOptions, outputPadding: true });
  expectRank(op, "the input [N, D, H, W, C]", x, 5);
  expectRank(op, "the weight [Cin, kD, kH, kW, Cout / groups]", w, 5);
  const window = windowOf(options);
  checkWindow(op, window);
  if (w.shape[0] !== x.shape[4] || w.shape[0] % window.groups !== 0)
    throw new ShapeError(
      `${op}: weight ${formatType(w)} in ${counted(window.groups, "group")} does not fit the channels of ${formatType(x)}`,
    );
  const extra = perAxis(options.outputPadding ?? 0);
  const shape = [0, 1, 2].map((axis) => {
    const { stride, padding, dilation } = window;
    if (!Number.isInteger(extra[axis]) || extra[axis] < 0 || extra[axis] >= stride[axis])
      throw new ShapeError(
        `${op}: outputPadding must be from 0 to below the stride, found ${extra.join("x")}`,
      );
    const reach = dilation[axis] * (w.shape[axis + 1] - 1) + 1;
    return (x.shape[axis + 1] - 1) * stride[axis] - 2 * padding[axis] + reach + extra[axis];
  });
  return inputGradientOp(options.bias === undefined ? [x, w] : [x, w, options.bias], { ...window, shape });
}
