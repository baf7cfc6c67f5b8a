import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { gradients } from "../../lib/autograd/gradients.ts";
import { compile } from "../../lib/compile/compile.ts";
import { Graph } from "../../lib/graph/graph.ts";
import { type Shape, type Value } from "../../lib/graph/value.ts";
import { relu } from "../../lib/ops/activation.ts";
import { argmax } from "../../lib/ops/argmax.ts";
import { add, fill, mul, scale, sub, sum } from "../../lib/ops/arithmetic.ts";
import { conv3d } from "../../lib/ops/conv.ts";
import { oneHot } from "../../lib/ops/loss.ts";
import { batchNorm, groupNorm, instanceNorm, moments } from "../../lib/ops/norm.ts";
import { expectClose, random } from "../ops/harness.ts";

const shape = [2, 3];

/** The gradients of what `build` returns with respect to its values, all of `shape`. */
async function slopes(
  inputs: Record<string, Float32Array>,
  build: (values: Value[]) => Value,
  of: Shape = shape,
) {
  using plan = await compile(
    (graph) => {
      const values = Object.keys(inputs).map((name) => graph.input(name, of));
      const found = gradients(build(values), values);
      return Object.fromEntries(Object.keys(inputs).map((name, index) => [name, found[index]]));
    },
    { paranoid: true },
  );
  return plan.run(inputs);
}

test("a subexpression used many times gets the sum of all its gradients", async () => {
  const a = Float32Array.of(1, -2, 3, 0.5, -1, 2);
  // y = (2a)^2 + (2a)^2 * a, so dy/da = 8a + 12a^2
  const { a: found } = await slopes({ a }, ([a]) => {
    const twice = add(a, a);
    const square = mul(twice, twice);
    return sum(add(square, mul(square, a)));
  });
  assert.equal(
    [...found],
    [...a].map((v) => 8 * v + 12 * v * v),
  );
});

test("each shared node is swept once: nodes grow linearly where paths grow exponentially", () => {
  const graph = new Graph();
  const x = graph.input("x", []);
  let y: Value = x;
  for (let depth = 0; depth < 40; depth++) y = add(y, y);
  gradients(y, [x]);
  assert.ok(graph.nodes.length < 40 * 4, `${graph.nodes.length} nodes`);
});

test("a target that the loss does not depend on gets zeros", async () => {
  const { a, b } = await slopes({ a: new Float32Array(6).fill(1), b: new Float32Array(6).fill(7) }, ([a]) =>
    sum(mul(a, a)),
  );
  assert.equal([...a], [2, 2, 2, 2, 2, 2]);
  assert.equal([...b], [0, 0, 0, 0, 0, 0]);
});

test("the gradient of the loss itself is 1, and intermediate values can be targets", async () => {
  using plan = await compile((graph) => {
    const x = graph.input("x", [3]);
    const middle = mul(x, x);
    const loss = sum(scale(middle, 3));
    const [ofLoss, ofMiddle, ofInput] = gradients(loss, [loss, middle, x]);
    return { ofLoss, ofMiddle, ofInput };
  });
  const found = await plan.run({ x: Float32Array.of(1, 2, 3) });
  assert.equal([...found.ofLoss], [1]);
  assert.equal([...found.ofMiddle], [3, 3, 3]);
  assert.equal([...found.ofInput], [6, 12, 18]);
});

test("ops without a gradient cut: what is behind them counts as constant", async () => {
  const x = Float32Array.of(0.5, 2, 3, 1, -4, -5, 6, 0.25);
  const { x: labels } = await slopes(
    { x },
    ([x]) => sum(mul(x, oneHot(argmax(x), { classes: 2 }))),
    [1, 2, 2, 1, 2],
  );
  assert.equal([...labels], [0, 1, 1, 0, 1, 0, 1, 0]);
  const { x: throughMoments } = await slopes(
    { x },
    ([x]) => sum(moments(x, { perSample: true, groups: 2 })),
    [1, 2, 2, 1, 2],
  );
  assert.equal([...throughMoments], new Array(8).fill(0));
});

test("operands that are not between loss and targets cost no nodes", () => {
  const graph = new Graph();
  const x = graph.input("x", shape);
  const other = graph.input("other", shape);
  let y: Value = other;
  for (let depth = 0; depth < 20; depth++) y = relu(y);
  const loss = sum(mul(x, y));
  const before = graph.nodes.length;
  gradients(loss, [x]);
  const made = graph.nodes.slice(before).map(({ op }) => op);
  assert.not(made.includes("reluGradient"), made.join());
});

test("a loss that is no float scalar is refused with its type", () => {
  const graph = new Graph();
  const x = graph.input("x", [1, 2, 2, 2, 3]);
  const refused = (loss: Value, expected: RegExp) =>
    assert.throws(
      () => gradients(loss, [x]),
      (error: Error & { code?: string }) => error.code === "ERR_SHAPE" && expected.test(error.message),
    );
  refused(x, /the loss must be a float scalar, found f32\[1,2,2,2,3\]/);
  refused(argmax(x), /found u8\[1,2,2,2\]/);
  refused(graph.input("count", [], "i32"), /found i32\[\]/);
});

/** An expression of two leaves: built as a graph, and evaluated in float64. */
type Expression =
  | { readonly op: "a" | "b" }
  | { readonly op: "add" | "sub" | "mul" | "mulSum"; readonly left: Expression; readonly right: Expression }
  | { readonly op: "scale"; readonly factor: number; readonly left: Expression }
  | { readonly op: "spread"; readonly left: Expression };

/** Every expression has `shape`; sums come back by `fill` or as the scalar operand of a product. */
function build(e: Expression, leaves: Record<"a" | "b", Value>, seen: Map<Expression, Value>): Value {
  const known = seen.get(e);
  if (known !== undefined) return known;
  const of = (part: Expression) => build(part, leaves, seen);
  const make = (): Value => {
    switch (e.op) {
      case "a":
      case "b":
        return leaves[e.op];
      case "add":
        return add(of(e.left), of(e.right));
      case "sub":
        return sub(of(e.left), of(e.right));
      case "mul":
        return mul(of(e.left), of(e.right));
      case "mulSum":
        return mul(of(e.left), sum(of(e.right)));
      case "scale":
        return scale(of(e.left), e.factor);
      case "spread":
        return fill(sum(of(e.left)), shape);
    }
  };
  const value = make();
  seen.set(e, value);
  return value;
}

function evaluate(e: Expression, leaves: Record<"a" | "b", Float64Array>): Float64Array {
  const total = (data: Float64Array) => data.reduce((left, right) => left + right, 0);
  if (!("left" in e)) return leaves[e.op];
  const left = evaluate(e.left, leaves);
  if (e.op === "scale") return left.map((v) => v * Math.fround(e.factor));
  if (!("right" in e)) return left.map(() => total(left));
  const right = evaluate(e.right, leaves);
  if (e.op === "mulSum") return left.map((v) => v * total(right));
  return left.map((v, i) => (e.op === "add" ? v + right[i] : e.op === "sub" ? v - right[i] : v * right[i]));
}

const { expression } = fc.letrec<{ expression: Expression }>((tie) => ({
  expression: fc.oneof(
    { maxDepth: 4, depthIdentifier: "expression" },
    fc.record({ op: fc.constantFrom("a" as const, "b" as const) }),
    fc.record({
      op: fc.constantFrom("add" as const, "sub" as const, "mul" as const, "mulSum" as const),
      left: tie("expression"),
      right: tie("expression"),
    }),
    // The same node twice, so that gradients meet again.
    tie("expression").map((part): Expression => ({ op: "mul", left: part, right: part })),
    fc.record({
      op: fc.constant("scale" as const),
      factor: fc.integer({ min: -4, max: 4 }).map((n) => n / 4),
      left: tie("expression"),
    }),
    fc.record({ op: fc.constant("spread" as const), left: tie("expression") }),
  ),
}));

test("random expressions have the gradients that finite differences find", async () => {
  await fc.assert(
    fc.asyncProperty(expression, fc.integer({ min: 1, max: 1000 }), async (e, seed) => {
      const leaves = { a: random(6, seed), b: random(6, seed + 1) };
      const lossAt = (at: typeof leaves) => evaluate(e, at).reduce((left, right) => left + right, 0);
      const single = { a: Float32Array.from(leaves.a), b: Float32Array.from(leaves.b) };
      const found = await slopes(single, ([a, b]) => sum(build(e, { a, b }, new Map())));
      for (const name of ["a", "b"] as const) {
        const expected = leaves[name].map((value, i) => {
          const moved = (by: number) => lossAt({ ...leaves, [name]: leaves[name].with(i, value + by) });
          return (moved(1e-5) - moved(-1e-5)) / 2e-5;
        });
        const largest = Math.max(...expected.map(Math.abs));
        fc.pre(Number.isFinite(largest) && largest < 1e6);
        expectClose(found[name], expected, 2e-4, `gradient of ${name} in ${JSON.stringify(e)}`);
      }
    }),
    { numRuns: 150, seed: 20 },
  );
});

test("the bias of a convolution before batch norm gets zeros, before group norm a sum", async () => {
  const biasSlopes = async (normalise: (x: Value, ones: Value, zeros: Value) => Value) => {
    const plan = await compile((g) => {
      const [x, w, bias] = [
        g.input("x", [2, 3, 3, 3, 2]),
        g.input("w", [4, 1, 1, 1, 2]),
        g.input("bias", [4]),
      ];
      const y = normalise(conv3d(x, w, { bias }), g.input("ones", [4]), g.input("zeros", [4]));
      const [slope] = gradients(sum(mul(y, g.input("weights", [2, 3, 3, 3, 4]))), [bias]);
      return { slope };
    });
    const random = (length: number) => Float32Array.from({ length }, (_, i) => Math.sin(7 * i + length));
    const [ones, zeros] = [new Float32Array(4).fill(1), new Float32Array(4)];
    const feed = { x: random(108), w: random(8), bias: random(4), ones, zeros, weights: random(216) };
    const { slope } = await plan.run(feed);
    const kernels = plan.layout.steps.map(({ spec }) => spec.kernel);
    plan.dispose();
    return { slope: [...slope], sums: kernels.includes("sumToChannels") };
  };
  const batch = await biasSlopes((x, ones, zeros) => batchNorm(x, ones, zeros).y);
  assert.equal(batch, { slope: [0, 0, 0, 0], sums: false });
  assert.is((await biasSlopes((x, ones, zeros) => instanceNorm(x, ones, zeros))).sums, false);
  const group = await biasSlopes((x, ones, zeros) => groupNorm(x, ones, zeros, { groups: 2 }));
  assert.is(group.sums, true);
  assert.ok(group.slope.every((each) => Math.abs(each) > 1e-3));
});

test.run();
