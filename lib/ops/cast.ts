import { ShapeError } from "../errors.ts";
import { formatType, type Value } from "../graph/value.ts";
import { defineOp, perElement } from "./define.ts";

const castOp = defineOp<{ to: "f32" | "bf16" }>({
  name: "cast",
  infer: ([x], { to }) => {
    if (x.dtype !== (to === "f32" ? "bf16" : "f32"))
      throw new ShapeError(`cast: between f32 and bf16, found ${formatType(x)} to ${to}`);
    return { dtype: to, shape: x.shape };
  },
  grad: "none",
  flops: perElement(1),
  cheap: true,
});

/** The same numbers stored in another type, the nearest ones; the compiler puts it where operands need it. */
export const cast = (x: Value, to: "f32" | "bf16"): Value => castOp([x], { to });
