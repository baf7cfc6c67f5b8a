/** The optimizer writes the packed copies of weights that the next step reads: nothing but the launches may change. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { compile } from "../../lib/compile/compile.ts";
import type { Plan } from "../../lib/compile/plan.ts";
import { disposeStates, readState, writeState } from "../../lib/compile/states.ts";
import type { Graph } from "../../lib/graph/graph.ts";
import { State } from "../../lib/graph/state.ts";
import { elements } from "../../lib/graph/value.ts";
import type { Module } from "../../lib/nn/module.ts";
import { add, mul, sum } from "../../lib/ops/arithmetic.ts";
import { conv3d, convTranspose3d } from "../../lib/ops/conv.ts";
import { sgdStep, sgdVelocity } from "../../lib/ops/update.ts";
import { Sgd } from "../../lib/optim/sgd.ts";
import { slice } from "../../lib/ops/shape.ts";
import { type Precision } from "../../lib/runtime/device.ts";
import type { TensorSpec } from "../../lib/runtime/native.ts";
import { random } from "../ops/harness.ts";
import { kernelDevice as device } from "./devices.ts";

function onDevice(name: string, run: () => void | Promise<void>): void {
  if (device.name !== "cpu") test(name, run);
}

/** Channels that fill tiles of the packing and such that do not, groups, a weight of two convolutions, a bias. */
const shapes = {
  first: [40, 1, 2, 2, 3],
  grouped: [36, 1, 1, 3, 20],
  twice: [36, 1, 1, 1, 36],
  up: [36, 1, 2, 1, 5],
  bias: [36],
} as const;

class Network {
  readonly weights = Object.entries(shapes).map(([name, shape], i) => {
    const values = random(elements(shape), i + 1);
    return [
      name,
      new State(name, shape, { initial: () => Float32Array.from(values, (v) => v / 8) }),
    ] as const;
  });
  readonly optimizer = new Sgd(
    {
      parameters: () => this.weights.map(([, state]) => state),
      states: () => new Map(this.weights),
    } as Module,
    { momentum: 0.9, weightDecay: 0.01, nesterov: true },
  );

  get states(): State[] {
    return [...this.weights.map(([, state]) => state), ...this.optimizer.states().values()];
  }

  compile(precision: Precision, paranoid = false): Promise<Plan<"loss">> {
    return compile((graph) => this.trace(graph), { device, precision, paranoid });
  }

  private trace(graph: Graph) {
    const w = Object.fromEntries(this.weights) as Record<keyof typeof shapes, State>;
    let y = conv3d(graph.input("x", [1, 2, 3, 4, 3]), w.first);
    y = conv3d(y, w.grouped, { padding: [0, 0, 1], groups: 2, bias: w.bias });
    y = conv3d(conv3d(y, w.twice), w.twice);
    // Of other extents: a packing of its own, which no optimizer knows.
    const part = sum(conv3d(slice(y, { axis: 1, start: 0, length: 1 }), w.twice));
    y = convTranspose3d(y, w.up, { stride: [1, 2, 1] });
    const loss = add(part, sum(mul(y, mul(y, graph.input("c", y.shape)))));
    this.optimizer.minimize(loss, graph.input("rate", []));
    return { loss };
  }
}

const feed = {
  x: Float32Array.from(random(72, 8)),
  c: Float32Array.from(random(1 * 2 * 4 * 3 * 5, 9)),
  rate: 0.02,
};

const contents = (states: readonly State[]) =>
  Promise.all(states.map(async (state) => [...(await readState(device, state))]));

/** What the device launches while `run` goes on. */
async function launchesOf(run: () => Promise<unknown>): Promise<Record<string, number>> {
  const before = device.native.launches();
  await run();
  const counts = Object.entries(device.native.launches()).map(
    ([name, count]) => [name, count - (before[name] ?? 0)] as const,
  );
  return Object.fromEntries(counts.filter(([, count]) => count > 0));
}

for (const precision of ["f32", "tf32", "bf16"] as const)
  onDevice(`steps in ${precision} have the bits of plans that pack every weight`, async () => {
    const [kept, fresh] = [new Network(), new Network()];
    using plan = await kept.compile(precision);
    assert.is(plan.layout.prologue, 7);
    for (let step = 0; step < 4; step++) {
      // As checkpoints do: only then are weights packed again.
      if (step === 2)
        for (const { states } of [kept, fresh])
          await writeState(device, states[0], Float32Array.from(random(states[0].size, 20)));
      const found = await plan.run(feed);
      // A plan that has not run packs its weights; in paranoid mode every time.
      using once = await fresh.compile(precision, step === 1);
      assert.equal(found, await once.run(feed));
      assert.equal(await contents(kept.states), await contents(fresh.states));
    }
    assert.is(plan.recordingState, "recorded");
    disposeStates(device, [...kept.states, ...fresh.states]);
  });

onDevice("a step launches one update of all parameters, and packs none that it has updated", async () => {
  const network = new Network();
  using plan = await network.compile("bf16");
  const packing = ({ packTransposedKernel = 0, cast = 0 }: Record<string, number>) =>
    packTransposedKernel + cast;
  const first = await launchesOf(() => plan.run(feed));
  const second = await launchesOf(() => plan.run(feed));
  assert.is(first.sgd, 1);
  assert.is(second.sgd, 1);
  assert.is(packing(first) - packing(second), plan.layout.prologue);
  const [weight] = network.states;
  await writeState(device, weight, new Float32Array(weight.size).fill(0.1));
  const later = await launchesOf(() => plan.run(feed));
  // Recorded by now: what is launched are the packings alone.
  assert.is(packing(later), packing(first) - packing(second));
  assert.equal(await launchesOf(() => plan.run(feed)), {});
  disposeStates(device, network.states);
});

onDevice("copies that do not fit are refused", () => {
  const place = (shape: readonly number[], dtype: "f32" | "bf16" = "f32") => ({ dtype, shape, offset: 0 });
  const weight = place([6, 1, 1, 3, 4]);
  const refuses = (copies: number[], packed: readonly TensorSpec[], message: RegExp) =>
    assert.throws(
      () =>
        device.native.workspace({
          kernel: "sgdPacked",
          label: "sgd",
          inputs: [weight, weight, ...packed, weight, place([])],
          output: weight,
          attributes: { momentum: 0, weightDecay: 0, nesterov: false, copies },
        }),
      message,
    );
  refuses([0, 1], [place([72])], /copies are not valid/);
  refuses([0, 1, 1, 0, 0, 1], [place([72])], /wrong number of inputs/);
  refuses([1, 1, 1], [place([72])], /a copy of no parameter/);
  refuses([-1, 1, 1], [place([72])], /a copy of no parameter/);
  refuses([0, 1, 4], [place([72])], /groups are not valid/);
  refuses([0, 1, 1], [place([71])], /expected 72 elements/);
  refuses([0, 1, 1, 0, 1, 2], [place([72]), place([72])], /two copies alike/);
  refuses([0, 1, 1, 0, 0, 1], [place([72]), place([72], "bf16")], /unexpected element type bf16/);
});

onDevice("hundreds of parameters are updated by one launch, more by several", async () => {
  const states = Array.from({ length: 450 }, (_, i) => new State(`p${i}`, [3 + (i % 2)], { initial: i }));
  const velocities = states.map(({ name, shape }) => new State(`${name}.velocity`, shape));
  using plan = await compile(
    (graph) => {
      const [rate, ...gradients] = [graph.input("rate", []), graph.input("g3", [3]), graph.input("g4", [4])];
      for (const [i, state] of states.entries()) {
        const options = { momentum: 0.9, weightDecay: 0 };
        const v = sgdVelocity(velocities[i], gradients[i % 2], state, options);
        graph.assign(velocities[i], v);
        graph.assign(state, sgdStep(state, v, gradients[i % 2], rate, options));
      }
      return {};
    },
    { device },
  );
  const ones = { g3: new Float32Array(3).fill(1), g4: new Float32Array(4).fill(1) };
  assert.is((await launchesOf(() => plan.run({ ...ones, rate: 0.5 }))).sgd, 2);
  for (const [i, state] of states.entries())
    assert.ok((await readState(device, state)).every((value) => value === i - 0.5));
  disposeStates(device, [...states, ...velocities]);
});

test.run();
