/** Plans whose second run is recorded and then replayed: nothing but the time they take may change. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { compile } from "../../lib/compile/compile.ts";
import { disposeStates, readState, writeState } from "../../lib/compile/states.ts";
import { NotFiniteError } from "../../lib/errors.ts";
import { State } from "../../lib/graph/state.ts";
import { add, mul, scale, sum } from "../../lib/ops/arithmetic.ts";
import { conv3d } from "../../lib/ops/conv.ts";
import { emulated, kernelDevice as device } from "./devices.ts";

function onDevice(name: string, run: () => Promise<void>): void {
  if (device.name !== "cpu") test(name, run);
}

/** Adds x to `total` and returns a multiple of its sum: not finite where the factor is not. */
async function accumulator(total: State, options: { record?: boolean } = {}) {
  return compile(
    (graph) => {
      const x = graph.input("x", [4]);
      graph.assign(total, add(total, x));
      return { loss: mul(sum(x), graph.input("factor", [])) };
    },
    { device, ...options },
  );
}

const ones = Float32Array.of(1, 1, 1, 1);

async function fails(run: Promise<unknown>): Promise<Error> {
  return run.then(
    () => assert.unreachable("it ran"),
    (error: Error) => error,
  ) as Promise<Error>;
}

onDevice("the second run is recorded and later ones replay it with inputs of their own", async () => {
  const total = new State("total", [4]);
  using plan = await accumulator(total);
  const states: string[] = [plan.recordingState];
  for (const value of [1, 2, 3, 4]) {
    const { loss } = await plan.run({ x: new Float32Array(4).fill(value), factor: 0.5 });
    assert.is(loss[0], 2 * value);
    states.push(plan.recordingState);
  }
  assert.equal(states, [
    "nothing is recorded yet",
    "nothing is recorded yet",
    ...new Array<string>(3).fill("recorded"),
  ]);
  assert.equal([...(await readState(device, total))], [10, 10, 10, 10]);
  disposeStates(device, [total]);
});

onDevice("recording can be switched off, and is where a test looks at each step", async () => {
  const total = new State("total", [4]);
  using plan = await accumulator(total, { record: false });
  await plan.run({ x: ones, factor: 1 });
  await plan.run({ x: ones, factor: 1 });
  assert.is(plan.recordingState, "recording is switched off");
  using paranoid = await compile((graph) => ({ y: scale(graph.input("x", [4]), 2) }), {
    device,
    paranoid: true,
  });
  assert.is(paranoid.recordingState, "recording is switched off");
  disposeStates(device, [total]);
});

onDevice("a loss that is not finite is named, leaves states alone, and later runs go on", async () => {
  const total = new State("total", [4]);
  using plan = await accumulator(total);
  for (let run = 0; run < 5; run++) {
    const error = await fails(plan.run({ x: ones, factor: Infinity }));
    assert.instance(error, NotFiniteError);
    assert.match(error.message, /mul #/);
    assert.equal([...(await readState(device, total))], new Array(4).fill(run));
    await plan.run({ x: ones, factor: 1 });
  }
  assert.is(plan.recordingState, "recorded");
  disposeStates(device, [total]);
});

if (emulated)
  test("an aborted run changes no state, recorded or not", async () => {
    const total = new State("total", [1]);
    const weight = new State("weight", [16, 3, 3, 3, 16], { initial: 1 / 432 });
    using plan = await compile(
      (graph) => {
        let x = graph.input("x", [1, 4, 16, 16, 16]);
        for (let i = 0; i < 3; i++) x = conv3d(x, weight, { padding: 1 });
        const loss = sum(x);
        graph.assign(total, add(total, graph.input("one", [1])));
        return { loss };
      },
      { device },
    );
    const feed = { x: new Float32Array(4 * 16 * 16 * 16).fill(0.001), one: Float32Array.of(1) };
    for (let run = 0; run < 3; run++) {
      const controller = new AbortController();
      const running = plan.run(feed, { signal: controller.signal });
      setTimeout(() => controller.abort(new Error("enough")), 5);
      assert.match((await fails(running)).message, /enough/);
      assert.is((await readState(device, total))[0], run);
      await plan.run(feed);
    }
    assert.is(plan.recordingState, "recorded");
    disposeStates(device, [total, weight]);
  });

onDevice("two recorded plans share a state, and one goes on when the other is gone", async () => {
  const total = new State("total", [4]);
  const first = await accumulator(total);
  using second = await accumulator(total);
  for (let run = 0; run < 3; run++) {
    const both = [first.run({ x: ones, factor: 1 }), second.run({ x: ones, factor: 1 })];
    await Promise.all(both);
  }
  const last = first.run({ x: ones, factor: 1 });
  first.dispose();
  await last;
  await second.run({ x: ones, factor: 1 });
  assert.equal([...(await readState(device, total))], [8, 8, 8, 8]);
  disposeStates(device, [total]);
});

onDevice("weights that are written between recorded runs are packed again", async () => {
  const weight = new State("weight", [4, 3, 3, 3, 4], { initial: 1 });
  using plan = await compile((graph) => ({ y: sum(conv3d(graph.input("x", [1, 3, 3, 3, 4]), weight)) }), {
    device,
  });
  const x = new Float32Array(108).fill(1);
  for (let value = 1; value <= 4; value++) {
    await writeState(device, weight, new Float32Array(432).fill(value));
    assert.is((await plan.run({ x })).y[0], 432 * value);
  }
  assert.is(plan.recordingState, "recorded");
  disposeStates(device, [weight]);
});

if (emulated)
  test("what cannot be recorded is run step by step, and the plan says why", async () => {
    const total = new State("total", [4]);
    using plan = await accumulator(total);
    process.env.VOXGRAD_EMULATOR_UNRECORDABLE = "mul";
    try {
      for (let run = 1; run <= 3; run++)
        assert.is((await plan.run({ x: ones, factor: run })).loss[0], 4 * run);
    } finally {
      delete process.env.VOXGRAD_EMULATOR_UNRECORDABLE;
    }
    assert.match(plan.recordingState, /mul #\d+: mul: operation not permitted when stream is capturing/);
    assert.equal([...(await readState(device, total))], [3, 3, 3, 3]);
    disposeStates(device, [total]);
  });

onDevice("inputs are brought to the device ahead of their runs, in any order", async () => {
  using plan = await compile((graph) => ({ y: mul(graph.input("x", [3000]), graph.input("z", [3000])) }), {
    device,
  });
  const feed = (value: number) => ({
    x: new Float32Array(3000).fill(value),
    z: new Float32Array(3000).fill(2),
  });
  const expected = [5, 3, 1, 4, 2, 9, 8, 7];
  const uploads = new Map(expected.map((value) => [value, plan.upload(feed(value))]));
  plan.upload(feed(100));
  const running = expected.map((value) => plan.run(uploads.get(value)));
  const results = await Promise.all([...running, plan.run(feed(6))]);
  assert.equal(
    results.map(({ y }) => [y[0], y[2999]]),
    [...expected, 6].map((value) => [2 * value, 2 * value]),
  );
});

onDevice("runs are timed as they are when recorded", async () => {
  const total = new State("total", [4]);
  using plan = await accumulator(total);
  assert.is((await plan.time({ x: ones, factor: 1 }, 5)).length, 5);
  assert.is(plan.recordingState, "recorded");
  assert.equal([...(await readState(device, total))], [5, 5, 5, 5]);
  disposeStates(device, [total]);
});

test.run();
