import { ShapeError } from "../errors.ts";
import { formatType, type Operand, sameShape, type Value } from "../graph/value.ts";
import { fill } from "./arithmetic.ts";
import { expectDType, expectShape } from "./check.ts";
import { constant } from "./constant.ts";
import { defineOp, perElement } from "./define.ts";

const lessOp = defineOp({
  name: "less",
  infer: ([a, b]) => {
    for (const operand of [a, b]) {
      expectDType("less", "an operand", operand, "f32");
      expectShape("less", "an operand", operand, []);
    }
    return { dtype: "u8", shape: [] };
  },
  grad: "none",
  flops: () => 1,
});

const selectOp = defineOp({
  name: "select",
  infer: ([condition, a, b]) => {
    expectDType("select", "the condition", condition, "u8");
    expectShape("select", "the condition", condition, []);
    if (a.dtype !== b.dtype || !sameShape(a.shape, b.shape))
      throw new ShapeError(
        `select: both branches must have the same type, found ${formatType(a)} and ${formatType(b)}`,
      );
    return a;
  },
  grad: ([condition], dy) => {
    const zeros = fill(constant(dy.graph, 0), dy.shape);
    return [null, select(condition, dy, zeros), select(condition, zeros, dy)];
  },
  flops: perElement(0),
  inPlace: 1,
});

/** Whether the float scalar `a` is below `b`, as a byte scalar 1 or 0; 0 when equal or when one is NaN. */
export const less = (a: Operand, b: Operand): Value => lessOp([a, b], {});

/**
 * `a` where the byte scalar `condition` is not 0, else `b`: one choice for the whole tensor, made on the device while
 * the plan runs. `a` and `b` have one type; both are computed. The gradient goes to the chosen one, the other gets
 * zeros.
 */
export const select = (condition: Operand, a: Operand, b: Operand): Value => selectOp([condition, a, b], {});
