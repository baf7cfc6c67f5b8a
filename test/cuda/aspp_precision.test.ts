/** Every tile of the CUDA kernels for convolutions side by side by name, in every precision. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { gradients } from "../../lib/autograd/gradients.ts";
import { compile } from "../../lib/compile/compile.ts";
import type { Graph } from "../../lib/graph/graph.ts";
import { elements } from "../../lib/graph/value.ts";
import { mul, sum } from "../../lib/ops/arithmetic.ts";
import { aspp } from "../../lib/ops/aspp.ts";
import { type Device, openDevice, type Precision } from "../../lib/runtime/device.ts";
import { expectClose, random } from "../ops/harness.ts";
import { kernelDevice as device } from "./devices.ts";

interface Case {
  readonly x: readonly number[];
  readonly outputs: number;
  readonly kernels: readonly number[];
  /** Of its result and its input gradient. */
  readonly tiles: readonly [string, string];
}

const [wide, small, loose] = ["128x64", "64x32", "64x32 of single numbers"];
const dilations = [1, 2, 6, 12];
const cases: Record<string, Case> = {
  "many blocks": {
    x: [2, 1, 25, 20, 8],
    outputs: 40,
    kernels: [3, ...Array<number>(15).fill(1)],
    tiles: [wide, small],
  },
  "taps in the padding": { x: [1, 1, 13, 11, 24], outputs: 40, kernels: [1, 3, 3, 3], tiles: [small, small] },
  "channels that fill no chunk": { x: [1, 2, 5, 7, 7], outputs: 9, kernels: [3, 1], tiles: [loose, loose] },
};
const within = { f32: 2e-6, tf32: 2e-3, bf16: 2 ** -8 } as const;
const suffix = { f32: "tf32x3", tf32: "tf32", bf16: "bf16" } as const;

function trace({ x: shape, outputs, kernels }: Case) {
  return (graph: Graph) => {
    const x = graph.input("x", shape);
    const w = kernels.map((size, i) => graph.input(`w${i}`, [outputs, 1, size, size, shape[4]]));
    const y = aspp(x, w, { dilations: w.map((_, i) => dilations[i % dilations.length]) });
    const [dx, ...dw] = gradients(sum(mul(y, graph.input("dy", y.shape))), [x, ...w]);
    return { y, dx, ...Object.fromEntries(dw.map((each, i) => [`dw${i}`, each])) };
  };
}

/** Results by name, of random operands, and the algorithms in the order of the steps. */
async function results(each: Case, device: Device, precision: Precision) {
  using plan = await compile(trace(each), { device, precision, paranoid: true });
  const feed = Object.fromEntries(
    [...plan.graph.inputs].map(([name, { shape }], i) => [
      name,
      Float32Array.from(random(elements(shape), i + 1)),
    ]),
  );
  const found = (await plan.run(feed)) as Record<string, Float32Array>;
  return { found, algorithms: plan.layout.steps.flatMap(({ algorithm }) => algorithm ?? []) };
}

for (const [name, each] of Object.entries(cases))
  test(`${name}: in every precision as closely as it can, twice alike`, async () => {
    const { found: expected } = await results(each, openDevice("cpu"), "f32");
    for (const precision of ["f32", "tf32", "bf16"] as const) {
      const first = await results(each, device, precision);
      const second = await results(each, device, precision);
      const named = each.tiles.map((tile) => `joined GEMM ${tile}, ${suffix[precision]}`);
      const joined = first.algorithms.filter((algorithm) => algorithm.startsWith("joined"));
      assert.equal(joined.sort(), named.sort());
      for (const tile of named) assert.ok(device.native.launches()[tile] > 0, tile);
      let largest = 0;
      for (const [what, values] of Object.entries(expected)) {
        const own = first.found[what];
        expectClose(own, values, within[precision], `${what} in ${precision}`);
        assert.equal(second.found[what], own, `${what} in ${precision}, once more`);
        const most = (numbers: Float32Array) =>
          numbers.reduce((all, value) => Math.max(all, Math.abs(value)), 0);
        largest = Math.max(largest, most(own.map((value, i) => value - values[i])) / most(values));
      }
      assert.ok(
        precision === "f32" || largest > 2e-5,
        `errors up to ${largest} do not look like ${precision}`,
      );
    }
  });

test.run();
