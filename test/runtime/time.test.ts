/** Times taken inside the addon: of plans, and of the loops at the machine's limit. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { compile } from "../../lib/compile/compile.ts";
import { State } from "../../lib/graph/state.ts";
import { relu } from "../../lib/ops/activation.ts";
import { add, scale } from "../../lib/ops/arithmetic.ts";
import { openDevice } from "../../lib/runtime/device.ts";
import { readState } from "../../lib/compile/states.ts";

const device = openDevice();
const addon = device.native;
const expectedToFail = () => assert.unreachable();

test("a plan is timed as often as was asked, and runs as ever afterwards", async () => {
  // Every op works in the memory of its operand, so the input is gone after each run.
  using plan = await compile((graph) => ({ y: relu(scale(graph.input("x", [64]), -2)) }), { device });
  const x = Float32Array.from({ length: 64 }, (_, i) => i - 32);
  const times = await plan.time({ x }, 5);
  assert.is(times.length, 5);
  assert.ok(times.every((time) => time >= 0 && time < 1000));
  const { y } = await plan.run({ x });
  assert.equal([...y].slice(0, 2), [64, 62]);
});

test("a profile has the time of every step in every run", async () => {
  using plan = await compile((graph) => ({ y: add(relu(graph.input("x", [64])), graph.input("z", [64])) }), {
    device,
  });
  const x = new Float32Array(64).fill(1);
  const calls = await plan.profile({ x, z: x }, 4);
  assert.equal(
    calls.map(({ step, milliseconds }) => [step.spec.kernel, milliseconds.length]),
    [
      ["relu", 4],
      ["add", 4],
    ],
  );
  assert.ok(calls.every(({ milliseconds }) => milliseconds.every((time) => time >= 0 && time < 1000)));
  assert.is((await plan.run({ x, z: x })).y[0], 2);
});

test("inputs are put back before each run, and updates happen", async () => {
  const sum = new State("sum", [4]);
  using plan = await compile(
    (graph) => {
      const doubled = scale(graph.input("x", [4]), 2);
      graph.assign(sum, add(sum, doubled));
      return { doubled };
    },
    { device },
  );
  await plan.time({ x: Float32Array.of(1, 2, 3, 4) }, 3);
  assert.equal([...(await readState(device, sum))], [6, 12, 18, 24]);
});

test("timing can be cancelled between runs", async () => {
  using plan = await compile((graph) => ({ y: relu(graph.input("x", [1 << 16])) }), { device });
  const controller = new AbortController();
  const times = plan.time({ x: new Float32Array(1 << 16) }, 1e6, { signal: controller.signal });
  setTimeout(() => controller.abort(), 20);
  try {
    await times;
    assert.unreachable();
  } catch (error) {
    assert.is((error as Error).name, "AbortError");
  }
});

test("the loops at the limit say what they do", async () => {
  for (const [kind, amount, least] of [
    ["multiplyAdd", 1000, 2 * 1000],
    ["copy", 1 << 16, 2 << 16],
    ["stream", 1, 2],
  ] as const) {
    const { work, milliseconds } = await addon.peak(kind, amount, 3).promise;
    assert.ok(work >= least && Number.isInteger(work), `${kind}: ${work}`);
    assert.is(milliseconds.length, 3);
  }
  const { promise, cancel } = addon.peak("multiplyAdd", 1e5, 1e6);
  cancel();
  await promise.then(expectedToFail, (error: Error & { code: string }) =>
    assert.is(error.code, "ERR_ABORTED"),
  );
});

test("nonsense is refused", async () => {
  using plan = await compile((graph) => ({ y: relu(graph.input("x", [2])) }), { device });
  const x = new Float32Array(2);
  for (const runs of [0, -1, 1.5, Number.NaN, 1e9])
    await plan
      .time({ x }, runs)
      .then(expectedToFail, (error: Error) =>
        assert.match(error.message, /runs: expected a whole number from 1/),
      );
  const peak = addon.peak.bind(addon) as (...args: unknown[]) => unknown;
  assert.throws(() => peak("copies", 1, 1), /expected multiplyAdd, copy or stream, found 'copies'/);
  assert.throws(() => peak(), /expected multiplyAdd/);
  for (const amount of [0, "1", 1e13, undefined])
    assert.throws(() => peak("copy", amount, 1), /amount: expected a whole number from 1 to 1000000000000/);
});

test.run();
