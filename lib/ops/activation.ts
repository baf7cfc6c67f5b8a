import { ShapeError } from "../errors.ts";
import { formatType, type Operand, type TensorType, type Value } from "../graph/value.ts";
import { expectDType, expectSameShape } from "./check.ts";
import { defineOp, perElement } from "./define.ts";

function inferUnary(op: string, x: TensorType): TensorType {
  expectDType(op, "the operand", x, "f32");
  return x;
}

function inferGradient(op: string, forward: TensorType, dy: TensorType): TensorType {
  expectDType(op, "the output gradient", dy, "f32");
  expectSameShape(op, forward, dy);
  return dy;
}

const reluOp = defineOp({
  name: "relu",
  infer: ([x]) => inferUnary("relu", x),
  grad: (_inputs, dy, y) => [reluGradientOp([y, dy], {})],
  flops: perElement(1),
  inPlace: 0,
  cheap: true,
});

const reluGradientOp = defineOp({
  name: "reluGradient",
  infer: ([y, dy]) => inferGradient("reluGradient", y, dy),
  grad: ([y], ddx): (Value | null)[] => [null, reluGradientOp([y, ddx], {})],
  flops: perElement(1),
  inPlace: 1,
});

const leakyReluOp = defineOp<{ slope: number }>({
  name: "leakyRelu",
  infer: ([x], { slope }) => {
    if (!(slope >= 0 && Number.isFinite(slope)))
      throw new ShapeError(`leakyRelu: the slope must be a number from 0, found ${slope}; prelu takes any`);
    return inferUnary("leakyRelu", x);
  },
  grad: (_inputs, dy, y, attributes) => [leakyReluGradientOp([y, dy], attributes)],
  flops: perElement(2),
  inPlace: 0,
  cheap: true,
});

const leakyReluGradientOp = defineOp<{ slope: number }>({
  name: "leakyReluGradient",
  infer: ([y, dy]) => inferGradient("leakyReluGradient", y, dy),
  grad: ([y], ddx, _dx, attributes): (Value | null)[] => [null, leakyReluGradientOp([y, ddx], attributes)],
  flops: perElement(2),
  inPlace: 1,
});

function expectSlope(op: string, x: TensorType, slope: TensorType): void {
  expectDType(op, "the slope", slope, "f32");
  const channels = x.shape.at(-1) ?? 1;
  if (slope.shape.length !== 1 || (slope.shape[0] !== 1 && slope.shape[0] !== channels))
    throw new ShapeError(
      `${op}: the slope must be [1] or [${channels}], found ${formatType(slope)} for ${formatType(x)}`,
    );
}

const preluOp = defineOp({
  name: "prelu",
  infer: ([x, slope]) => {
    expectSlope("prelu", x, slope);
    return inferUnary("prelu", x);
  },
  grad: ([x, slope], dy) => [
    preluInputGradientOp([x, slope, dy], {}),
    preluSlopeGradientOp([x, dy], { shared: slope.shape[0] === 1 }),
  ],
  flops: perElement(2),
  inPlace: 0,
});

const preluInputGradientOp = defineOp({
  name: "preluInputGradient",
  infer: ([x, slope, dy]) => {
    expectSlope("preluInputGradient", x, slope);
    return inferGradient("preluInputGradient", x, dy);
  },
  grad: "none",
  flops: perElement(2),
  inPlace: 2,
});

const preluSlopeGradientOp = defineOp<{ shared: boolean }>({
  name: "preluSlopeGradient",
  infer: ([x, dy], { shared }) => {
    inferGradient("preluSlopeGradient", x, dy);
    return { dtype: "f32", shape: [shared ? 1 : (x.shape.at(-1) ?? 1)] };
  },
  grad: "none",
  flops: ([x]) => perElement(2)([], x),
});

/** `max(x, 0)`; NaN stays NaN. The gradient is read off the result, so `x` need not be kept; it is 0 at 0. */
export const relu = (x: Operand): Value => reluOp([x], {});

/** `dy` where the ReLU's result `y` is above 0, and 0 elsewhere. */
export const reluGradient = (y: Operand, dy: Operand): Value => reluGradientOp([y, dy], {});

/** `x` above 0 and `slope * x` below, `slope` from 0. The gradient is read off the result; it is `slope` at 0. */
export const leakyRelu = (x: Operand, { slope = 0.01 }: { slope?: number } = {}): Value =>
  leakyReluOp([x], { slope });

/**
 * `x` above 0 and `slope * x` below, the slope being learnt: `[C]`, one for each channel of `x` `[..., C]`, or `[1]`,
 * one for all (He et al. 2015).
 */
export const prelu = (x: Operand, slope: Operand): Value => preluOp([x, slope], {});
