import { test } from "uvu";
import * as assert from "uvu/assert";
import { gradients } from "../../lib/autograd/gradients.ts";
import { compile, planOnly } from "../../lib/compile/compile.ts";
import { disposeStates, readState } from "../../lib/compile/states.ts";
import { Graph } from "../../lib/graph/graph.ts";
import { State } from "../../lib/graph/state.ts";
import type { Value } from "../../lib/graph/value.ts";
import { mul, sum } from "../../lib/ops/arithmetic.ts";
import { openDevice } from "../../lib/runtime/device.ts";
import { ema, sgdStep, sgdVelocity } from "../../lib/ops/update.ts";
import { checkOp, expectClose, random } from "./harness.ts";

const shape = [3, 5, 17];
const sgd = { momentum: 0.9, weightDecay: 0.01 };

test("one update", async () => {
  const inputs = { p: { shape }, v: { shape }, g: { shape }, rate: { shape: [] } };
  const wrt: string[] = [];
  await checkOp({
    inputs,
    wrt,
    build: ({ p, v, g }) => sgdVelocity(v, g, p, sgd),
    reference: ({ p, v, g }) => v.data.map((value, i) => 0.9 * value + g.data[i] + 0.01 * p.data[i]),
  });
  await checkOp({
    inputs,
    wrt,
    build: ({ p, v, g, rate }) => sgdStep(p, v, g, rate, sgd),
    reference: ({ p, v, rate }) => p.data.map((value, i) => value - rate.data[0] * v.data[i]),
  });
  await checkOp({
    inputs,
    wrt,
    build: ({ p, v, g, rate }) => sgdStep(p, v, g, rate, { ...sgd, nesterov: true }),
    reference: ({ p, v, g, rate }) =>
      p.data.map((value, i) => value - rate.data[0] * (g.data[i] + 0.01 * value + 0.9 * v.data[i])),
  });
});

test("moving average with a decay known or fed", async () => {
  const inputs = { a: { shape }, x: { shape }, decay: { shape: [], data: [0.75] } };
  await checkOp({
    inputs,
    wrt: [],
    build: ({ a, x }) => ema(a, x, { decay: 0.99 }),
    reference: ({ a, x }) => a.data.map((value, i) => 0.99 * value + 0.01 * x.data[i]),
  });
  await checkOp({
    inputs,
    wrt: [],
    build: ({ a, x, decay }) => ema(a, x, { decay }),
    reference: ({ a, x }) => a.data.map((value, i) => 0.75 * value + 0.25 * x.data[i]),
  });
});

/** PyTorch's SGD on sum(c p^2), in float64, with its buffer made at the first step. */
function pytorch(p: Float64Array, c: Float64Array, rates: number[], nesterov: boolean): Float64Array {
  const { momentum, weightDecay } = sgd;
  let buffer: Float64Array | undefined;
  for (const rate of rates) {
    const gradient = p.map((value, i) => 2 * c[i] * value + weightDecay * value);
    buffer =
      buffer === undefined ? gradient.slice() : buffer.map((value, i) => momentum * value + gradient[i]);
    const kept = buffer;
    const direction = nesterov ? gradient.map((value, i) => value + momentum * kept[i]) : kept;
    p = p.map((value, i) => value - rate * direction[i]);
  }
  return p;
}

for (const nesterov of [false, true])
  test(`ten steps are PyTorch's${nesterov ? " with Nesterov momentum" : ""}, states updated in place`, async () => {
    const count = 40_004;
    const device = openDevice();
    const [start, curvature] = [random(count, 1), random(count, 2)];
    const parameter = new State("p", [count], { initial: () => Float32Array.from(start) });
    const velocity = new State("v", [count]);
    const teacher = new State("teacher", [count], { initial: () => Float32Array.from(start) });
    const plan = await compile(
      (graph) => {
        const [p, c, rate] = [graph.read(parameter), graph.input("c", [count]), graph.input("rate", [])];
        const loss = sum(mul(c, mul(p, p)));
        const [g] = gradients(loss, [p]);
        const v = sgdVelocity(velocity, g, p, sgd);
        const next = sgdStep(p, v, g, rate, { ...sgd, nesterov });
        graph.assign(velocity, v);
        graph.assign(parameter, next);
        graph.assign(teacher, ema(teacher, next, { decay: 0.5 }));
        return { loss };
      },
      { device, paranoid: true },
    );
    const rates = Array.from({ length: 10 }, (_, i) => 0.1 / (i + 1));
    for (const rate of rates) await plan.run({ c: Float32Array.from(curvature), rate });
    plan.dispose();
    expectClose(
      await readState(device, parameter),
      pytorch(start, curvature, rates, nesterov),
      2e-6,
      "parameter",
    );
    let average = start;
    for (let step = 1; step <= 10; step++) {
      const p = pytorch(start, curvature, rates.slice(0, step), nesterov);
      average = average.map((value, i) => (value + p[i]) / 2);
    }
    expectClose(await readState(device, teacher), average, 2e-6, "teacher");
  });

// Kernels that move several elements at once do so for the second count.
for (const [nesterov, count] of [
  [false, 40_001],
  [true, 40_001],
  [false, 5000],
  [true, 5000],
] as const)
  test(`velocity and parameter of ${count} updated by one kernel have the bits of two${nesterov ? ", Nesterov" : ""}`, async () => {
    const device = openDevice();
    const values = [1, 2, 3].map((seed) => Float32Array.from(random(count, seed)));
    const [start, moving, g] = values;
    const options = { ...sgd, nesterov };
    const parameter = new State("p", [count], { initial: () => start });
    const velocity = new State("v", [count], { initial: () => moving });
    const joined = await compile(
      (graph) => {
        const slope = graph.input("g", [count]);
        const v = sgdVelocity(velocity, slope, parameter, sgd);
        graph.assign(velocity, v);
        graph.assign(parameter, sgdStep(parameter, v, slope, graph.input("rate", []), options));
        return {};
      },
      { device, paranoid: true },
    );
    assert.equal(
      joined.layout.steps.map(({ spec }) => spec.kernel),
      ["sgd"],
    );
    await joined.run({ g, rate: 0.1 });
    joined.dispose();
    const apart = await compile(
      (graph) => {
        const [p, v, slope] = ["p", "v", "g"].map((name) => graph.input(name, [count]));
        const next = sgdVelocity(v, slope, p, sgd);
        return { v: next, p: sgdStep(p, next, slope, graph.input("rate", []), options) };
      },
      { device, paranoid: true },
    );
    assert.is(apart.layout.steps.length, 2);
    const expected = await apart.run({ p: start, v: moving, g, rate: 0.1 });
    apart.dispose();
    assert.equal(await readState(device, parameter), expected.p);
    assert.equal(await readState(device, velocity), expected.v);
    disposeStates(device, [parameter, velocity]);
  });

test("all parameters of one rate are updated by one kernel, those of another apart, and an average of the new ones after", async () => {
  const device = openDevice();
  const counts = [5, 40_000, 1, 17_001];
  const run = async (together: boolean) => {
    const states = counts.flatMap((count, i) =>
      [i, i + 7].map(
        (seed) => new State(`s${seed}`, [count], { initial: () => Float32Array.from(random(count, seed)) }),
      ),
    );
    const mean = new State("mean", [5], { initial: 0 });
    const plan = await compile(
      (graph) => {
        const rates = [graph.input("rate", []), graph.input("other", [])];
        for (const [i, count] of counts.entries()) {
          const [parameter, velocity] = [states[2 * i], states[2 * i + 1]];
          const gradient = graph.input(`g${i}`, [count]);
          const v = sgdVelocity(velocity, gradient, parameter, sgd);
          const next = sgdStep(parameter, v, gradient, rates[together || i < 3 ? 0 : 1], sgd);
          graph.assign(velocity, v);
          graph.assign(parameter, next);
          if (i === 0) graph.assign(mean, ema(mean, next, { decay: 0.5 }));
        }
        return {};
      },
      { device, paranoid: true },
    );
    const kernels = plan.layout.steps.map(({ spec }) => spec.kernel);
    const gradients = Object.fromEntries(
      counts.map((count, i) => [`g${i}`, Float32Array.from(random(count, 20 + i))]),
    );
    await plan.run({ ...gradients, rate: 0.1, other: 0.1 });
    plan.dispose();
    const found = await Promise.all([...states, mean].map((state) => readState(device, state)));
    disposeStates(device, [...states, mean]);
    return { kernels, found };
  };
  const [one, two] = [await run(true), await run(false)];
  assert.equal(one.kernels, ["sgd", "ema"]);
  assert.equal(two.kernels, ["sgd", "ema", "sgd"]);
  assert.equal(one.found, two.found);
  const [p, v, g] = [0, 7, 20].map((seed) => random(5, seed));
  const moved = Float64Array.from(
    p,
    (value, i) => value - 0.1 * (sgd.momentum * v[i] + g[i] + sgd.weightDecay * value),
  );
  expectClose(one.found[0], moved, 1e-6, "first parameter");
  expectClose(
    one.found.at(-1) as Float32Array,
    moved.map((value) => value / 2),
    1e-6,
    "mean of the new one",
  );
});

test("a parameter that another update still reads is not updated before it", async () => {
  const [first, second, copied] = ["first", "second", "copied"].map(
    (name) => new State(name, [3], { initial: 1 }),
  );
  const [firstV, secondV] = ["fv", "sv"].map((name) => new State(name, [3]));
  const device = openDevice();
  const plan = await compile(
    (graph) => {
      const [g, rate] = [graph.input("g", [3]), graph.input("rate", [])];
      const update = (parameter: State, velocity: State) => {
        const v = sgdVelocity(velocity, g, parameter, sgd);
        graph.assign(velocity, v);
        graph.assign(parameter, sgdStep(parameter, v, g, rate, sgd));
      };
      update(first, firstV);
      graph.assign(copied, ema(copied, graph.read(second), { decay: 0 }));
      update(second, secondV);
      return {};
    },
    { device },
  );
  await plan.run({ g: Float32Array.of(1, 2, 3), rate: 0.5 });
  assert.equal(await readState(device, copied), Float32Array.of(1, 1, 1));
  plan.dispose();
  disposeStates(device, [first, second, copied, firstV, secondV]);
});

test("updates that are not of one kind, or whose velocity is wanted, keep their own kernels", () => {
  const kernels = (velocityOptions: typeof sgd, wanted: boolean) =>
    planOnly((graph) => {
      const [parameter, velocity] = [new State("p", [4]), new State("v", [4])];
      const slope = graph.input("g", [4]);
      const v = sgdVelocity(velocity, slope, parameter, velocityOptions);
      graph.assign(velocity, v);
      graph.assign(parameter, sgdStep(parameter, v, slope, graph.input("rate", []), sgd));
      return Object.fromEntries<Value>(wanted ? [["v", v]] : []);
    }).layout.steps.map(({ spec }) => spec.kernel);
  assert.equal(kernels({ ...sgd, momentum: 0.5 }, false), ["sgdVelocity", "sgdStep"]);
  assert.equal(kernels(sgd, true), ["sgdVelocity", "sgdStep", "copy"]);
});

test("what does not fit is named", () => {
  const graph = new Graph();
  const [a, b, rate] = [graph.input("a", [2]), graph.input("b", [3]), graph.input("rate", [])];
  assert.throws(() => sgdVelocity(a, b, a, sgd), /sgdVelocity: .*f32\[2\] and f32\[3\]/);
  assert.throws(() => sgdStep(a, a, a, b, sgd), /sgdStep: the scalar must have shape \[\], found f32\[3\]/);
  assert.throws(
    () => sgdStep(a, a, a, rate, { momentum: 2, weightDecay: 0 }),
    /sgdStep: momentum .* found 2/,
  );
  assert.throws(() => ema(a, a, { decay: 1.5 }), /ema: decay must be from 0 to 1, found 1.5/);
});

test.run();
