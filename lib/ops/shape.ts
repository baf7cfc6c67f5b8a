import { ShapeError } from "../errors.ts";
import { formatType, type Operand, type TensorType, type Value } from "../graph/value.ts";
import { defineOp } from "./define.ts";

type Cut = { readonly axis: number; readonly start: number };

/** An axis counted from the front, given from the front or, negative, from the back. */
function axisOf(op: string, value: TensorType, axis: number): number {
  const rank = value.shape.length;
  if (!Number.isInteger(axis) || axis < -rank || axis >= rank)
    throw new ShapeError(`${op}: ${formatType(value)} has axes ${-rank} to ${rank - 1}, found axis ${axis}`);
  return axis < 0 ? axis + rank : axis;
}

function withExtent(value: TensorType, axis: number, extent: number): TensorType {
  return { dtype: value.dtype, shape: value.shape.map((own, index) => (index === axis ? extent : own)) };
}

const concatOp = defineOp<{ axis: number }>({
  name: "concat",
  infer: (inputs, { axis }) => {
    const [first, ...others] = inputs;
    for (const other of others) {
      const fits = other.shape.every((extent, index) => index === axis || extent === first.shape[index]);
      if (other.dtype !== first.dtype || other.shape.length !== first.shape.length || !fits)
        throw new ShapeError(
          `concat: operands must agree in element type and in all axes but ${axis}, ` +
            `found ${inputs.map(formatType).join(", ")}`,
        );
    }
    return withExtent(
      first,
      axis,
      inputs.reduce((total, { shape }) => total + shape[axis], 0),
    );
  },
  grad: (inputs, dy, _y, { axis }): Value[] => {
    let start = 0;
    return inputs.map(({ shape }) => {
      const part = sliceOp([dy], { axis, start, length: shape[axis] });
      start += shape[axis];
      return part;
    });
  },
  flops: () => 0,
});

const sliceOp = defineOp<Cut & { readonly length: number }>({
  name: "slice",
  infer: ([x], { axis, start, length }) => {
    const whole = Number.isInteger(start) && Number.isInteger(length);
    if (!whole || start < 0 || length < 1 || start + length > x.shape[axis])
      throw new ShapeError(`slice: ${length} from ${start} of axis ${axis} lies outside ${formatType(x)}`);
    return withExtent(x, axis, length);
  },
  grad: ([x], dy, _y, { axis, start }): Value[] => [padSliceOp([dy], { axis, start, extent: x.shape[axis] })],
  flops: () => 0,
});

const padSliceOp = defineOp<Cut & { readonly extent: number }>({
  name: "padSlice",
  infer: ([x], { axis, start, extent }) => {
    const whole = Number.isInteger(start) && Number.isInteger(extent);
    if (!whole || start < 0 || start + x.shape[axis] > extent)
      throw new ShapeError(
        `padSlice: ${formatType(x)} at ${start} of axis ${axis} exceeds the extent ${extent}`,
      );
    return withExtent(x, axis, extent);
  },
  grad: ([x], dy, _y, { axis, start }): Value[] => [sliceOp([dy], { axis, start, length: x.shape[axis] })],
  flops: () => 0,
});

/** Joins tensors of one element type along `axis`, in which alone they may differ; -1 is the last axis. */
export function concat(values: readonly Operand[], { axis }: { axis: number }): Value {
  if (values.length === 0) throw new ShapeError("concat: at least one operand is needed, found none");
  return concatOp(values, { axis: axisOf("concat", values[0], axis) });
}

/** The `length` indices of `axis` from `start` on; -1 is the last axis. */
export const slice = (
  x: Operand,
  { axis, start, length }: { axis: number; start: number; length: number },
): Value => sliceOp([x], { axis: axisOf("slice", x, axis), start, length });

/** Zeros of `extent` along `axis`, with `x` from `start` on: the transpose of `slice`. */
export const padSlice = (
  x: Operand,
  { axis, start, extent }: { axis: number; start: number; extent: number },
): Value => padSliceOp([x], { axis: axisOf("padSlice", x, axis), start, extent });
