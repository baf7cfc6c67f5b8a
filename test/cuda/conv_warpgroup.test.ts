/**
 * Convolutions and their gradients by products of warpgroups, every tile by name: on the emulator, and on a GPU of compute
 * capability 9.
 */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { upperHalves } from "../../lib/bench/fill.ts";
import { compile, planOnly } from "../../lib/compile/compile.ts";
import { Graph } from "../../lib/graph/graph.ts";
import { elements, type Shape } from "../../lib/graph/value.ts";
import { conv3d, type ConvOptions, convTranspose3d, weightGradientOp } from "../../lib/ops/conv.ts";
import { type Device, openDevice, type Precision } from "../../lib/runtime/device.ts";
import type { StepSpec } from "../../lib/runtime/native.ts";
import { expectClose, random } from "../ops/harness.ts";
import { runBare } from "../ops/run_bare.ts";
import { runStep } from "./run_step.ts";
import { devices, exchanged, short } from "./warpgroups.ts";

interface Case {
  readonly x: Shape;
  readonly w: Shape;
  readonly options: ConvOptions;
  readonly transposed?: boolean;
}

/** The case as a graph of one convolution with a bias. */
function traceOf({ x, w, options, transposed }: Case) {
  return (graph: Graph) => {
    const leaves = [graph.input("x", x), graph.input("w", w)] as const;
    const bias = graph.input("bias", [w[transposed ? 4 : 0]]);
    return { y: (transposed ? convTranspose3d : conv3d)(...leaves, { ...options, bias }) };
  };
}

/** The step that computes the case by packed weights. */
function stepOf(each: Case, device: Device, precision: Precision = "bf16"): StepSpec {
  const { steps } = planOnly(traceOf(each), { device, precision }).layout;
  const found = steps.find(({ spec }) => spec.kernel === "conv3dPacked");
  assert.ok(found);
  return found.spec;
}

const cases: readonly Case[] = [
  // Boxes that end outside.
  { x: [2, 3, 5, 7, 64], w: [72, 3, 3, 3, 64], options: { padding: 1 } },
  { x: [1, 3, 5, 7, 72], w: [72, 3, 3, 3, 64], options: { padding: 1 }, transposed: true },
  // Slices; taps that no voxel of some box reaches; more columns than the widest tile has.
  { x: [3, 1, 8, 11, 40], w: [264, 1, 3, 3, 40], options: { padding: [0, 6, 6], dilation: [1, 6, 6] } },
  {
    x: [3, 1, 13, 6, 64],
    w: [64, 1, 3, 3, 136],
    options: { padding: [0, 2, 2], dilation: [1, 2, 2] },
    transposed: true,
  },
  // A pointwise one; another padding than keeps the size.
  { x: [1, 4, 5, 9, 136], w: [136, 1, 1, 1, 136], options: {} },
  { x: [1, 6, 5, 4, 64], w: [64, 2, 1, 3, 64], options: { padding: [2, 0, 1], dilation: [2, 1, 1] } },
  // With a stride; pointwise, too; with dilation; lines so long that no box spans them.
  { x: [2, 5, 7, 9, 64], w: [72, 3, 3, 3, 64], options: { padding: 1, stride: 2 } },
  { x: [2, 1, 9, 14, 64], w: [128, 1, 1, 1, 64], options: { stride: [1, 2, 2] } },
  {
    x: [1, 1, 13, 21, 72],
    w: [64, 1, 3, 3, 72],
    options: { padding: [0, 2, 3], stride: [1, 3, 2], dilation: [1, 2, 3] },
  },
  { x: [1, 1, 2, 519, 64], w: [40, 1, 1, 2, 64], options: { stride: [1, 1, 2] } },
  // The classes of positions that an input gradient has then, some of which no tap reaches.
  { x: [2, 3, 4, 5, 64], w: [64, 3, 3, 3, 72], options: { padding: 1, stride: 2 }, transposed: true },
  { x: [1, 1, 4, 5, 64], w: [64, 1, 2, 1, 64], options: { stride: [1, 3, 2] }, transposed: true },
  {
    x: [1, 2, 3, 4, 64],
    w: [64, 3, 2, 3, 136],
    options: { padding: [0, 1, 2], stride: [1, 4, 2], dilation: [1, 2, 3] },
    transposed: true,
  },
  // Boxes of which no voxel reaches anything.
  { x: [1, 1, 4, 4, 64], w: [64, 1, 1, 1, 64], options: { padding: [0, 0, 40] } },
];
const [first] = cases;

/** A convolution whose weight gradient is computed. */
interface GradientCase {
  readonly x: Shape;
  /** Of the weights. */
  readonly shape: Shape;
  readonly padding: readonly [number, number, number];
  readonly dilation: readonly [number, number, number];
  readonly stride?: readonly [number, number, number];
}

const gradientCases: readonly GradientCase[] = [
  { x: [2, 3, 5, 7, 64], shape: [72, 3, 3, 3, 64], padding: [1, 1, 1], dilation: [1, 1, 1] },
  // Boxes of 64 voxels, and some that a tap does not reach.
  { x: [2, 1, 16, 16, 72], shape: [64, 1, 3, 3, 72], padding: [0, 12, 12], dilation: [1, 12, 12] },
  { x: [1, 4, 11, 9, 136], shape: [136, 1, 1, 1, 136], padding: [0, 0, 0], dilation: [1, 1, 1] },
  { x: [1, 6, 5, 4, 64], shape: [40, 2, 1, 3, 64], padding: [2, 0, 1], dilation: [2, 1, 1] },
  // With a stride; boxes that some tap does not reach, and lines so long that no box spans them.
  {
    x: [2, 5, 7, 9, 64],
    shape: [72, 3, 3, 3, 64],
    padding: [1, 1, 1],
    dilation: [1, 1, 1],
    stride: [2, 2, 2],
  },
  {
    x: [1, 1, 33, 30, 64],
    shape: [64, 1, 3, 3, 64],
    padding: [0, 9, 7],
    dilation: [1, 8, 7],
    stride: [1, 2, 3],
  },
  {
    x: [1, 1, 2, 519, 64],
    shape: [64, 1, 1, 2, 64],
    padding: [0, 0, 3],
    dilation: [1, 1, 1],
    stride: [1, 1, 8],
  },
  // Columns whose taps reach nothing.
  { x: [1, 1, 7, 9, 264], shape: [64, 1, 3, 1, 264], padding: [0, 9, 0], dilation: [1, 9, 1] },
];

function traceGradient({ x, shape, padding, dilation, stride = [1, 1, 1] }: GradientCase) {
  const output = [1, 2, 3].map(
    (axis) =>
      Math.floor(
        (x[axis] + 2 * padding[axis - 1] - dilation[axis - 1] * (shape[axis] - 1) - 1) / stride[axis - 1],
      ) + 1,
  );
  return (graph: Graph) => {
    const dy = graph.input("dy", [x[0], ...output, shape[0]]);
    const window = { stride, padding, dilation, groups: 1, shape };
    return { dw: weightGradientOp([graph.input("x", x), dy], window) };
  };
}

/** What the kernels of packed weights read, and what they are to yield. */
async function operandsOf(
  each: Case,
  precision: Precision = "bf16",
): Promise<{ data: NodeJS.TypedArray[]; expected: Float64Array }> {
  const numbers = (shape: Shape, seed: number) =>
    precision === "bf16" ? short(shape, seed) : Float32Array.from(random(elements(shape), seed));
  const [x, w] = [numbers(each.x, 1), numbers(each.w, 2)];
  const bias = Float32Array.from(random(each.w[each.transposed ? 4 : 0], 3));
  const expected = Float64Array.from(await runBare(traceOf(each)(new Graph()).y, [x, w, bias]));
  const packed = each.transposed ? exchanged(w, each.w) : w;
  const operands = [x, packed].map((each) => (precision === "bf16" ? upperHalves(each) : each));
  return { data: [...operands, bias], expected };
}

for (const device of devices) {
  // A GPU cuts off what its sums have no room for; how much the emulator knows only from measurements.
  const exact = device.name === "emulator" ? 2e-6 : 1e-4;
  const of = (text: string) => `${text}, on ${device.name}`;
  const tried = new Set<string>();

  for (const each of cases)
    test(of(`${each.transposed ? "transposed " : ""}[${each.x.join()}] by [${each.w.join()}]`), async () => {
      const spec = stepOf(each, device);
      const { data, expected } = await operandsOf(each);
      const ways = device.native.ways(spec);
      assert.ok(ways.some((name) => name.startsWith("warpgroups")));
      for (const [way, name] of ways.entries()) {
        if (!/^warpgroups .*bf16(, depth in [27] parts)?$/.test(name)) continue;
        tried.add(name);
        const step = { ...spec, attributes: { ...spec.attributes, way } };
        const [found] = await runStep(device, step, data);
        expectClose(new Float32Array(found), expected, exact, name);
      }
    });

  for (const each of [1, 2, 6, 8, 11].map((index) => cases[index]))
    test(of(`in tf32, [${each.x.join()}] by [${each.w.join()}]`), async () => {
      const spec = stepOf(each, device, "tf32");
      const { data, expected } = await operandsOf(each, "tf32");
      for (const [way, name] of device.native.ways(spec).entries()) {
        if (!/^warpgroups .*tf32$/.test(name)) continue;
        tried.add(name);
        const step = { ...spec, attributes: { ...spec.attributes, way } };
        const found = new Float32Array((await runStep(device, step, data))[0]);
        expectClose(found, expected, 2e-3, name);
        const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
        assert.ok(
          found.some((value, i) => Math.abs(value - expected[i]) > 2e-5 * largest),
          `${name} does not look like tf32`,
        );
      }
    });

  for (const each of gradientCases)
    test(of(`weight gradient [${each.shape.join()}] of [${each.x.join()}]`), async () => {
      const trace = traceGradient(each);
      const { graph, layout } = planOnly(trace, { device, precision: "bf16" });
      const spec = layout.steps.find((step) => step.spec.kernel === "conv3dWeightGradient")?.spec;
      assert.ok(spec);
      const operands = ["x", "dy"].map((name, i) => short(graph.inputs.get(name)?.shape ?? [], i + 1));
      using cpu = await compile(trace, { device: openDevice("cpu") });
      const { dw } = await cpu.run({ x: operands[0], dy: operands[1] });
      const expected = Float64Array.from(dw as Float32Array);
      const ways = device.native.ways(spec);
      assert.is(ways[0].startsWith("warpgroups"), each.shape[0] >= 64, ways[0]);
      for (const [way, name] of ways.entries()) {
        if (!name.startsWith("warpgroups")) continue;
        tried.add(name);
        const step = { ...spec, attributes: { ...spec.attributes, way } };
        for (const shift of way === 0 ? [0, 4] : [0]) {
          const [found] = await runStep(device, step, operands.map(upperHalves), shift);
          expectClose(new Float32Array(found), expected, exact, `${name}, ${shift} bytes further`);
        }
      }
    });

  test(of("every tile was launched"), () => {
    const launches = device.native.launches();
    const sizes = ["128x256", "256x128", "256x64", "128x128", "128x64"];
    const overVoxels = ["128x256", "64x256", "128x128"].map((size) => `over voxels ${size}`);
    const tiles = [
      ...[...sizes, ...overVoxels].map((size) => `warpgroups ${size}, bf16`),
      ...sizes.map((size) => `warpgroups ${size}, tf32`),
    ];
    for (const tile of tiles) assert.ok(tried.has(tile) && launches[tile] > 0, tile);
    assert.ok([...tried].some((name) => name.includes("parts")));
  });

  for (const schedule of device.name === "emulator" ? ["1", "7"] : ["0"])
    test(of(`stored as bf16, threads in order ${schedule}`), async () => {
      const before = process.env.VOXGRAD_SCHEDULE ?? "0";
      process.env.VOXGRAD_SCHEDULE = schedule;
      const spec = stepOf(first, device);
      const { data, expected } = await operandsOf(first);
      const output = { ...spec.output, dtype: "bf16" } as const;
      // Of whole depth, in which every place for tiles is used several times.
      const way = device.native.ways(spec).indexOf("warpgroups 128x64, bf16");
      const attributes = { ...spec.attributes, way };
      const [found] = await runStep(device, { ...spec, output, attributes }, data);
      const floats = Uint32Array.from(new Uint16Array(found), (half) => half << 16);
      expectClose(new Float32Array(floats.buffer), expected, 2 ** -8, schedule);
      process.env.VOXGRAD_SCHEDULE = before;
    });

  test(of("operands that are not aligned are left to threads that copy single numbers"), async () => {
    const small = { ...first, w: [64, 1, 1, 1, 64], options: {} };
    const spec = stepOf(small, device);
    assert.match(device.native.ways(spec)[0], /^warpgroups/);
    const { data, expected } = await operandsOf(small);
    const [found] = await runStep(device, spec, data, 4);
    expectClose(new Float32Array(found), expected, exact, "unaligned");
  });

  test(of("a recorded plan yields the same bits"), async () => {
    const [x, w, bias] = [short(first.x, 1), short(first.w, 2), short([first.w[0]], 3)];
    using plan = await compile(traceOf(first), { device, precision: "bf16", paranoid: false });
    const runs: unknown[] = [];
    for (let run = 0; run < 3; run++) runs.push((await plan.run({ x, w, bias })).y);
    assert.is(plan.recordingState, "recorded");
    assert.equal(runs.slice(1), [runs[0], runs[0]]);
  });

  test(of("deep layers take them in bf16 and tf32"), () => {
    const takes = (each: Case, precision?: Precision) =>
      device.native.ways(stepOf(each, device, precision))[0].startsWith("warpgroups");
    assert.ok(takes(first) && takes(first, "tf32") && !takes(first, "f32"));
    for (const other of [
      { ...first, x: [1, 8, 8, 8, 32], w: [64, 3, 3, 3, 32] },
      { ...first, w: [64, 3, 3, 3, 32], options: { padding: 1, groups: 2 } },
      { ...first, x: [1, 4, 4, 4, 68], w: [64, 3, 3, 3, 68] },
      // Most rows of a box would be empty.
      { ...first, x: [1, 1, 1, 1, 64], w: [64, 1, 1, 1, 64], options: {} },
    ])
      assert.not.ok(takes(other), JSON.stringify(other));
  });
}
if (devices.length === 0) test("skipped", () => undefined);

test.run();
