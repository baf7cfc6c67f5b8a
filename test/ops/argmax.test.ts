import { test } from "uvu";
import * as assert from "uvu/assert";
import { Graph } from "../../lib/graph/graph.ts";
import { elements } from "../../lib/graph/value.ts";
import { argmax, notEqual } from "../../lib/ops/argmax.ts";
import { checkOp, random } from "./harness.ts";

test("argmax takes the first maximum", async () => {
  for (const channels of [1, 2, 3, 5, 14, 17, 256]) {
    const shape = [2, 3, 5, 7, channels];
    // Few distinct values, so that ties abound.
    const data = random(elements(shape), 4).map((value) => Math.round(value * 2 * Math.sqrt(channels)));
    await checkOp({
      inputs: { x: { shape, data } },
      build: ({ x }) => argmax(x),
      reference: ({ x }) =>
        Array.from({ length: x.data.length / channels }, (_, row) => {
          const scores = x.data.subarray(row * channels, (row + 1) * channels);
          return scores.indexOf(Math.max(...scores));
        }),
      tolerance: 0,
    });
  }
});

test("notEqual is 1 where labels differ", async () => {
  const shape = [2, 20, 30, 31];
  const labels = (seed: number) =>
    random(elements(shape), seed).map((value) => Math.floor((value + 1) * 100));
  await checkOp({
    inputs: { a: { shape, dtype: "u8", data: labels(1) }, b: { shape, dtype: "u8", data: labels(2) } },
    build: ({ a, b }) => notEqual(a, b),
    reference: ({ a, b }) => a.data.map((value, i) => (value === b.data[i] ? 0 : 1)),
    tolerance: 0,
  });
});

test("what does not fit is named", () => {
  const graph = new Graph();
  assert.throws(
    () => argmax(graph.input("x", [1, 1, 1, 1, 257])),
    /argmax: .* at most 256 channels .*f32\[1,1,1,1,257\]/,
  );
  const a = graph.input("a", [2, 3], "u8");
  assert.throws(() => notEqual(a, graph.input("b", [3, 2], "u8")), /notEqual: .*u8\[2,3\] and u8\[3,2\]/);
  assert.throws(
    () => notEqual(a, graph.input("c", [2, 3])),
    /notEqual: the second operand must be u8, found f32\[2,3\]/,
  );
});

test.run();
