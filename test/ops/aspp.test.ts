/** Convolutions side by side: against float64, and against the convolutions one by one. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { gradients } from "../../lib/autograd/gradients.ts";
import { compile } from "../../lib/compile/compile.ts";
import { Graph } from "../../lib/graph/graph.ts";
import { State } from "../../lib/graph/state.ts";
import { elements, type Shape, type Value } from "../../lib/graph/value.ts";
import { aspp as embedded } from "../../lib/index.ts";
import { mul, sum } from "../../lib/ops/arithmetic.ts";
import { aspp } from "../../lib/ops/aspp.ts";
import { packedAspp } from "../../lib/ops/aspp_packed.ts";
import { conv3d } from "../../lib/ops/conv.ts";
import { opOf } from "../../lib/ops/define.ts";
import { concat } from "../../lib/ops/shape.ts";
import { openDevice } from "../../lib/runtime/device.ts";
import { conv, convInputGradient, convWeightGradient } from "../oracle/conv.ts";
import { checkOp, expectClose, random } from "./harness.ts";

type Triple = readonly [number, number, number];
/** Kernel and dilation of a branch. */
type Branch = readonly [Triple, Triple];

interface Case {
  readonly x: Shape;
  readonly outputs: number;
  readonly branches: readonly Branch[];
}

const flat = (size: number, rate = 1): Branch => [
  [1, size, size],
  [1, rate, rate],
];
const geometryOf = ([kernel, dilation]: Branch) => ({
  stride: [1, 1, 1],
  padding: kernel.map((size, axis) => ((size - 1) / 2) * dilation[axis]),
  dilation,
  groups: 1,
});
const convolved = (x: Value, w: Value, branch: Branch): Value => {
  const { padding, dilation } = geometryOf(branch);
  return conv3d(x, w, { padding: padding as unknown as Triple, dilation });
};
const weightShapes = ({ x, outputs, branches }: Case) =>
  branches.map(([kernel]) => [outputs, ...kernel, x[4]]);
const dilations = ({ branches }: Case) => branches.map(([, dilation]) => dilation);

function part(y: Float64Array | Float32Array, channels: number, branch: number, outputs: number) {
  const result = new Float64Array((y.length / channels) * outputs);
  for (let i = 0; i < result.length; i++)
    result[i] = y[Math.floor(i / outputs) * channels + branch * outputs + (i % outputs)];
  return result;
}

/** Results and gradients of `aspp`, or of convolutions side by side, for the same random operands. */
async function results(each: Case, make: "aspp" | "convolutions") {
  const weights = weightShapes(each);
  const wide = each.outputs * weights.length;
  const shapes = [each.x, [...each.x.slice(0, 4), wide], ...weights];
  const [x, dy, ...w] = shapes.map((shape, i) => ({ shape, data: random(elements(shape), i + 1) }));
  using plan = await compile(
    (graph) => {
      const [input, slope, ...own] = shapes.map((shape, i) => graph.input(`${i}`, shape));
      const y =
        make === "aspp"
          ? aspp(input, own, { dilations: dilations(each) })
          : concat(
              own.map((weight, i) => convolved(input, weight, each.branches[i])),
              { axis: -1 },
            );
      const [dx, ...dw] = gradients(sum(mul(y, slope)), [input, ...own]);
      return { y, dx, ...Object.fromEntries(dw.map((each, i) => [`dw${i}`, each])) };
    },
    { paranoid: true },
  );
  const feed = Object.fromEntries([x, dy, ...w].map(({ data }, i) => [`${i}`, Float32Array.from(data)]));
  const found = (await plan.run(feed)) as Record<string, Float32Array>;
  return { x, dy, w, found, steps: plan.layout.steps };
}

const volume: Triple = [3, 3, 3];
const cases: Record<string, Case> = {
  "as in DeepLab: pointwise, Winograd, taps in the padding": {
    x: [2, 1, 13, 11, 64],
    outputs: 72,
    branches: [flat(1), flat(3, 2), flat(3, 6), flat(3, 12)],
  },
  "channels that fill no vector": {
    x: [1, 2, 9, 10, 70],
    outputs: 19,
    branches: [flat(3, 1), flat(3, 3), flat(1), flat(3, 9)],
  },
  "few channels": { x: [2, 2, 5, 7, 3], outputs: 2, branches: [flat(1), flat(3, 2), flat(5, 1)] },
  "kernels of volumes": {
    x: [1, 6, 7, 5, 20],
    outputs: 18,
    branches: [
      [
        [1, 1, 1],
        [1, 1, 1],
      ],
      [volume, [1, 1, 1]],
      [volume, [2, 3, 1]],
      [
        [3, 1, 5],
        [1, 1, 2],
      ],
    ],
  },
  "fewer voxels than a tile": { x: [3, 1, 1, 1, 33], outputs: 5, branches: [flat(1), flat(3, 2), flat(1)] },
  "one branch": { x: [1, 1, 6, 5, 65], outputs: 33, branches: [flat(3, 2)] },
};

for (const [name, each] of Object.entries(cases))
  test(`${name}: values and gradients`, async () => {
    const { x, dy, w, found } = await results(each, "aspp");
    const channels = each.outputs * each.branches.length;
    const dx = new Float64Array(elements(each.x));
    for (const [i, branch] of each.branches.entries()) {
      const geometry = geometryOf(branch);
      const { shape, data } = conv(x, w[i], geometry);
      expectClose(part(found.y, channels, i, each.outputs), data, 5e-6, `branch ${i}`);
      const own = { shape, data: part(dy.data, channels, i, each.outputs) };
      const { data: dw } = convWeightGradient(x, own, w[i].shape, geometry);
      expectClose(found[`dw${i}`], dw, 5e-6, `weight gradient ${i}`);
      convInputGradient(own, w[i], x.shape, geometry).data.forEach((value, at) => (dx[at] += value));
    }
    expectClose(found.dx, dx, 5e-6, "input gradient");
  });

test("each branch is computed as the convolution is that it stands for", async () => {
  const each = cases["as in DeepLab: pointwise, Winograd, taps in the padding"];
  const [joined, apart] = [await results(each, "aspp"), await results(each, "convolutions")];
  const bytes = (array: Float32Array) => Buffer.from(array.buffer);
  // Elsewhere a convolution by itself may add up its products in another order.
  const sameOrder = openDevice().name === "cpu";
  for (const name of ["y", "dw0", "dw1", "dw2", "dw3"])
    if (sameOrder) assert.ok(bytes(joined.found[name]).equals(bytes(apart.found[name])), name);
    else expectClose(joined.found[name], apart.found[name], 2e-6, name);
  const kernels = joined.steps
    .map(({ spec }) => spec.kernel)
    .filter((kernel) => /aspp|concat|slice/.test(kernel));
  assert.equal(kernels.sort(), ["asppPacked", "asppPacked", "asppWeightGradients"]);
});

test("finite differences agree", async () => {
  await checkOp({
    inputs: {
      x: { shape: [1, 1, 5, 4, 3] },
      a: { shape: [2, 1, 1, 1, 3] },
      b: { shape: [2, 1, 3, 3, 3] },
    },
    build: ({ x, a, b }) => aspp(x, [a, b], { dilations: [1, [1, 2, 2]] }),
    reference: ({ x, a, b }) => {
      const parts = [conv(x, a, geometryOf(flat(1))), conv(x, b, geometryOf(flat(3, 2)))];
      return Float64Array.from({ length: 80 }, (_, i) => parts[(i % 4) >> 1].data[(i >> 2) * 2 + (i % 2)]);
    },
  });
});

test("a branch that is not trained has no gradient", async () => {
  const train = (graph: Graph) => {
    const x = graph.input("x", [1, 1, 4, 4, 2]);
    const [a, b, c] = [0, 1, 2].map((i) => graph.input(`w${i}`, [2, 1, 3, 3, 2]));
    const y = aspp(x, [a, b, c], { dilations: [1, 2, 3] });
    const [da, dc] = gradients(sum(mul(y, y)), [a, c]);
    return { da, dc };
  };
  using plan = await compile(train, { paranoid: true });
  const kernels = plan.layout.steps.map(({ spec }) => spec.kernel);
  assert.is(kernels.filter((kernel) => kernel === "asppWeightGradient").length, 2);
  assert.not(kernels.includes("asppWeightGradients"));
  const feed = {
    x: new Float32Array(32).fill(1),
    ...Object.fromEntries([0, 1, 2].map((i) => [`w${i}`, new Float32Array(36).fill(i)])),
  };
  const { da, dc } = await plan.run(feed);
  assert.ok(
    da.every((value) => value === 0),
    "the first branch yields nothing",
  );
  assert.ok(dc.some((value) => value !== 0));
});

test("a device without kernels of its own computes the branches one by one", async () => {
  const { x, outputs, branches } = cases["few channels"];
  const states = weightShapes(cases["few channels"]).map(
    (shape, i) => new State(`w${i}`, shape, { initial: () => Float32Array.from(random(elements(shape), i)) }),
  );
  const trace = (graph: Graph) => {
    const input = graph.input("x", x);
    const own = states.map((state) => graph.read(state));
    const y = aspp(input, own, { dilations: branches.map(([, dilation]) => dilation) });
    const [dx, ...dw] = gradients(sum(mul(y, y)), [input, ...own]);
    return { y, dx, dw: dw[1] };
  };
  const device = openDevice();
  const native = new Proxy(device.native, {
    get: (target, name) => {
      const value = Reflect.get(target, name) as unknown;
      if (name === "kernels") return () => target.kernels().filter((kernel) => !kernel.startsWith("aspp"));
      return typeof value === "function" && name !== "Plan" && name !== "Buffer"
        ? (value.bind(target) as unknown)
        : value;
    },
  });
  const bare = Object.create(device, { native: { value: native } }) as typeof device;
  using own = await compile(trace, { paranoid: true, device });
  using lowered = await compile(trace, { paranoid: true, device: bare });
  const kernels = new Set(lowered.layout.steps.map(({ spec }) => spec.kernel));
  assert.equal(
    [...kernels].filter((kernel) => kernel.startsWith("aspp")),
    [],
  );
  assert.ok(kernels.has("concat") && kernels.has("slice"));
  const feed = { x: Float32Array.from(random(elements(x), 7)) };
  const [found, expected] = [await lowered.run(feed), await own.run(feed)];
  for (const name of ["y", "dx", "dw"] as const)
    expectClose(found[name], Float64Array.from(expected[name]), 2e-6, name);
  assert.is(expected.y.length, (elements(x) / x[4]) * outputs * branches.length);
});

test("packed weights of another size are refused by the device", async () => {
  const trace = (g: Graph) => {
    const node = aspp(g.input("x", [1, 1, 4, 4, 2]), [g.input("w", [2, 1, 3, 3, 2])], { dilations: [2] });
    return { y: packedAspp(node, node.inputs, true, () => 7) };
  };
  assert.match(await compile(trace).then(() => "compiled", String), /conv3dPackWeights #\d+: .*7/);
});

test("outside of a graph it takes tensors", async () => {
  const tensor = (shape: readonly number[], value: number) => ({
    shape,
    data: new Float32Array(elements(shape)).fill(value),
  });
  const y = await embedded(
    tensor([1, 1, 3, 3, 1], 1),
    [tensor([1, 1, 1, 1, 1], 2), tensor([1, 1, 3, 3, 1], 1)],
    { dilations: [1, [1, 2, 2]] },
  );
  assert.equal(y.shape, [1, 1, 3, 3, 2]);
  assert.equal([...y.data].slice(0, 4), [2, 4, 2, 2]);
});

test("operands that do not fit are refused by name", () => {
  const graph = new Graph();
  const x = graph.input("x", [1, 2, 5, 5, 4]);
  const w = (...shape: number[]) => graph.input(`w${shape.join("x")}`, shape);
  const fits = w(3, 1, 3, 3, 4);
  const refused = (weights: Value[], rates: number[], message: RegExp) =>
    assert.throws(() => aspp(x, weights, { dilations: rates }), message);
  refused([], [], /aspp: there must be 1 to 16 branches, found 0/);
  refused([fits], [1, 2], /aspp: 1 branches need as many dilations, found 2/);
  refused([fits], [0], /aspp: dilations must be whole numbers from 1 to 32768, found 0,0,0/);
  refused([fits, w(2, 1, 3, 3, 4)], [1, 1], /aspp: the weights must have the same channels and odd kernels/);
  refused([w(3, 1, 2, 3, 4)], [1], /aspp: the weights must have the same channels and odd kernels/);
  refused([w(3, 1, 1, 1, 5)], [1], /does not fit the channels of f32\[1,2,5,5,4\]/);
  refused([w(3, 4)], [1], /a weight \[Cout, kD, kH, kW, Cin\] must have 5 axes/);
  assert.is(opOf(aspp(x, [fits], { dilations: [1] }))?.name, "aspp");
});

test.run();
