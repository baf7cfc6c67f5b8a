/** Which parameters decay and how fast each learns; the update itself is tested with its op. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { compile } from "../../lib/compile/compile.ts";
import { disposeStates, readState } from "../../lib/compile/states.ts";
import type { State } from "../../lib/graph/state.ts";
import type { Value } from "../../lib/graph/value.ts";
import { Module, nameStates, Parameter } from "../../lib/nn/module.ts";
import { add, mul, sum } from "../../lib/ops/arithmetic.ts";
import { Sgd, type SgdOptions } from "../../lib/optim/sgd.ts";
import { openDevice } from "../../lib/runtime/device.ts";

const device = openDevice();

/** A matrix and a bias of ones. */
class Pair extends Module {
  readonly weight = new Parameter("weight", [1, 2], { initial: 1 });
  readonly bias = new Parameter("bias", [2], { initial: 1 });

  forward(x: Value): Value {
    return x;
  }
}

/** First elements of weight and bias after one step of rate 0.1 on a loss whose gradient is 1. */
async function afterOneStep(options: SgdOptions): Promise<number[]> {
  const pair = nameStates(new Pair(), "pair");
  const sgd = new Sgd(pair, options);
  using plan = await compile((graph) => {
    const one = graph.input("one", []);
    const [weight, bias] = pair.parameters().map((state) => sum(mul(graph.read(state), one)));
    const loss = mul(weight, one);
    sgd.minimize(add(loss, bias), graph.input("rate", []));
    return { loss };
  });
  await plan.run({ one: 1, rate: 0.1 });
  const states: State[] = [...pair.states().values()];
  const values = await Promise.all(states.map(async (state) => (await readState(device, state))[0]));
  disposeStates(device, [...states, ...sgd.states().values()]);
  return values.map((value) => Number(value.toFixed(6)));
}

test("weight decay applies to all parameters, or leaves those of one axis out", async () => {
  assert.equal(await afterOneStep({ weightDecay: 0.5 }), [0.85, 0.85]);
  assert.equal(await afterOneStep({ weightDecay: 0.5, decayVectors: false }), [0.85, 0.9]);
});

test("parameters may have learning rates of their own", async () => {
  const rateOf = (path: string) => (path === "bias" ? 2 : 1);
  assert.equal(await afterOneStep({ rateOf }), [0.9, 0.8]);
});

test.run();
