/**
 * The test of one op: its kernel against a float64 reference, and its gradient against finite differences of
 * that reference. Plans run in paranoid mode, so unwritten reads and stray writes are caught as well.
 */
import * as assert from "uvu/assert";
import { gradients } from "../../lib/autograd/gradients.ts";
import { compile } from "../../lib/compile/compile.ts";
import { arrayOf } from "../../lib/compile/states.ts";
import type { TypedArray } from "../../lib/graph/state.ts";
import { type DType, elements, type Shape, type Value } from "../../lib/graph/value.ts";
import { mul, sum } from "../../lib/ops/arithmetic.ts";

export interface Array64 {
  readonly shape: Shape;
  readonly data: Float64Array;
}

export interface OpCase {
  readonly inputs: Readonly<Record<string, { shape: Shape; dtype?: DType; data?: ArrayLike<number> }>>;
  readonly build: (values: Record<string, Value>) => Value;
  /** The same computation in float64; `undefined` checks no values, only what the gradient check needs. */
  readonly reference: (inputs: Record<string, Array64>) => ArrayLike<number>;
  /** Which float inputs to differentiate; default: all of them. */
  readonly wrt?: readonly string[];
  /** Allowed error of values, relative to the largest reference value; default 2e-6. */
  readonly tolerance?: number;
  /** Allowed error of gradients, relative to the largest gradient; default 1e-4. */
  readonly gradientTolerance?: number;
  /** Step of the finite differences; default 1e-4. */
  readonly step?: number;
}

/** Numbers from -1 to 1 that repeat for a seed. */
export function random(count: number, seed: number): Float64Array {
  let state = (seed * 2654435761 + 12345) >>> 0;
  return Float64Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.fround((state >>> 8) / 2 ** 23 - 1);
  });
}

export async function checkOp(op: OpCase): Promise<void> {
  const names = Object.keys(op.inputs);
  const arrays: Record<string, Array64> = {};
  for (const [index, name] of names.entries()) {
    const { shape, data } = op.inputs[name];
    arrays[name] = {
      shape,
      data: Float64Array.from(data ?? random(elements(shape), index + 1), Math.fround),
    };
  }
  const floats = names.filter((name) => (op.inputs[name].dtype ?? "f32") === "f32");
  const wrt = op.wrt ?? floats;

  const expected = Float64Array.from(op.reference(arrays));
  const weights = random(expected.length, 99);
  let differentiable = true;
  const plan = await compile(
    (graph) => {
      const values: Record<string, Value> = {};
      for (const name of names)
        values[name] = graph.input(name, op.inputs[name].shape, op.inputs[name].dtype);
      const y = op.build(values);
      differentiable = y.dtype === "f32" && wrt.length > 0;
      if (!differentiable) return { y };
      const loss = sum(mul(y, graph.input("weights", y.shape)));
      const slopes = gradients(
        loss,
        wrt.map((name) => values[name]),
      );
      return { y, ...Object.fromEntries(wrt.map((name, index) => [`d${name}`, slopes[index]])) };
    },
    { paranoid: true },
  );
  const feed: Record<string, TypedArray> = {};
  for (const name of names) feed[name] = arrayOf[op.inputs[name].dtype ?? "f32"].from(arrays[name].data);
  if (differentiable) feed.weights = Float32Array.from(weights);
  const results = (await plan.run(feed)) as Record<string, ArrayLike<number>>;
  plan.dispose();

  expectClose(results.y, expected, op.tolerance ?? 2e-6, "value");
  if (!differentiable) return;
  for (const name of wrt) {
    const slope = finiteDifferences(op, arrays, name, weights);
    expectClose(results[`d${name}`], slope, op.gradientTolerance ?? 1e-4, `gradient of ${name}`);
  }
}

/** Central differences of the weighted sum of the reference; NaN where the element was left out to save time. */
function finiteDifferences(
  op: OpCase,
  arrays: Record<string, Array64>,
  name: string,
  weights: Float64Array,
): Float64Array {
  const { data } = arrays[name];
  const step = op.step ?? 1e-4;
  const stride = Math.max(1, Math.floor(data.length / 60));
  const at = (index: number, value: number) => {
    const moved = data.slice();
    moved[index] = value;
    const y = op.reference({ ...arrays, [name]: { ...arrays[name], data: moved } });
    return weights.reduce((total, weight, i) => total + weight * y[i], 0);
  };
  return data.map((value, index) =>
    index % stride === 0 ? (at(index, value + step) - at(index, value - step)) / (2 * step) : Number.NaN,
  );
}

export function expectClose(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: number,
  what: string,
): void {
  assert.is(actual.length, expected.length, `${what}: length`);
  let scale = 1e-3;
  for (let i = 0; i < expected.length; i++)
    if (Number.isFinite(expected[i])) scale = Math.max(scale, Math.abs(expected[i]));
  for (let i = 0; i < expected.length; i++) {
    if (Number.isNaN(expected[i])) continue;
    const error = Math.abs(actual[i] - expected[i]);
    if (!(error <= tolerance * scale))
      assert.unreachable(
        `${what}[${i}]: expected ${expected[i]}, found ${actual[i]} (scale ${scale}, tolerance ${tolerance})`,
      );
  }
}
