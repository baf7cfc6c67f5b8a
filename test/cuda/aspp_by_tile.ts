/** Runs `aspp` with its gradients in the precision and on the device that the arguments name; prints the algorithms, the errors against the CPU, and what was launched. */
import { gradients } from "../../lib/autograd/gradients.ts";
import { compile } from "../../lib/compile/compile.ts";
import type { Graph } from "../../lib/graph/graph.ts";
import { elements, type Shape } from "../../lib/graph/value.ts";
import { mul, sum } from "../../lib/ops/arithmetic.ts";
import { aspp } from "../../lib/ops/aspp.ts";
import type { PerAxis } from "../../lib/ops/conv.ts";
import { openDevice, type Precision } from "../../lib/runtime/device.ts";
import { random } from "../ops/harness.ts";

interface Case {
  readonly x: Shape;
  readonly outputs: number;
  /** `[kD, kH, kW]` and dilation of each branch. */
  readonly branches: readonly (readonly [kernel: Shape, dilation: PerAxis])[];
}

const point: Shape = [1, 1, 1];
const square: Shape = [1, 3, 3];
const cases: readonly Case[] = [
  // Large tiles, of the result and of the input gradient; rows whose taps all lie in the padding.
  {
    x: [1, 1, 33, 32, 4],
    outputs: 512,
    branches: [
      [point, 1],
      [
        [1, 3, 1],
        [1, 20, 1],
      ],
    ],
  },
  {
    x: [1, 1, 32, 64, 512],
    outputs: 4,
    branches: [
      [[1, 1, 3], 7],
      [point, 1],
    ],
  },
  // Small ones; depths that are no multiple of a tile's; a branch that finds its middle tap alone.
  {
    x: [2, 1, 7, 9, 36],
    outputs: 28,
    branches: [
      [square, [1, 2, 3]],
      [point, 1],
      [square, [1, 9, 9]],
    ],
  },
  {
    x: [1, 3, 5, 7, 12],
    outputs: 40,
    branches: [
      [[3, 3, 3], 1],
      [
        [3, 1, 5],
        [2, 1, 1],
      ],
    ],
  },
  {
    x: [2, 1, 13, 15, 48],
    outputs: 12,
    branches: [
      [square, 4],
      [square, 8],
    ],
  },
  // Channels that fill no vector.
  {
    x: [2, 2, 5, 6, 7],
    outputs: 5,
    branches: [
      [square, 1],
      [square, [1, 2, 4]],
      [point, 1],
    ],
  },
  { x: [1, 1, 4, 5, 3], outputs: 34, branches: [[square, 2]] },
];

/** Largest error relative to the largest value. */
function error(found: Float32Array, expected: Float32Array): number {
  let largest = 0;
  let worst = 0;
  for (let i = 0; i < expected.length; i++) {
    largest = Math.max(largest, Math.abs(expected[i]));
    const difference = Math.abs(found[i] - expected[i]);
    worst = difference <= worst ? worst : difference;
  }
  return worst / largest;
}

const precision = process.argv[2] as Precision;
const device = openDevice(process.argv[3]);
const rows: { what: string; algorithms: string[]; errors: Record<string, number> }[] = [];
for (const { x, outputs, branches } of cases) {
  const trace = (graph: Graph) => {
    const input = graph.input("x", x);
    const weights = branches.map(([kernel], i) => graph.input(`w${i}`, [outputs, ...kernel, x[4]]));
    const y = aspp(input, weights, { dilations: branches.map(([, dilation]) => dilation) });
    const [dx, ...dw] = gradients(sum(mul(y, graph.input("dy", y.shape))), [input, ...weights]);
    return { y, dx, ...Object.fromEntries(dw.map((value, i) => [`dw${i}`, value])) };
  };
  using cpu = await compile(trace, { device: openDevice("cpu") });
  using plan = await compile(trace, { device, precision, paranoid: true });
  const inputs = Object.fromEntries(
    [...cpu.graph.inputs].map(([name, { shape }], i) => [
      name,
      Float32Array.from(random(elements(shape), i + 1)),
    ]),
  );
  const [expected, found] = [await cpu.run(inputs), await plan.run(inputs)] as Record<string, Float32Array>[];
  rows.push({
    what: `[${x.join()}] to ${outputs} by ${JSON.stringify(branches)}`,
    algorithms: plan.layout.steps.flatMap(({ spec, algorithm }) =>
      spec.kernel.startsWith("aspp") ? (algorithm ?? []) : [],
    ),
    errors: Object.fromEntries(
      Object.entries(expected).map(([name, value]) => [name, error(found[name], value)]),
    ),
  });
}
console.log(JSON.stringify({ rows, launches: device.native.launches() }));
