/** Packing weights in a step of their own changes no bit of a convolution. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { compile } from "../../lib/compile/compile.ts";
import { Graph } from "../../lib/graph/graph.ts";
import { State } from "../../lib/graph/state.ts";
import { elements, type Operand, type Value } from "../../lib/graph/value.ts";
import { conv3d, convTranspose3d } from "../../lib/ops/conv.ts";
import { packedConv, packedWeight } from "../../lib/ops/conv_packed.ts";
import { openDevice } from "../../lib/runtime/device.ts";
import { runBare } from "./run_bare.ts";

const cases: [string, readonly number[], readonly number[], (x: Value, w: Value) => Value][] = [
  ["3x3x3, many channels", [1, 6, 6, 6, 32], [32, 3, 3, 3, 32], (x, w) => conv3d(x, w, { padding: 1 })],
  ["3x3x3, one channel", [2, 4, 5, 6, 1], [5, 3, 3, 3, 1], (x, w) => conv3d(x, w, { padding: 1 })],
  [
    "strided and dilated",
    [1, 5, 7, 9, 3],
    [4, 2, 3, 3, 3],
    (x, w) => conv3d(x, w, { stride: 2, dilation: [1, 2, 1] }),
  ],
  ["groups", [1, 4, 4, 4, 4], [6, 3, 1, 3, 2], (x, w) => conv3d(x, w, { groups: 2 })],
  ["depthwise", [1, 4, 4, 4, 4], [4, 3, 3, 3, 1], (x, w) => conv3d(x, w, { groups: 4 })],
  ["transposed", [1, 3, 3, 3, 8], [8, 2, 2, 2, 4], (x, w) => convTranspose3d(x, w, { stride: 2 })],
];

for (const [name, extents, weights, convolve] of cases)
  test(`${name}: packed or not, the same bits`, async () => {
    const x = Float32Array.from({ length: elements(extents) }, (_, i) => Math.sin(i * 1.7));
    const w = Float32Array.from({ length: elements(weights) }, (_, i) => Math.cos(i * 2.3));
    const graph = new Graph();
    const node = convolve(graph.input("x", extents), graph.input("w", weights));
    const device = openDevice();
    const bare = await runBare(node, [x, w], device.native);
    // Of the ways to compute it, both take the usual one.
    const plan = await compile((g) => ({ y: convolve(g.input("x", extents), g.input("w", weights)) }), {
      device,
      paranoid: true,
      tune: "off",
    });
    assert.equal(
      plan.layout.steps.map(({ spec }) => spec.kernel),
      ["conv3dPackWeights", "conv3dPacked"],
    );
    assert.is(
      plan.flops,
      2 *
        elements([...weights]) *
        elements(node.op === "conv3d" ? node.shape.slice(0, 4) : extents.slice(0, 4)),
    );
    const { y } = await plan.run({ x, w });
    assert.ok(Buffer.from(y.buffer).equals(Buffer.from(bare.buffer)));
    plan.dispose();
  });

test("weights that few voxels read are not packed, but where they serve many runs", async () => {
  const extents = [2, 2, 2, 2, 64];
  const shape = [96, 3, 3, 3, 64];
  const kernels = async (weights: (graph: Graph) => Operand) => {
    using plan = await compile((g) => ({ y: conv3d(g.input("x", extents), weights(g), { padding: 1 }) }), {
      device: openDevice("cpu"),
    });
    return plan.layout.steps.map(({ spec }) => spec.kernel);
  };
  assert.equal(await kernels((g) => g.input("w", shape)), ["conv3dPacked"]);
  const state = new State("w", shape);
  assert.equal(await kernels(() => state), ["conv3dPackWeights", "conv3dPacked"]);
});

test("packed weights are as long as the device is told", () => {
  const w = new Graph().input("w", [2, 3, 3, 3, 2]);
  const one = [1, 1, 1];
  const window = { stride: one, padding: one, dilation: one, groups: 1 };
  const sizes = { input: [1, 4, 4, 4], output: [4, 4, 4] };
  const packed = packedWeight(w, { ...window, ...sizes, inputGradient: false, packedOnce: true }, () => 7);
  assert.equal([packed.op, packed.shape], ["conv3dPackWeights", [7]]);
});

test("weights that are not packed have five axes, packed ones have one", () => {
  const graph = new Graph();
  const node = conv3d(graph.input("x", [1, 2, 2, 2, 4]), graph.input("w", [4, 3, 3, 3, 4]), { padding: 1 });
  const [x, w] = node.inputs;
  assert.is(packedConv(node, [x, w], false, () => 0).inputs[1], w);
  const flat = graph.input("flat", [4, 108]);
  assert.throws(() => packedConv(node, [x, flat], false, () => 0), /conv3dPacked: .*1 axes.*4,108/);
});

test("packed weights of another size are refused by the device", async () => {
  const trace = (g: Graph) => {
    const node = conv3d(g.input("x", [1, 4, 4, 4, 2]), g.input("w", [2, 3, 3, 3, 2]), { padding: 1 });
    return { y: packedConv(node, node.inputs, true, () => 7) };
  };
  const refusal = await compile(trace).then(() => "compiled", String);
  assert.match(refusal, /conv3dPackWeights #\d+: .*7/);
});

test.run();
