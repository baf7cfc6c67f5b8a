/** Fused normalisation against a float64 reference, and against the base ops that define it. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { gradients } from "../../lib/autograd/gradients.ts";
import { compile } from "../../lib/compile/compile.ts";
import { Graph } from "../../lib/graph/graph.ts";
import type { Value } from "../../lib/graph/value.ts";
import { mul, sum } from "../../lib/ops/arithmetic.ts";
import { opOf } from "../../lib/ops/define.ts";
import { moments } from "../../lib/ops/norm.ts";
import {
  normalizeAddRelu,
  normalizeRelu,
  normalizeReluAdd,
  normalizeReluSum,
} from "../../lib/ops/norm_fused.ts";
import { type Array64, checkOp, random } from "./harness.ts";

type Values = Record<string, Value>;
type Options = { batch: boolean };

const ops = {
  normalizeRelu: (v: Values, own: Value, options: Options) =>
    normalizeRelu(v.x, own, v.gamma, v.beta, options),
  normalizeReluAdd: (v: Values, own: Value, options: Options) =>
    normalizeReluAdd(v.x, own, v.gamma, v.beta, v.residual, options),
  normalizeAddRelu: (v: Values, own: Value, options: Options) =>
    normalizeAddRelu(v.x, own, v.gamma, v.beta, v.residual, options),
  // The same moments twice, and the coefficients the other way round.
  normalizeReluSum: (v: Values, own: Value, options: Options) =>
    normalizeReluSum([v.x, own, v.gamma, v.beta], [v.x, own, v.beta, v.gamma], options),
};

const follow = {
  normalizeRelu: (value: number) => Math.max(value, 0),
  normalizeReluAdd: (value: number, residual: number) => Math.max(value, 0) + residual,
  normalizeAddRelu: (value: number, residual: number) => Math.max(value + residual, 0),
  normalizeReluSum: (value: number, _residual: number, swapped: number) =>
    Math.max(value, 0) + Math.max(swapped, 0),
};

type Name = keyof typeof ops;
const names = Object.keys(ops) as Name[];

/** Each channel of a sample by its own moments, then what follows. */
function reference(name: Name, { x, gamma, beta, residual }: Record<string, Array64>): Float64Array {
  const [samples, , , , channels] = x.shape;
  const voxels = x.data.length / samples / channels;
  const y = new Float64Array(x.data.length);
  for (let n = 0; n < samples; n++)
    for (let c = 0; c < channels; c++) {
      const at = Array.from({ length: voxels }, (_, voxel) => (n * voxels + voxel) * channels + c);
      const mean = at.reduce((total, i) => total + x.data[i], 0) / voxels;
      const variance = at.reduce((total, i) => total + (x.data[i] - mean) ** 2, 0) / voxels;
      for (const i of at) {
        const normal = (x.data[i] - mean) / Math.sqrt(variance + 1e-5);
        const [first, second] = [gamma.data[c], beta.data[c]];
        y[i] = follow[name](normal * first + second, residual?.data[i], normal * second + first);
      }
    }
  return y;
}

const inputsOf = (name: Name, shape: readonly number[]) => ({
  x: { shape },
  gamma: { shape: [shape[4]] },
  beta: { shape: [shape[4]] },
  ...(name === "normalizeReluAdd" || name === "normalizeAddRelu" ? { residual: { shape } } : {}),
});

for (const name of names) {
  test(`${name}, and its gradient with the moments', per sample`, async () => {
    for (const channels of [1, 3, 8, 17])
      await checkOp({
        inputs: inputsOf(name, [2, 3, 2, 5, channels]),
        build: (values) =>
          ops[name](values, moments(values.x, { perSample: true, groups: channels }), { batch: true }),
        reference: (inputs) => reference(name, inputs),
        // Small, so that few values cross the kink of the ReLU within a difference.
        step: 1e-6,
      });
  });

  for (const batch of [true, false])
    test(`${name} is its fallback, ${batch ? "batch" : "running"} moments`, async () => {
      const shape = [2, 9, 11, 13, 6];
      const count = 2 * 9 * 11 * 13 * 6;
      const run = async (useFallback: boolean) => {
        const plan = await compile(
          (graph) => {
            const inputs = Object.entries(inputsOf(name, shape)).map(
              ([key, type]) => [key, graph.input(key, type.shape)] as const,
            );
            const values: Values = Object.fromEntries(inputs);
            const own = batch
              ? moments(values.x, { perSample: false, groups: 6 })
              : graph.input("running", [1, 6, 2]);
            const fused = ops[name](values, own, { batch });
            const fallback = opOf(fused)?.fallback;
            assert.ok(fallback);
            const y = useFallback ? fallback(fused.inputs, fused.attributes) : fused;
            const loss = sum(mul(y, graph.input("weights", shape)));
            const slopes = gradients(
              loss,
              inputs.map(([, value]) => value),
            );
            return { y, ...Object.fromEntries(inputs.map(([key], index) => [`d${key}`, slopes[index]])) };
          },
          { paranoid: true, fuse: false },
        );
        const feed: Record<string, Float32Array> = { weights: Float32Array.from(random(count, 9)) };
        for (const [index, [key, type]] of Object.entries(inputsOf(name, shape)).entries())
          feed[key] = Float32Array.from(random(type.shape.length === 1 ? 6 : count, index + 1));
        if (!batch) feed.running = Float32Array.from({ length: 12 }, (_, i) => (i % 2 === 0 ? 0.1 : 0.4));
        const results = await plan.run(feed);
        plan.dispose();
        return results as Record<string, Float32Array>;
      };
      const fused = await run(false);
      const base = await run(true);
      for (const [key, expected] of Object.entries(base)) {
        const scale = Math.max(...expected.map(Math.abs));
        for (const [i, value] of expected.entries())
          if (!(Math.abs(fused[key][i] - value) <= 2e-6 * scale))
            assert.unreachable(`${key}[${i}]: ${fused[key][i]} fused, ${value} in base ops`);
      }
    });
}

test("the gradient needs neither result nor mask", () => {
  const graph = new Graph();
  const x = graph.input("x", [1, 2, 2, 2, 4]);
  const [gamma, beta] = [graph.input("gamma", [4]), graph.input("beta", [4])];
  const y = normalizeRelu(x, moments(x, { perSample: false, groups: 4 }), gamma, beta, { batch: true });
  gradients(sum(y), [x, gamma, beta]);
  assert.equal(
    graph.nodes.filter(({ inputs }) => inputs.includes(y)).map(({ op }) => op),
    ["sum"],
  );
});

test("a residual that does not fit is named", () => {
  const graph = new Graph();
  const x = graph.input("x", [1, 2, 2, 2, 4]);
  const c = graph.input("c", [4]);
  const own = graph.input("own", [1, 4, 2]);
  assert.throws(() => normalizeReluAdd(x, own, c, c, c, { batch: false }), /normalizeReluAdd: .*f32\[4\]/);
});

test.run();
