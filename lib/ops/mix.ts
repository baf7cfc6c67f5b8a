import type { Operand, Value } from "../graph/value.ts";
import { add, mul } from "./arithmetic.ts";
import { oneHot } from "./loss.ts";
import { concat, slice } from "./shape.ts";

/**
 * Every sample of `x` `[N, D, H, W, C]` where the byte `mask` `[N, D, H, W]` is 0, and where it is 1 the sample after it, the first
 * one after the last: CutMix (Yun et al. 2019) of a batch with itself.
 */
export function mixWithNext(x: Value, mask: Operand): Value {
  const [count, , , , channels] = x.shape;
  const weights = oneHot(mask, { classes: 2 });
  const weight = (which: number) => {
    const one = slice(weights, { axis: -1, start: which, length: 1 });
    return channels === 1 ? one : concat(Array<Value>(channels).fill(one), { axis: -1 });
  };
  return add(mul(x, weight(0)), mul(following(x, count), weight(1)));
}

/** The samples, each in the place of the one before it. */
function following(x: Value, count: number): Value {
  if (count === 1) return x;
  const first = slice(x, { axis: 0, start: 0, length: 1 });
  return concat([slice(x, { axis: 0, start: 1, length: count - 1 }), first], { axis: 0 });
}
