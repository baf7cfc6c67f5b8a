/** `aspp` and its input gradient by products of warpgroups, every tile by name: on the emulator, and on a GPU of compute capability 9. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { gradients } from "../../lib/autograd/gradients.ts";
import { upperHalves } from "../../lib/bench/fill.ts";
import { compile, planOnly } from "../../lib/compile/compile.ts";
import type { Graph } from "../../lib/graph/graph.ts";
import type { Shape } from "../../lib/graph/value.ts";
import { mul, sum } from "../../lib/ops/arithmetic.ts";
import { aspp } from "../../lib/ops/aspp.ts";
import type { PerAxis } from "../../lib/ops/conv.ts";
import { type Device, openDevice, type Precision } from "../../lib/runtime/device.ts";
import type { StepSpec } from "../../lib/runtime/native.ts";
import { expectClose } from "../ops/harness.ts";
import { runStep } from "./run_step.ts";
import { devices, exchanged, short } from "./warpgroups.ts";

interface Case {
  readonly x: Shape;
  readonly outputs: number;
  /** `[kD, kH, kW]` and dilation of each branch. */
  readonly branches: readonly (readonly [kernel: readonly [number, number, number], dilation: PerAxis])[];
}

const cases: readonly Case[] = [
  // As in DeepLab; taps that some boxes do not reach, and a branch of which only the middle tap does.
  {
    x: [2, 1, 13, 11, 64],
    outputs: 128,
    branches: [
      [[1, 1, 1], 1],
      [
        [1, 3, 3],
        [1, 6, 6],
      ],
      [
        [1, 3, 3],
        [1, 20, 20],
      ],
    ],
  },
  // Kernels of volumes; channels that fill no tile but its half.
  {
    x: [1, 5, 6, 7, 72],
    outputs: 192,
    branches: [
      [
        [3, 1, 3],
        [2, 1, 1],
      ],
      [[1, 1, 5], 1],
    ],
  },
  // One branch, whose channels need not fill tiles.
  {
    x: [3, 1, 9, 8, 40],
    outputs: 72,
    branches: [
      [
        [1, 3, 3],
        [1, 2, 4],
      ],
    ],
  },
];
const [first] = cases;

function trace({ x: shape, outputs, branches }: Case) {
  return (graph: Graph) => {
    const x = graph.input("x", shape);
    const w = branches.map(([kernel], i) => graph.input(`w${i}`, [outputs, ...kernel, shape[4]]));
    const y = aspp(x, w, { dilations: branches.map(([, dilation]) => dilation) });
    const [dx] = gradients(sum(mul(y, graph.input("dy", y.shape))), [x]);
    return { y, dx };
  };
}

/** The steps of the result and of the input gradient, which both read packed weights. */
function stepsOf(each: Case, device: Device, precision: Precision): StepSpec[] {
  const { steps } = planOnly(trace(each), { device, precision }).layout;
  const found = steps.flatMap(({ spec }) => (spec.kernel === "asppPacked" ? spec : []));
  assert.is(found.length, 2);
  return found;
}

/** What these steps read, as numbers that bfloat16 holds, and what they are to yield. */
async function operandsOf(each: Case) {
  using cpu = await compile(trace(each), { device: openDevice("cpu") });
  const feed = Object.fromEntries(
    [...cpu.graph.inputs].map(([name, { shape }], i) => [name, short(shape, i + 1)]),
  );
  const weights = each.branches.map(([kernel], i) => ({
    w: feed[`w${i}`],
    shape: [each.outputs, ...kernel, each.x[4]],
  }));
  const { y, dx } = (await cpu.run(feed)) as Record<"y" | "dx", Float32Array>;
  return [
    { data: [feed.x, ...weights.map(({ w }) => w)], expected: Float64Array.from(y) },
    {
      data: [feed.dy, ...weights.map(({ w, shape }) => exchanged(w, shape))],
      expected: Float64Array.from(dx),
    },
  ];
}

for (const device of devices) {
  // A GPU cuts off what its sums have no room for; how much the emulator knows only from measurements.
  const exact = device.name === "emulator" ? 5e-6 : 1e-4;
  const of = (text: string) => `${text}, on ${device.name}`;
  const tried = new Set<string>();

  for (const each of cases)
    for (const precision of ["bf16", "tf32"] as const)
      test(
        of(`[${each.x.join()}] to ${each.outputs} by ${JSON.stringify(each.branches)}, ${precision}`),
        async () => {
          const operands = await operandsOf(each);
          for (const [i, spec] of stepsOf(each, device, precision).entries()) {
            const { data, expected } = operands[i];
            const stored = precision === "bf16" ? data.map(upperHalves) : data;
            for (const [way, name] of device.native.ways(spec).entries()) {
              tried.add(name);
              const step = { ...spec, attributes: { ...spec.attributes, way } };
              for (const shift of way === 0 ? [0, 4] : [0]) {
                const [found] = await runStep(device, step, stored, shift);
                expectClose(new Float32Array(found), expected, exact, `${name}, ${shift} bytes further`);
              }
            }
          }
        },
      );

  test(of("every tile was launched"), () => {
    const launches = device.native.launches();
    const tiles = ["128x256", "128x128", "128x64"].flatMap((size) =>
      ["bf16", "tf32"].map((precision) => `joined warpgroups ${size}, ${precision}`),
    );
    for (const tile of tiles) assert.ok(tried.has(tile) && launches[tile] > 0, tile);
  });

  for (const schedule of device.name === "emulator" ? ["1", "7"] : ["0"])
    test(of(`stored as bf16, threads in order ${schedule}`), async () => {
      const before = process.env.VOXGRAD_SCHEDULE ?? "0";
      process.env.VOXGRAD_SCHEDULE = schedule;
      const operands = await operandsOf(first);
      for (const [i, spec] of stepsOf(first, device, "bf16").entries()) {
        const { data, expected } = operands[i];
        const output = { ...spec.output, dtype: "bf16" } as const;
        const [found] = await runStep(device, { ...spec, output }, data.map(upperHalves));
        const floats = Uint32Array.from(new Uint16Array(found), (half) => half << 16);
        expectClose(new Float32Array(floats.buffer), expected, 2 ** -8, schedule);
      }
      process.env.VOXGRAD_SCHEDULE = before;
    });

  test(of("of many channels they are the usual way"), () => {
    const usual = (each: Case, precision: Precision) =>
      stepsOf(each, device, precision).map((spec) =>
        device.native.ways(spec)[0].startsWith("joined warpgroups"),
      );
    assert.equal(usual(first, "bf16"), [true, true]);
    assert.equal(usual(first, "tf32"), [true, true]);
    assert.equal(usual(first, "f32"), [false, false]);
    // Of the input gradient, tiles behind a branch's channels would hold those of the next one.
    assert.equal(usual({ ...first, outputs: 72 }, "bf16"), [true, false]);
    assert.equal(usual({ ...first, x: [2, 1, 13, 11, 40] }, "bf16"), [false, false]);
    // Most rows of a box would be empty.
    assert.equal(usual({ ...first, x: [1, 1, 1, 1, 64] }, "bf16"), [false, false]);
  });
}
if (devices.length === 0) test("skipped", () => undefined);

test.run();
