/** Convolutions with their gradients in a precision, tuned with a cuDNN that is faster than anything else; for cudnn.test.ts. */
import { gradients } from "../../lib/autograd/gradients.ts";
import { compile } from "../../lib/compile/compile.ts";
import type { Graph } from "../../lib/graph/graph.ts";
import { elements, type Shape } from "../../lib/graph/value.ts";
import { mul, sum } from "../../lib/ops/arithmetic.ts";
import { conv3d, type ConvOptions } from "../../lib/ops/conv.ts";
import { moments } from "../../lib/ops/norm.ts";
import { openDevice, type Precision } from "../../lib/runtime/device.ts";
import { random } from "../ops/harness.ts";

const cases: readonly { x: Shape; w: Shape; options: ConvOptions }[] = [
  { x: [2, 3, 4, 5, 8], w: [12, 3, 2, 3, 8], options: { padding: [1, 0, 2], dilation: [1, 2, 1] } },
  { x: [2, 5, 4, 6, 8], w: [8, 3, 3, 3, 8], options: { padding: 1, stride: 2 } },
  { x: [3, 1, 6, 5, 16], w: [24, 1, 3, 3, 8], options: { padding: [0, 1, 1], groups: 2 } },
  { x: [1, 3, 4, 5, 6], w: [8, 3, 3, 3, 6], options: { padding: 1 } },
];

const precision = process.argv[2] as Precision;
const rows: { algorithms: string[]; errors: Record<string, number> }[] = [];
for (const { x, w, options } of cases) {
  const trace = (graph: Graph) => {
    const leaves = [graph.input("x", x), graph.input("w", w)];
    const y = conv3d(leaves[0], leaves[1], { ...options, bias: graph.input("bias", [w[0]]) });
    const [dx, dw] = gradients(sum(mul(y, graph.input("dy", y.shape))), leaves);
    return { y, dx, dw, own: moments(y, { perSample: false, groups: w[0] }) };
  };
  using cpu = await compile(trace, { device: openDevice("cpu") });
  using tuned = await compile(trace, {
    device: openDevice("emulator"),
    precision,
    tune: "on",
    paranoid: true,
  });
  const inputs = Object.fromEntries(
    [...cpu.graph.inputs].map(([name, { shape }], i) => [
      name,
      Float32Array.from(random(elements(shape), i + 1)),
    ]),
  );
  const [expected, found] = [await cpu.run(inputs), await tuned.run(inputs)];
  const errorOf = (name: "y" | "dx" | "dw" | "own") =>
    Math.max(...found[name].map((value, i) => Math.abs(value - expected[name][i]))) /
    Math.max(...expected[name].map(Math.abs));
  rows.push({
    algorithms: tuned.layout.steps.flatMap(({ spec, algorithm }) =>
      algorithm === undefined ? [] : [`${spec.kernel}: ${algorithm}`],
    ),
    errors: { y: errorOf("y"), dx: errorOf("dx"), dw: errorOf("dw"), own: errorOf("own") },
  });
}
console.log(JSON.stringify(rows));
