import type { Operand, Value } from "../graph/value.ts";
import { elements } from "../graph/value.ts";
import { expectDType } from "./check.ts";
import { defineOp } from "./define.ts";

const sumToChannelsOp = defineOp({
  name: "sumToChannels",
  infer: ([x]) => {
    expectDType("sumToChannels", "the operand", x, "f32");
    return { dtype: "f32", shape: x.shape.slice(-1) };
  },
  grad: ([x], dy) => [broadcastChannelsOp([dy], { shape: x.shape })],
  flops: ([x]) => elements(x.shape),
});

const broadcastChannelsOp = defineOp<{ shape: readonly number[] }>({
  name: "broadcastChannels",
  infer: ([x], { shape }) => {
    expectDType("broadcastChannels", "the operand", x, "f32");
    return { dtype: "f32", shape };
  },
  grad: (_inputs, dy) => [sumToChannels(dy)],
  flops: () => 0,
});

/** The sum over all axes but the last: `[..., C]` to `[C]`, added in a fixed order. */
export const sumToChannels = (x: Operand): Value => sumToChannelsOp([x], {});
