/** Less memory for the same bits: gradients of weights first, cheap activations computed again. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { compile, type CompileOptions, planOnly } from "../../lib/compile/compile.ts";
import { disposeStates, readState } from "../../lib/compile/states.ts";
import type { Graph } from "../../lib/graph/graph.ts";
import type { Value } from "../../lib/graph/value.ts";
import { models, type Network } from "../../lib/models/index.ts";
import { relu } from "../../lib/ops/activation.ts";
import { add, mean, mul, scale } from "../../lib/ops/arithmetic.ts";
import { conv3d } from "../../lib/ops/conv.ts";
import { batchNormEval } from "../../lib/ops/norm.ts";
import { Sgd } from "../../lib/optim/sgd.ts";
import { openDevice } from "../../lib/runtime/device.ts";
import { random } from "../ops/harness.ts";

const device = openDevice();

function trace(network: Network, extent: number) {
  const optimizer = new Sgd(network, { momentum: 0.9 });
  const step = (g: Graph) => {
    const y = network.apply(g.input("x", [1, extent, extent, extent, 1]), {
      training: true,
      key: g.input("key", [2], "i32"),
    });
    const loss = mean(mul(y, y));
    optimizer.minimize(loss, scale(loss, 0.1));
    return { loss };
  };
  return { step, states: [...network.states().values(), ...optimizer.states().values()] };
}

for (const [name, make] of Object.entries(models))
  test(`${name}: recomputation gives the same bits in less memory`, async () => {
    const options = { baseChannels: 4, dropout: 0.5 };
    const x = Float32Array.from(random(32 ** 3, 1));
    const run = async (recompute: CompileOptions["recompute"]) => {
      const { step, states } = trace(make(options), 32);
      const plan = await compile(step, { recompute });
      const { arenaBytes } = plan.layout;
      for (let i = 0; i < 2; i++) await plan.run({ x, key: Int32Array.of(0, i) });
      plan.dispose();
      const contents = [];
      for (const state of states) contents.push(Buffer.from((await readState(device, state)).buffer));
      disposeStates(device, states);
      return { arenaBytes, bytes: Buffer.concat(contents) };
    };
    const [never, auto] = [await run("never"), await run("auto")];
    assert.ok(auto.bytes.equals(never.bytes));
    assert.ok(auto.arenaBytes < never.arenaBytes, `${auto.arenaBytes} bytes, ${never.arenaBytes} without`);
  });

test("a step of vnet takes half the memory that it takes as traced", () => {
  const bytes = (options: CompileOptions) =>
    planOnly(trace(models.vnet(), 64).step, options).layout.arenaBytes / 2 ** 20;
  const plain = bytes({ fuse: false, recompute: "never" });
  const auto = bytes({});
  assert.ok(auto < 0.55 * plain, `${auto} MiB, ${plain} MiB without`);
});

test("what is not idle at the peak, or cannot be made again from what is there, is kept", () => {
  const build = (g: Graph): { y: Value } => {
    const x = g.input("x", [1, 8, 8, 8, 4]);
    // Nothing needs the sum behind the ReLU: making the ReLU again would keep it.
    const y = relu(scale(x, 2));
    const wide = conv3d(y, g.input("w", [16, 1, 1, 1, 4]));
    return { y: mul(conv3d(wide, g.input("v", [4, 1, 1, 1, 16])), y) };
  };
  const found = planOnly(build).layout.steps.map(({ spec }) => spec.kernel);
  assert.is(found.filter((kernel) => kernel === "relu").length, 1);
});

test("an idle result is made again by way of one that nothing else keeps", () => {
  const build = (g: Graph): { y: Value } => {
    const [running, gamma, beta] = [
      g.input("running", [1, 4, 2]),
      g.input("gamma", [4]),
      g.input("beta", [4]),
    ];
    const active = (x: Value) => relu(batchNormEval(x, running, gamma, beta));
    const [a, b] = [g.input("a", [1, 8, 8, 8, 4]), g.input("b", [1, 8, 8, 8, 4])];
    const idle = add(active(a), relu(b));
    const wide = conv3d(idle, g.input("w", [16, 1, 1, 1, 4]));
    return { y: mul(mul(conv3d(wide, g.input("v", [4, 1, 1, 1, 16])), idle), mul(a, b)) };
  };
  const found = planOnly(build).layout.steps.map(({ spec }) => spec.kernel);
  for (const kernel of ["relu", "normalizeReluAdd"])
    assert.is(found.filter((each) => each === kernel).length, 2, found.join(" "));
});

test("a plan without updates stays in the order in which it was traced", () => {
  const found = planOnly((g) => {
    const x = g.input("x", [4]);
    return { a: scale(x, 2), b: relu(x), c: mean(x) };
  }).layout.steps.map(({ spec }) => spec.kernel);
  assert.equal(found, ["scale", "relu", "sum", "scale"]);
});

test.run();
