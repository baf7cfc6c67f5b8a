/** Convolution in float64, term by term: what the kernels of every backend are held against. */
import { elements, type Shape } from "../../lib/graph/value.ts";

export interface ConvGeometry {
  readonly stride: readonly number[];
  readonly padding: readonly number[];
  readonly dilation: readonly number[];
  readonly groups: number;
}

export const plain: ConvGeometry = { stride: [1, 1, 1], padding: [0, 0, 0], dilation: [1, 1, 1], groups: 1 };

/** Shape of the result of a convolution of `x` `[N, D, H, W, Cin]` with `w` `[Cout, kD, kH, kW, Cin / groups]`. */
export function convShape(x: Shape, w: Shape, { stride, padding, dilation }: ConvGeometry): number[] {
  const spatial = [0, 1, 2].map((axis) => {
    const reach = dilation[axis] * (w[axis + 1] - 1) + 1;
    return Math.floor((x[axis + 1] + 2 * padding[axis] - reach) / stride[axis]) + 1;
  });
  return [x[0], ...spatial, w[0]];
}

/**
 * Calls `visit(iy, ix, iw, count)` for the products `x[ix + c] * w[iw + c]`, for `c` below `count`, that are terms of
 * `y[iy]`. One call for each would take most of the time.
 */
function forEachRun(
  x: Shape,
  w: Shape,
  y: Shape,
  { stride, padding, dilation, groups }: ConvGeometry,
  visit: (iy: number, ix: number, iw: number, count: number) => void,
): void {
  const [samples, D, H, W, inputs] = x;
  const [outputs, kD, kH, kW, perGroup] = w;
  const [, oD, oH, oW] = y;
  const source = (axis: number, out: number, tap: number) =>
    out * stride[axis] + tap * dilation[axis] - padding[axis];
  for (let n = 0; n < samples; n++)
    for (let z = 0; z < oD; z++)
      for (let p = 0; p < oH; p++)
        for (let q = 0; q < oW; q++)
          for (let r = 0; r < kD; r++) {
            const d = source(0, z, r);
            if (d < 0 || d >= D) continue;
            for (let s = 0; s < kH; s++) {
              const h = source(1, p, s);
              if (h < 0 || h >= H) continue;
              for (let t = 0; t < kW; t++) {
                const v = source(2, q, t);
                if (v < 0 || v >= W) continue;
                for (let k = 0; k < outputs; k++) {
                  const group = Math.floor(k / (outputs / groups));
                  const iy = (((n * oD + z) * oH + p) * oW + q) * outputs + k;
                  const ix = (((n * D + d) * H + h) * W + v) * inputs + group * perGroup;
                  const iw = (((k * kD + r) * kH + s) * kW + t) * perGroup;
                  visit(iy, ix, iw, perGroup);
                }
              }
            }
          }
}

interface Dense {
  readonly shape: Shape;
  readonly data: Float64Array;
}

/** The convolution of `x` with `w`, plus `bias` per output channel. */
export function conv(x: Dense, w: Dense, geometry: ConvGeometry, bias?: Dense): Dense {
  const shape = convShape(x.shape, w.shape, geometry);
  const data = new Float64Array(elements(shape));
  if (bias !== undefined) data.forEach((_, i) => (data[i] = bias.data[i % bias.data.length]));
  forEachRun(x.shape, w.shape, shape, geometry, (iy, ix, iw, count) => {
    const [own, weights] = [x.data, w.data];
    let sum = 0;
    for (let c = 0; c < count; c++) sum += own[ix + c] * weights[iw + c];
    data[iy] += sum;
  });
  return { shape, data };
}

/** The transpose of `conv` in `x`, applied to `dy`; `shape` is that of x. With `bias` a transposed convolution. */
export function convInputGradient(
  dy: Dense,
  w: Dense,
  shape: Shape,
  geometry: ConvGeometry,
  bias?: Dense,
): Dense {
  const data = new Float64Array(elements(shape));
  if (bias !== undefined) data.forEach((_, i) => (data[i] = bias.data[i % bias.data.length]));
  forEachRun(shape, w.shape, dy.shape, geometry, (iy, ix, iw, count) => {
    const [slope, weights] = [dy.data[iy], w.data];
    for (let c = 0; c < count; c++) data[ix + c] += slope * weights[iw + c];
  });
  return { shape, data };
}

/** The transpose of `conv` in `w`, applied to `dy`; `shape` is that of w. */
export function convWeightGradient(x: Dense, dy: Dense, shape: Shape, geometry: ConvGeometry): Dense {
  const data = new Float64Array(elements(shape));
  forEachRun(x.shape, shape, dy.shape, geometry, (iy, ix, iw, count) => {
    const [slope, own] = [dy.data[iy], x.data];
    for (let c = 0; c < count; c++) data[iw + c] += slope * own[ix + c];
  });
  return { shape, data };
}

/** The sum of `dy` over all axes but the channels. */
export function convBiasGradient(dy: Dense): Float64Array {
  const sums = new Float64Array(dy.shape[dy.shape.length - 1]);
  dy.data.forEach((value, i) => (sums[i % sums.length] += value));
  return sums;
}

/** The value of a convolution with bias, or of a transposed one, and its gradients for `dy`, the gradient of the value. */
export function convWithGradients(
  { x, w, bias, dy }: { x: Dense; w: Dense; bias: Dense; dy: Dense },
  geometry: ConvGeometry,
  transposed: boolean,
): { y: Dense; dx: Dense; dw: Dense } {
  return transposed
    ? {
        y: convInputGradient(x, w, dy.shape, geometry, bias),
        dx: conv(dy, w, geometry),
        dw: convWeightGradient(dy, x, w.shape, geometry),
      }
    : {
        y: conv(x, w, geometry, bias),
        dx: convInputGradient(dy, w, x.shape, geometry),
        dw: convWeightGradient(x, dy, w.shape, geometry),
      };
}
