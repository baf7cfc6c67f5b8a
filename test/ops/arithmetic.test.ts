import { test } from "uvu";
import * as assert from "uvu/assert";
import { Graph } from "../../lib/graph/graph.ts";
import { add, fill, mean, mul, scale, sub, sum } from "../../lib/ops/arithmetic.ts";
import { checkOp } from "./harness.ts";

const shape = [2, 3, 5];

test("add, sub and mul of equal shapes", async () => {
  const inputs = { a: { shape }, b: { shape } };
  await checkOp({
    inputs,
    build: ({ a, b }) => add(a, b),
    reference: ({ a, b }) => a.data.map((v, i) => v + b.data[i]),
  });
  await checkOp({
    inputs,
    build: ({ a, b }) => sub(a, b),
    reference: ({ a, b }) => a.data.map((v, i) => v - b.data[i]),
  });
  await checkOp({
    inputs,
    build: ({ a, b }) => mul(a, b),
    reference: ({ a, b }) => a.data.map((v, i) => v * b.data[i]),
  });
});

test("a scalar second operand applies everywhere", async () => {
  const inputs = { a: { shape }, b: { shape: [] } };
  await checkOp({
    inputs,
    build: ({ a, b }) => add(a, b),
    reference: ({ a, b }) => a.data.map((v) => v + b.data[0]),
  });
  await checkOp({
    inputs,
    build: ({ a, b }) => mul(a, b),
    reference: ({ a, b }) => a.data.map((v) => v * b.data[0]),
  });
});

test("an operand used twice gets both gradients", async () => {
  await checkOp({
    inputs: { a: { shape } },
    build: ({ a }) => mul(a, a),
    reference: ({ a }) => a.data.map((v) => v * v),
  });
});

test("scale, sum, mean and fill", async () => {
  const inputs = { a: { shape: [3, 20001] } };
  const total = (data: Float64Array) => data.reduce((left, right) => left + right, 0);
  await checkOp({
    inputs: { a: { shape } },
    build: ({ a }) => scale(a, -2.5),
    reference: ({ a }) => a.data.map((v) => -2.5 * v),
  });
  await checkOp({ inputs, build: ({ a }) => sum(a), reference: ({ a }) => [total(a.data)] });
  await checkOp({ inputs, build: ({ a }) => mean(a), reference: ({ a }) => [total(a.data) / a.data.length] });
  await checkOp({
    inputs: { a: { shape: [] } },
    build: ({ a }) => fill(a, shape),
    reference: ({ a }) => new Array<number>(30).fill(a.data[0]),
  });
});

test("shapes that do not fit are named", () => {
  const graph = new Graph();
  const a = graph.input("a", [2, 3]);
  const b = graph.input("b", [3, 2]);
  assert.throws(() => add(a, b), /add: .*f32\[2,3\] and f32\[3,2\]/);
});

test.run();
