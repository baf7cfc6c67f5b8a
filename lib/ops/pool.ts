import { ShapeError } from "../errors.ts";
import { elements, formatType, type Operand, type TensorType, type Value } from "../graph/value.ts";
import { expectActivation, expectDType, expectOptions, expectShape } from "./check.ts";
import { formatPerAxis, isPerAxis, type PerAxis, perAxis } from "./conv.ts";
import { defineOp, perElement } from "./define.ts";

export interface PoolOptions {
  readonly kernel: PerAxis;
  /** Default: the kernel, so that windows do not overlap. */
  readonly stride?: PerAxis;
  /** Before and after each axis, at most half the kernel; default 0. */
  readonly padding?: PerAxis;
}

const poolOptions = { kernel: true, stride: true, padding: true } as const;

type Window = {
  readonly kernel: readonly number[];
  readonly stride: readonly number[];
  readonly padding: readonly number[];
};
type AverageWindow = Window & { readonly countIncludePad: boolean };

function windowOf({ kernel, stride = kernel, padding = 0 }: PoolOptions): Window {
  return { kernel: perAxis(kernel), stride: perAxis(stride), padding: perAxis(padding) };
}

/** The result of pooling an activation of shape `x`. */
function inferPool(op: string, x: TensorType, { kernel, stride, padding }: Window): TensorType {
  expectActivation(op, "the input", x);
  const fits = isPerAxis(kernel, 1, 1024) && isPerAxis(stride, 1, 32768) && isPerAxis(padding, 0, 512);
  if (!fits || padding.some((n, axis) => 2 * n > kernel[axis]))
    throw new ShapeError(
      `${op}: the kernel must be from 1 to 1024, the stride from 1, the padding from 0 to half the kernel, one or ` +
        `three of each; found kernel ${formatPerAxis(kernel)}, stride ${formatPerAxis(stride)}, padding ${formatPerAxis(padding)}`,
    );
  const spatial = [0, 1, 2].map(
    (axis) => Math.floor((x.shape[axis + 1] + 2 * padding[axis] - kernel[axis]) / stride[axis]) + 1,
  );
  if (spatial.some((extent) => extent < 1))
    throw new ShapeError(
      `${op}: ${formatType(x)} with padding ${padding.join("x")} is smaller than the kernel ${kernel.join("x")}`,
    );
  return { dtype: "f32", shape: [x.shape[0], ...spatial, x.shape[4]] };
}

const flopsOf = (small: TensorType, { kernel }: Window) => elements(small.shape) * elements(kernel);

const maxPoolOp = defineOp<Window>({
  name: "maxPool3d",
  infer: ([x], window) => inferPool("maxPool3d", x, window),
  grad: ([x], dy, _y, window): Value[] => [maxPoolGradientOp([x, dy], window)],
  flops: (_inputs, y, window) => flopsOf(y, window),
});

const maxPoolGradientOp = defineOp<Window>({
  name: "maxPool3dGradient",
  infer: ([x, dy], window) => {
    const op = "maxPool3dGradient";
    expectDType(op, "the output gradient", dy, "f32");
    expectShape(op, "the output gradient", dy, inferPool(op, x, window).shape);
    return x;
  },
  grad: "none",
  flops: ([, dy], _dx, window) => flopsOf(dy, window),
});

const averagePoolOp = defineOp<AverageWindow>({
  name: "averagePool3d",
  infer: ([x], window) => inferPool("averagePool3d", x, window),
  grad: ([x], dy, _y, window): Value[] => [
    averagePoolGradientOp([dy], { ...window, size: x.shape.slice(1, 4) }),
  ],
  flops: (_inputs, y, window) => flopsOf(y, window),
});

/** `size` is `[D, H, W]` of the input of the pooling. */
const averagePoolGradientOp = defineOp<AverageWindow & { readonly size: readonly number[] }>({
  name: "averagePool3dGradient",
  infer: ([dy], { size, ...window }) => {
    const op = "averagePool3dGradient";
    expectActivation(op, "the output gradient", dy);
    const x: TensorType = { dtype: "f32", shape: [dy.shape[0], ...size, dy.shape[4]] };
    expectShape(op, "the output gradient", dy, inferPool(op, x, window).shape);
    return x;
  },
  grad: (_inputs, ddx, _dx, { kernel, stride, padding, countIncludePad }): Value[] => [
    averagePoolOp([ddx], { kernel, stride, padding, countIncludePad }),
  ],
  flops: ([dy], _dx, window) => flopsOf(dy, window),
});

const globalAveragePoolOp = defineOp({
  name: "globalAveragePool",
  infer: ([x]) => {
    expectActivation("globalAveragePool", "the input", x);
    return { dtype: "f32", shape: [x.shape[0], 1, 1, 1, x.shape[4]] };
  },
  grad: ([x], dy): Value[] => [globalAveragePoolGradientOp([dy], { size: x.shape.slice(1, 4) })],
  flops: ([x]) => perElement(1)([], x),
});

const globalAveragePoolGradientOp = defineOp<{ size: readonly number[] }>({
  name: "globalAveragePoolGradient",
  infer: ([dy], { size }) => {
    const op = "globalAveragePoolGradient";
    expectActivation(op, "the output gradient", dy);
    expectShape(op, "the output gradient", dy, [dy.shape[0], 1, 1, 1, dy.shape[4]]);
    return { dtype: "f32", shape: [dy.shape[0], ...size, dy.shape[4]] };
  },
  grad: (_inputs, ddx): Value[] => [globalAveragePoolOp([ddx], {})],
  flops: perElement(1),
});

/**
 * The largest value of each window of `x` `[N, D, H, W, C]`, to `[N, D', H', W', C]` with
 * `D' = floor((D + 2 padding - kernel) / stride) + 1`. Padding never wins. The gradient goes to the first maximum of
 * a window in row-major order, which is searched again rather than stored.
 */
export function maxPool3d(x: Operand, options: PoolOptions): Value {
  expectOptions("maxPool3d", options, poolOptions);
  return maxPoolOp([x], windowOf(options));
}

/**
 * The mean of each window of `x` `[N, D, H, W, C]`; extents as for `maxPool3d`. `countIncludePad` (default true)
 * divides by the size of the kernel everywhere, otherwise by the number of voxels within the volume.
 */
export function averagePool3d(x: Operand, options: PoolOptions & { countIncludePad?: boolean }): Value {
  expectOptions("averagePool3d", options, { ...poolOptions, countIncludePad: true });
  return averagePoolOp([x], { ...windowOf(options), countIncludePad: options.countIncludePad ?? true });
}

/** The mean over space of each channel: `[N, D, H, W, C]` to `[N, 1, 1, 1, C]`, summed in double precision. */
export const globalAveragePool = (x: Operand): Value => globalAveragePoolOp([x], {});
