import { ShapeError } from "../errors.ts";
import { formatType, type Operand, type Value } from "../graph/value.ts";
import { expectDType, expectRank, expectSameShape } from "./check.ts";
import { defineOp, perElement } from "./define.ts";

const argmaxOp = defineOp({
  name: "argmax",
  infer: ([x]) => {
    expectDType("argmax", "the input", x, "f32");
    expectRank("argmax", "the input [N, D, H, W, C]", x, 5);
    if (x.shape[4] > 256)
      throw new ShapeError(
        `argmax: labels are bytes, so at most 256 channels are possible, found ${formatType(x)}`,
      );
    return { dtype: "u8", shape: x.shape.slice(0, 4) };
  },
  grad: "none",
  flops: ([x]) => perElement(1)([], x),
});

const notEqualOp = defineOp({
  name: "notEqual",
  infer: ([a, b]) => {
    expectDType("notEqual", "the first operand", a, "u8");
    expectDType("notEqual", "the second operand", b, "u8");
    expectSameShape("notEqual", a, b);
    return a;
  },
  grad: "none",
  flops: perElement(1),
  inPlace: 0,
});

/** The channel with the largest value, the first of equals: `[N, D, H, W, C]` to labels `[N, D, H, W]`, C <= 256. */
export const argmax = (x: Operand): Value => argmaxOp([x], {});

/** 1 where two label maps of one shape differ, 0 elsewhere. */
export const notEqual = (a: Operand, b: Operand): Value => notEqualOp([a, b], {});
