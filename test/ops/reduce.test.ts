import { test } from "uvu";
import * as assert from "uvu/assert";
import { gradients } from "../../lib/autograd/gradients.ts";
import { Graph } from "../../lib/graph/graph.ts";
import { elements } from "../../lib/graph/value.ts";
import { mul, sum } from "../../lib/ops/arithmetic.ts";
import { sumToChannels } from "../../lib/ops/reduce.ts";
import { type Array64, checkOp } from "./harness.ts";

function reference({ shape, data }: Array64): Float64Array {
  const sums = new Float64Array(shape.at(-1) ?? 1);
  data.forEach((value, i) => (sums[i % sums.length] += value));
  return sums;
}

test("sumToChannels and its gradient, for channel counts that do and do not fill a vector", async () => {
  for (const channels of [1, 3, 5, 8, 17])
    await checkOp({
      inputs: { x: { shape: [2, 3, 1, 5, channels] } },
      build: ({ x }) => sumToChannels(x),
      reference: ({ x }) => reference(x),
    });
  await checkOp({
    inputs: { x: { shape: [7] } },
    build: ({ x }) => sumToChannels(x),
    reference: ({ x }) => x.data,
  });
});

test("the gradient can be differentiated again", async () => {
  await checkOp({
    inputs: { x: { shape: [4, 3] } },
    build: ({ x }) => {
      const sums = sumToChannels(x);
      return gradients(sum(mul(sums, mul(sums, sums))), [x])[0];
    },
    reference: ({ x }) => {
      const sums = reference(x);
      return x.data.map((_, i) => 3 * sums[i % 3] ** 2);
    },
  });
});

test("rows beyond one chunk of partial sums are all counted", async () => {
  const shape = [3, 1031, 3];
  await checkOp({
    inputs: { x: { shape } },
    build: ({ x }) => sumToChannels(x),
    reference: ({ x }) => reference(x),
    wrt: [],
  });
});

test("sums are kept in double precision until the end", async () => {
  const shape = [4096, 2];
  // A large value first: single precision would lose every one that follows.
  const data = Float64Array.from({ length: elements(shape) }, (_, i) =>
    i === 0 ? 2 ** 26 : i === elements(shape) - 2 ? -(2 ** 26) : 1,
  );
  await checkOp({
    inputs: { x: { shape, data } },
    build: ({ x }) => sumToChannels(x),
    reference: () => [4094, 4096],
    wrt: [],
    tolerance: 0,
  });
});

test("integer operands are refused by name", () => {
  const graph = new Graph();
  const x = graph.input("x", [4, 3], "i32");
  assert.throws(() => sumToChannels(x), /sumToChannels: the operand must be f32, found i32\[4,3\]/);
});

test.run();
