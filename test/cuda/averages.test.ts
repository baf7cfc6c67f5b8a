/** Moving averages of one decay are updated by one launch. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { compile } from "../../lib/compile/compile.ts";
import { disposeStates, readState } from "../../lib/compile/states.ts";
import { State } from "../../lib/graph/state.ts";
import { scale } from "../../lib/ops/arithmetic.ts";
import { ema, sgdStep, sgdVelocity } from "../../lib/ops/update.ts";
import { type Device, openDevice } from "../../lib/runtime/device.ts";
import { expectClose, random } from "../ops/harness.ts";
import { kernelDevice as device } from "./devices.ts";

function onDevice(name: string, run: () => Promise<void>): void {
  if (device.name !== "cpu") test(name, run);
}

const counts = [5, 4000, 1, 2501];

/** Averages of inputs, of a parameter before and behind its update, and of other averages; with `paranoid` checks. */
async function follow(on: Device, fed: boolean) {
  const state = (name: string, count: number, seed: number) =>
    new State(name, [count], { initial: () => Float32Array.from(random(count, seed)) });
  const averages = counts.map((count, i) => state(`average${i}`, count, i));
  const [parameter, velocity] = [state("p", 5, 20), state("v", 5, 21)];
  const [old, fresh, of] = ["old", "fresh", "of"].map((name, i) => state(name, 5, 30 + i));
  using plan = await compile(
    (graph) => {
      const decay = fed ? graph.input("decay", []) : 0.75;
      for (const [i, count] of counts.entries())
        graph.assign(averages[i], ema(averages[i], scale(graph.input(`x${i}`, [count]), 2), { decay }));
      graph.assign(old, ema(old, graph.read(parameter), { decay }));
      const options = { momentum: 0.9, weightDecay: 0.1 };
      const [g, rate] = [graph.input("g", [5]), graph.input("rate", [])];
      const v = sgdVelocity(velocity, g, parameter, options);
      const next = sgdStep(parameter, v, g, rate, options);
      graph.assign(velocity, v);
      graph.assign(parameter, next);
      graph.assign(fresh, ema(fresh, next, { decay }));
      graph.assign(of, ema(of, graph.read(old), { decay }));
      return {};
    },
    { device: on, paranoid: true },
  );
  const inputs = counts.map((count, i) => [`x${i}`, Float32Array.from(random(count, 10 + i))] as const);
  const feed = { ...Object.fromEntries(inputs), g: Float32Array.from(random(5, 40)), rate: 0.1 };
  for (let run = 0; run < 2; run++) await plan.run(fed ? { ...feed, decay: 0.9 } : feed);
  const states = [...averages, old, fresh, of, parameter];
  const found = await Promise.all(states.map((each) => readState(on, each)));
  disposeStates(on, [...states, velocity]);
  return {
    found,
    kernels: plan.layout.steps.map(({ spec }) => spec.kernel).filter((name) => name !== "scale"),
  };
}

for (const fed of [false, true])
  onDevice(`averages of a decay that is ${fed ? "fed" : "known"}`, async () => {
    const [expected, found] = [await follow(openDevice("cpu"), fed), await follow(device, fed)];
    for (const [i, values] of expected.found.entries())
      expectClose(found.found[i], values, 1e-6, `state ${i}`);
    const few = found.kernels.filter((name) => /^ema/.test(name));
    assert.ok(few.length < 4, found.kernels.join());
    assert.ok(few.includes("emas"), found.kernels.join());
    assert.ok(device.native.launches().emas > 0);
  });

test.run();
