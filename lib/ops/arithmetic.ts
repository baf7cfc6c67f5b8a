import { ShapeError } from "../errors.ts";
import {
  elements,
  formatType,
  type Operand,
  sameShape,
  type TensorType,
  type Value,
} from "../graph/value.ts";
import { expectDType } from "./check.ts";
import { defineOp, perElement } from "./define.ts";

/** The rule of `a ∘ b` for floats: equal shapes, or `b` a scalar that applies to every element of `a`. */
function inferBinary(op: string): (inputs: readonly Value[]) => TensorType {
  return ([a, b]) => {
    expectDType(op, "the first operand", a, "f32");
    expectDType(op, "the second operand", b, "f32");
    if (b.shape.length !== 0 && !sameShape(a.shape, b.shape))
      throw new ShapeError(
        `${op}: shapes must be equal or the second a scalar, found ${formatType(a)} and ${formatType(b)}`,
      );
    return a;
  };
}

/** Brings the gradient of a scalar operand back to a scalar. */
function reduceLike(gradient: Value, operand: Value): Value {
  return sameShape(gradient.shape, operand.shape) ? gradient : sum(gradient);
}

const addOp = defineOp({
  name: "add",
  infer: inferBinary("add"),
  grad: ([, b], dy) => [dy, reduceLike(dy, b)],
  flops: perElement(1),
  inPlace: 0,
  cheap: true,
});

const mulOp = defineOp({
  name: "mul",
  infer: inferBinary("mul"),
  grad: ([a, b], dy) => [mul(dy, b), reduceLike(mul(dy, a), b)],
  flops: perElement(1),
  inPlace: 0,
});

const scaleOp = defineOp<{ factor: number }>({
  name: "scale",
  infer: ([x]) => {
    expectDType("scale", "the operand", x, "f32");
    return x;
  },
  grad: (_inputs, dy, _y, { factor }) => [scale(dy, factor)],
  flops: perElement(1),
  inPlace: 0,
});

const sumOp = defineOp({
  name: "sum",
  infer: ([x]) => {
    expectDType("sum", "the operand", x, "f32");
    return { dtype: "f32", shape: [] };
  },
  grad: ([x], dy) => [fill(dy, x.shape)],
  flops: ([x]) => elements(x.shape),
});

const fillOp = defineOp<{ shape: readonly number[] }>({
  name: "fill",
  infer: ([x], { shape }) => {
    if (x.shape.length !== 0)
      throw new ShapeError(`fill: the operand must be a scalar, found ${formatType(x)}`);
    return { dtype: "f32", shape };
  },
  grad: (_inputs, dy) => [sum(dy)],
  flops: () => 0,
});

/** `a + b`; `b` has the shape of `a` or is a scalar. */
export const add = (a: Operand, b: Operand): Value => addOp([a, b], {});

/** `a * b` element by element; `b` has the shape of `a` or is a scalar. */
export const mul = (a: Operand, b: Operand): Value => mulOp([a, b], {});

/** `a - b`; `b` has the shape of `a` or is a scalar. */
export const sub = (a: Operand, b: Operand): Value => add(a, scale(b, -1));

/** `x * factor` for a factor known when the graph is traced. */
export const scale = (x: Operand, factor: number): Value => scaleOp([x], { factor });

/** The sum of all elements as a scalar, added in a fixed order. */
export const sum = (x: Operand): Value => sumOp([x], {});

/** The mean of all elements as a scalar. */
export const mean = (x: Operand): Value => scale(sum(x), 1 / elements(x.shape));

/** A tensor of `shape` whose every element is the scalar `x`. */
export const fill = (x: Operand, shape: readonly number[]): Value => fillOp([x], { shape: [...shape] });
