/** Convolutions whose results fit into no cache are stored past them: the same bits as sample by sample, where they are not. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { compile } from "../../lib/compile/compile.ts";
import { Graph } from "../../lib/graph/graph.ts";
import { elements, type Shape, type Value } from "../../lib/graph/value.ts";
import { add, mul, scale, sum } from "../../lib/ops/arithmetic.ts";
import { conv3d, type ConvOptions, convTranspose3d } from "../../lib/ops/conv.ts";
import { moments } from "../../lib/ops/norm.ts";
import { random } from "./harness.ts";

type Op = (x: Value, w: Value) => Record<string, Value>;

const plain =
  (options: ConvOptions): Op =>
  (x, w) => ({ y: conv3d(x, w, options) });
const transposed =
  (options: ConvOptions): Op =>
  (x, w) => ({ y: convTranspose3d(x, w, options) });
const summed: Op = (x, w) => {
  const y = conv3d(x, w, { padding: 1 });
  return { y, moments: moments(y, { perSample: false, groups: 16 }) };
};

const cases: readonly [name: string, x: Shape, w: Shape, op: Op][] = [
  ["3x3x3", [2, 32, 64, 64, 16], [16, 3, 3, 3, 16], plain({ padding: 1 })],
  ["3x3x3 with moments", [2, 32, 64, 65, 16], [16, 3, 3, 3, 16], summed],
  ["3x3x3 transposed", [2, 33, 64, 64, 16], [16, 3, 3, 3, 16], transposed({ padding: 1 })],
  ["2x2x2 transposed", [2, 16, 32, 33, 32], [32, 2, 2, 2, 16], transposed({ stride: 2 })],
  ["2x2x2 transposed, 24 channels", [2, 14, 30, 30, 32], [32, 2, 2, 2, 24], transposed({ stride: 2 })],
  ["pointwise", [2, 16, 64, 66, 24], [32, 1, 1, 1, 24], plain({})],
  ["pointwise, a tail of channels", [2, 32, 64, 64, 8], [20, 1, 1, 1, 8], plain({})],
  [
    "pointwise transposed, every other voxel",
    [2, 17, 33, 33, 32],
    [32, 1, 1, 1, 16],
    transposed({ stride: 2 }),
  ],
  ["first layer", [2, 32, 64, 65, 1], [16, 3, 3, 3, 1], plain({ padding: 1 })],
];

/** Floats from which on a result is stored past the caches. */
const LARGE = 2 ** 22;

/** The result of a plan whose memory held other values before. */
async function resultOf(op: Op, x: Float32Array, xShape: Shape, w: Float32Array, wShape: Shape) {
  const shapes = new Graph();
  const floats = elements(op(shapes.input("x", xShape), shapes.input("w", wShape)).y.shape);
  using plan = await compile((graph: Graph) => {
    const dirt = graph.input("dirt", [floats]);
    const zero = scale(sum(mul(dirt, dirt)), 0);
    return op(add(graph.input("x", xShape), zero), graph.input("w", wShape));
  });
  return (await plan.run({ x, w, dirt: new Float32Array(floats).fill(3) })).y as Float32Array;
}

for (const [name, xShape, wShape, op] of cases)
  test(`${name}: as sample by sample`, async () => {
    const x = Float32Array.from(random(elements(xShape), 1));
    const w = Float32Array.from(random(elements(wShape), 2));
    const whole = await resultOf(op, x, xShape, w, wShape);
    assert.ok(whole.length >= LARGE && whole.length / 2 < LARGE, `${whole.length} values`);
    const half = x.length / 2;
    const one: Shape = [1, ...xShape.slice(1)];
    const first = await resultOf(op, x.subarray(0, half), one, w, wShape);
    const second = await resultOf(op, x.subarray(half), one, w, wShape);
    const parts = new Float32Array(whole.length);
    parts.set(first);
    parts.set(second, first.length);
    const differs = whole.findIndex((value, i) => !Object.is(value, parts[i]));
    assert.is(differs, -1, `value ${differs} is ${whole[differs]}, alone ${parts[differs]}`);
  });

test.run();
