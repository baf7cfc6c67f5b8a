import { test } from "uvu";
import * as assert from "uvu/assert";
import { gradients } from "../../lib/autograd/gradients.ts";
import { compile } from "../../lib/compile/compile.ts";
import { Graph } from "../../lib/graph/graph.ts";
import { add, mul, sum } from "../../lib/ops/arithmetic.ts";
import { less, select } from "../../lib/ops/select.ts";
import { checkOp } from "./harness.ts";

const odd = [2, 3, 5, 1, 17];

test("select takes one branch, and its gradient goes there alone", async () => {
  // Kernels that move several elements at once need the second shape.
  for (const [condition, shape] of [
    [0, odd],
    [1, odd],
    [255, odd],
    [0, [4, 6]],
    [1, [4, 6]],
  ] as const)
    await checkOp({
      inputs: { condition: { shape: [], dtype: "u8", data: [condition] }, a: { shape }, b: { shape } },
      build: ({ condition, a, b }) => select(condition, a, b),
      reference: ({ condition, a, b }) => (condition.data[0] !== 0 ? a.data : b.data),
    });
});

test("select of labels", async () => {
  const dtype = "u8" as const;
  const labels = { shape: [70001], dtype };
  for (const condition of [0, 1])
    await checkOp({
      inputs: {
        condition: { shape: [], dtype, data: [condition] },
        a: { ...labels, data: Uint8Array.from({ length: 70001 }, (_, i) => i % 7) },
        b: { ...labels, data: Uint8Array.from({ length: 70001 }, (_, i) => i % 11) },
      },
      build: ({ condition, a, b }) => select(condition, a, b),
      reference: ({ condition, a, b }) => (condition.data[0] !== 0 ? a.data : b.data),
    });
});

test("less compares strictly, and NaN is not less", async () => {
  const plan = await compile((graph) => ({ y: less(graph.input("a", []), graph.input("b", [])) }));
  for (const [a, b, expected] of [
    [1, 2, 1],
    [2, 1, 0],
    [1, 1, 0],
    [Number.NaN, 1, 0],
    [1, Number.NaN, 0],
  ])
    assert.is((await plan.run({ a, b })).y[0], expected, `${a} < ${b}`);
  plan.dispose();
});

test("a choice made in the plan, whose operand may be overwritten", async () => {
  const plan = await compile(
    (graph) => {
      const [a, b] = [graph.input("a", [3]), graph.input("b", [3])];
      const [square, double] = [mul(a, a), add(b, b)];
      const y = select(less(sum(a), sum(b)), square, double);
      const [da, db] = gradients(sum(y), [a, b]);
      return { y, da, db };
    },
    { paranoid: true },
  );
  const low = Float32Array.of(1, 2, 3);
  const high = Float32Array.of(4, 5, 6);
  const first = await plan.run({ a: low, b: high });
  assert.equal([...first.y, ...first.da, ...first.db], [1, 4, 9, 2, 4, 6, 0, 0, 0]);
  const second = await plan.run({ a: high, b: low });
  assert.equal([...second.y, ...second.da, ...second.db], [2, 4, 6, 0, 0, 0, 2, 2, 2]);
  plan.dispose();
});

test("what does not fit is named", () => {
  const graph = new Graph();
  const [flag, a, b] = [graph.input("flag", [], "u8"), graph.input("a", [2]), graph.input("b", [3])];
  assert.throws(() => select(flag, a, b), /select: .*f32\[2\] and f32\[3\]/);
  assert.throws(() => select(a, a, a), /select: the condition must be u8, found f32\[2\]/);
  assert.throws(() => less(a, b), /less: an operand must have shape \[\], found f32\[2\]/);
});

test.run();
