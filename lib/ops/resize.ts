import { ShapeError } from "../errors.ts";
import { type Operand, type TensorType, type Value } from "../graph/value.ts";
import { expectDType, expectOptions, expectRank } from "./check.ts";
import { defineOp, perElement } from "./define.ts";

export interface ResizeOptions {
  /** `[D, H, W]` of the result. */
  readonly size: readonly [number, number, number];
  readonly mode: "linear" | "nearest";
  /** Whether the centres of the corner voxels fall on each other; otherwise the outer edges do. Default false. */
  readonly alignCorners?: boolean;
}

/** `size` is `[D, H, W]` of what the op yields. */
type Sampling = {
  readonly size: readonly number[];
  readonly linear: boolean;
  readonly alignCorners: boolean;
};

function inferResize(op: string, x: TensorType, { size }: Sampling): TensorType {
  expectDType(op, "the input", x, "f32");
  expectRank(op, "the input [N, D, H, W, C]", x, 5);
  if (size.length !== 3 || size.some((extent) => !Number.isInteger(extent) || extent < 1 || extent > 2 ** 30))
    throw new ShapeError(
      `${op}: size must be three whole numbers [D, H, W] from 1, found [${size.join(",")}]`,
    );
  return { dtype: "f32", shape: [x.shape[0], ...size, x.shape[4]] };
}

const resizeOp = defineOp<Sampling>({
  name: "resize",
  infer: ([x], sampling) => inferResize("resize", x, sampling),
  grad: ([x], dy, _y, sampling): Value[] => [
    resizeGradientOp([dy], { ...sampling, size: x.shape.slice(1, 4) }),
  ],
  flops: (_inputs, y, { linear }) => perElement(linear ? 14 : 0)([], y),
});

const resizeGradientOp = defineOp<Sampling>({
  name: "resizeGradient",
  infer: ([dy], sampling) => inferResize("resizeGradient", dy, sampling),
  grad: ([dy], ddx, _dx, sampling): Value[] => [resizeOp([ddx], { ...sampling, size: dy.shape.slice(1, 4) })],
  flops: ([dy], _dx, { linear }) => perElement(linear ? 14 : 1)([], dy),
});

/**
 * `x` `[N, D, H, W, C]` sampled at another `size`, with the positions that ONNX calls `half_pixel` and
 * `align_corners`; result index `i` of an axis reads position `p` of the input.
 *
 * - linear: `p = (i + 0.5) in / out - 0.5`, or `i (in - 1) / (out - 1)` with `alignCorners`; between two voxels the
 *   values are blended, beyond the border it is repeated.
 * - nearest: `p = floor(i in / out)` in exact arithmetic, or `i (in - 1) / (out - 1)` rounded, halves up, with
 *   `alignCorners`.
 *
 * The gradient is the exact transpose.
 */
export function resize(x: Operand, options: ResizeOptions): Value {
  expectOptions("resize", options, { size: true, mode: true, alignCorners: true });
  const { size, mode, alignCorners = false } = options;
  return resizeOp([x], { size: [...size], linear: mode === "linear", alignCorners });
}
