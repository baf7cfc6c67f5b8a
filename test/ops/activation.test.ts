import { test } from "uvu";
import * as assert from "uvu/assert";
import { gradients } from "../../lib/autograd/gradients.ts";
import { compile } from "../../lib/compile/compile.ts";
import { Graph } from "../../lib/graph/graph.ts";
import { sum } from "../../lib/ops/arithmetic.ts";
import { leakyRelu, prelu, relu, reluGradient } from "../../lib/ops/activation.ts";
import { checkOp, random } from "./harness.ts";

const shape = [2, 3, 5, 7, 3];
const long = [1, 1, 1, 5001, 17];

test("relu and leakyRelu", async () => {
  await checkOp({
    inputs: { x: { shape } },
    build: ({ x }) => relu(x),
    reference: ({ x }) => x.data.map((v) => Math.max(v, 0)),
  });
  for (const slope of [0.01, 0.3])
    await checkOp({
      inputs: { x: { shape } },
      build: ({ x }) => leakyRelu(x, { slope }),
      reference: ({ x }) => x.data.map((v) => (v > 0 ? v : slope * v)),
    });
  await checkOp({
    inputs: { x: { shape: long } },
    build: ({ x }) => leakyRelu(x),
    reference: ({ x }) => x.data.map((v) => (v > 0 ? v : 0.01 * v)),
    wrt: [],
  });
});

test("reluGradient passes the gradient where the result is above 0, and so does its own gradient", async () => {
  const y = random(210, 7).map((v) => Math.max(v, 0));
  await checkOp({
    inputs: { y: { shape: [2, 3, 5, 7], data: y }, dy: { shape: [2, 3, 5, 7] } },
    build: ({ y, dy }) => reluGradient(y, dy),
    reference: ({ y, dy }) => dy.data.map((v, i) => (y.data[i] > 0 ? v : 0)),
    wrt: ["dy"],
  });
});

test("at zero relu has no slope and leakyRelu the lower one; NaN passes", async () => {
  const plan = await compile((graph) => {
    const x = graph.input("x", [4]);
    const y = relu(x);
    return { y, a: gradients(sum(y), [x])[0], b: gradients(sum(leakyRelu(x, { slope: 0.5 })), [x])[0] };
  });
  const { y, a, b } = await plan.run({ x: Float32Array.of(0, 2, -1, Number.NaN) });
  plan.dispose();
  assert.equal([...(y as Float32Array)], [0, 2, 0, Number.NaN]);
  assert.equal([...(a as Float32Array)].slice(0, 3), [0, 1, 0]);
  assert.equal([...(b as Float32Array)].slice(0, 3), [0.5, 1, 0.5]);
});

test("prelu with one slope, and one for each channel", async () => {
  const reference = (x: Float64Array, slope: Float64Array, channels: number) =>
    x.map((v, i) => (v > 0 ? v : slope[(i % channels) % slope.length] * v));
  for (const channels of [1, 3, 5, 8, 17])
    for (const slopes of [1, channels])
      await checkOp({
        inputs: { x: { shape: [2, 3, 1, 4, channels] }, slope: { shape: [slopes] } },
        build: ({ x, slope }) => prelu(x, slope),
        reference: ({ x, slope }) => reference(x.data, slope.data, channels),
      });
  for (const slopes of [1, 17])
    await checkOp({
      inputs: { x: { shape: long }, slope: { shape: [slopes] } },
      build: ({ x, slope }) => prelu(x, slope),
      reference: ({ x, slope }) => reference(x.data, slope.data, 17),
      wrt: ["slope"],
    });
});

test("what does not fit is named", () => {
  const graph = new Graph();
  const x = graph.input("x", [2, 3]);
  assert.throws(
    () => prelu(x, graph.input("slope", [2])),
    /prelu: the slope must be \[1\] or \[3\], found f32\[2\]/,
  );
  assert.throws(() => leakyRelu(x, { slope: -1 }), /leakyRelu: the slope .* found -1/);
  assert.throws(() => relu(graph.input("labels", [2], "u8")), /relu: the operand must be f32, found u8\[2\]/);
});

test.run();
