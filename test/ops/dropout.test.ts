import { test } from "uvu";
import * as assert from "uvu/assert";
import { compile } from "../../lib/compile/compile.ts";
import { philox4x32 } from "../../lib/random.ts";
import { Graph } from "../../lib/graph/graph.ts";
import { elements } from "../../lib/graph/value.ts";
import { dropout, gaussianNoise } from "../../lib/ops/dropout.ts";
import { checkOp } from "./harness.ts";

const key = { shape: [2], dtype: "i32" as const, data: Int32Array.of(-5, 1234567) };

/** Word i of a stream, from the TypeScript generator. */
function word(index: number, stream: number): number {
  return philox4x32([Math.floor(index / 4), 0, stream, 0], Uint32Array.from(key.data))[index % 4];
}

test("dropout of elements draws the words of the stream", async () => {
  for (const [shape, rate] of [
    [[2, 3, 5, 7, 3], 0.3],
    [[17003], 0.5],
    [[1], 0.9],
    [[33], 0],
  ] as const)
    await checkOp({
      inputs: { x: { shape }, key },
      build: ({ x, key }) => dropout(x, key, { rate, stream: 7 }),
      reference: ({ x }) => x.data.map((value, i) => (word(i, 7) < rate * 2 ** 32 ? 0 : value / (1 - rate))),
      // In float64 the large case would take a while to differentiate.
      wrt: elements(shape) > 1000 ? [] : ["x"],
    });
});

test("dropout of whole channels draws once per sample and channel", async () => {
  for (const channels of [1, 3, 5, 8, 17, 300]) {
    const shape = [3, 2, 2, 3, channels];
    await checkOp({
      inputs: { x: { shape }, key },
      build: ({ x, key }) => dropout(x, key, { rate: 0.5, stream: 4294967295, channels: true }),
      reference: ({ x }) =>
        x.data.map((value, i) => {
          const sample = Math.floor(i / (12 * channels));
          return word(sample * channels + (i % channels), 4294967295) < 2 ** 31 ? 0 : 2 * value;
        }),
    });
  }
});

test("keys and streams drop independently, and about as often as asked", async () => {
  const count = 100_000;
  const plan = await compile((graph) => {
    const [x, key] = [graph.input("x", [count]), graph.input("key", [2], "i32")];
    return { a: dropout(x, key, { rate: 0.2, stream: 0 }), b: dropout(x, key, { rate: 0.2, stream: 1 }) };
  });
  const x = new Float32Array(count).fill(1);
  const first = await plan.run({ x, key: Int32Array.of(1, 0) });
  const again = await plan.run({ x, key: Int32Array.of(1, 0) });
  const next = await plan.run({ x, key: Int32Array.of(1, 1) });
  plan.dispose();
  const both = (a: ArrayLike<number>, b: ArrayLike<number>) =>
    Array.from(a).filter((value, i) => value === 0 && b[i] === 0).length / count;
  assert.equal(first.a, again.a);
  assert.ok(Math.abs(both(first.a, first.a) - 0.2) < 0.006);
  for (const other of [first.b, next.a]) assert.ok(Math.abs(both(first.a, other) - 0.04) < 0.004);
});

test("gaussianNoise is Box and Muller on the stream, and passes the gradient on", async () => {
  const u = (value: number) => (value >>> 8) / 2 ** 24;
  for (const shape of [[2, 3, 5, 7, 3], [17003], [1]])
    await checkOp({
      inputs: { x: { shape }, key },
      build: ({ x, key }) => gaussianNoise(x, key, { stddev: 0.5, stream: 3 }),
      reference: ({ x }) =>
        x.data.map((value, i) => {
          const pair = i - (i % 2);
          const radius = Math.sqrt(-2 * Math.log(u(word(pair, 3)) + 2 ** -24));
          const angle = 2 * Math.PI * u(word(pair + 1, 3));
          return value + 0.5 * radius * (i % 2 === 0 ? Math.cos(angle) : Math.sin(angle));
        }),
      wrt: elements(shape) > 1000 ? [] : ["x"],
    });
});

test("gaussianNoise has the mean, spread and fourth moment of a normal distribution", async () => {
  const count = 400_000;
  const plan = await compile((graph) => ({
    y: gaussianNoise(graph.input("x", [count]), graph.input("key", [2], "i32"), { stddev: 1, stream: 0 }),
  }));
  const { y } = await plan.run({ x: new Float32Array(count), key: Int32Array.of(9, 9) });
  plan.dispose();
  const moment = (power: number) =>
    Float64Array.from(y).reduce((sum, value) => sum + value ** power, 0) / count;
  assert.ok(Math.abs(moment(1)) < 0.007, `mean ${moment(1)}`);
  assert.ok(Math.abs(moment(2) - 1) < 0.01, `variance ${moment(2)}`);
  assert.ok(Math.abs(moment(4) - 3) < 0.1, `fourth moment ${moment(4)}`);
});

test("what does not fit is named", () => {
  const graph = new Graph();
  const [x, good, bad] = [
    graph.input("x", [4]),
    graph.input("good", [2], "i32"),
    graph.input("bad", [3], "i32"),
  ];
  assert.throws(
    () => dropout(x, bad, { rate: 0.5, stream: 0 }),
    /dropout: the key must have shape \[2\], found i32\[3\]/,
  );
  assert.throws(() => dropout(x, good, { rate: 1, stream: 0 }), /dropout: the rate .* found 1/);
  assert.throws(() => dropout(x, good, { rate: 0.5, stream: -1 }), /dropout: the stream .* found -1/);
  assert.throws(
    () => dropout(x, good, { rate: 0.5, stream: 0, channels: true }),
    /dropout: whole channels need/,
  );
  assert.throws(() => gaussianNoise(x, good, { stddev: -1, stream: 0 }), /gaussianNoise: .* found -1/);
});

test.run();
