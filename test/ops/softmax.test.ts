import { test } from "uvu";
import * as assert from "uvu/assert";
import { compile } from "../../lib/compile/compile.ts";
import { Graph } from "../../lib/graph/graph.ts";
import { logSoftmax, sharpen, softmax } from "../../lib/ops/softmax.ts";
import { type Array64, checkOp, random } from "./harness.ts";

/** Softmax in float64, straight from its definition. */
function reference({ shape, data }: Array64, temperature = 1): Float64Array {
  const channels = shape[shape.length - 1];
  const y = data.map((x) => Math.exp(x / temperature));
  for (let row = 0; row < y.length; row += channels) {
    const total = y.subarray(row, row + channels).reduce((sum, e) => sum + e, 0);
    for (let c = 0; c < channels; c++) y[row + c] /= total;
  }
  return y;
}

for (const channels of [1, 2, 3, 5, 8, 14, 17, 104])
  test(`softmax and its logarithm over ${channels} channels`, async () => {
    const inputs = { x: { shape: [2, 1, 5, 11, channels] } };
    await checkOp({ inputs, build: ({ x }) => softmax(x), reference: ({ x }) => reference(x) });
    await checkOp({
      inputs,
      build: ({ x }) => logSoftmax(x),
      reference: ({ x }) => reference(x).map(Math.log),
    });
  });

test("a whole number of blocks, and several tasks", async () => {
  for (const shape of [
    [64, 3],
    [1, 1, 40, 80, 2],
  ])
    await checkOp({
      inputs: { x: { shape } },
      build: ({ x }) => softmax(x),
      reference: ({ x }) => reference(x),
      wrt: [],
    });
});

test("temperature divides the logits", async () => {
  await checkOp({
    inputs: { x: { shape: [3, 7, 4] } },
    build: ({ x }) => softmax(x, { temperature: 0.5 }),
    reference: ({ x }) => reference(x, 0.5),
  });
});

test("sharpening is the power of probabilities, normalised", async () => {
  const powers = (p: Float64Array, channels: number) => {
    const q = p.map((value) => value ** 10);
    return q.map((value, i) => {
      const row = Math.floor(i / channels) * channels;
      return value / q.subarray(row, row + channels).reduce((sum, e) => sum + e, 0);
    });
  };
  await checkOp({
    inputs: { x: { shape: [2, 9, 3] } },
    build: ({ x }) => sharpen(x, 0.1),
    reference: ({ x }) => powers(reference(x), 3),
    tolerance: 1e-5,
    step: 1e-5,
  });
});

test("every probability has a relative error near that of a float, down to exp(-87)", async () => {
  const count = 4000;
  const x = Float32Array.from({ length: 2 * count }, (_, i) => (i % 2 === 0 ? 0 : -87 * ((i >> 1) / count)));
  const plan = await compile((graph) => ({ y: softmax(graph.input("x", [count, 2])) }));
  const { y } = await plan.run({ x });
  plan.dispose();
  for (let i = 0; i < count; i++) {
    const expected = 1 / (1 + Math.exp(-x[2 * i + 1]));
    assert.ok(Math.abs(y[2 * i + 1] / expected - 1) < 1.2e-6, `softmax of ${x[2 * i + 1]}: ${y[2 * i + 1]}`);
  }
});

test("large logits neither overflow nor hide infinities and NaN", async () => {
  const plan = await compile((graph) => {
    const x = graph.input("x", [4, 3]);
    return { y: softmax(x), log: logSoftmax(x) };
  });
  const x = Float32Array.of(1e30, 0, -1e30, 500, 499, 0, Number.NaN, 0, 1, 0, 1, Number.NaN);
  const { y, log } = await plan.run({ x });
  plan.dispose();
  assert.equal([...y.slice(0, 3)], [1, 0, 0]);
  assert.ok(Math.abs(y[3] - 1 / (1 + Math.exp(-1))) < 1e-6 && y[5] === 0);
  assert.ok(Math.abs(log[5] - (-500 - Math.log(1 + Math.exp(-1)))) < 1e-4);
  for (let i = 6; i < 12; i++) assert.ok(Number.isNaN(y[i]) && Number.isNaN(log[i]));
});

test("a row does not depend on where it stands", async () => {
  const plan = await compile((graph) => ({ y: softmax(graph.input("x", [67, 3])) }));
  const row = random(3, 5);
  const x = Float32Array.from({ length: 201 }, (_, i) => row[i % 3]);
  const { y } = await plan.run({ x });
  plan.dispose();
  for (let i = 3; i < 201; i++) assert.is(y[i], y[i % 3]);
});

test("what does not fit is named", () => {
  const graph = new Graph();
  assert.throws(
    () => softmax(graph.input("a", [2, 2], "u8")),
    /softmax: the operand must be f32, found u8\[2,2\]/,
  );
  assert.throws(() => softmax(graph.input("b", [2, 257])), /softmax: .*at most 256, found f32\[2,257\]/);
  assert.throws(
    () => softmax(graph.input("c", [2, 2]), { temperature: 0 }),
    /softmax: the temperature .* found 0/,
  );
});

test.run();
