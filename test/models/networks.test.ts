import { test } from "uvu";
import * as assert from "uvu/assert";
import { compile } from "../../lib/compile/compile.ts";
import { disposeStates } from "../../lib/compile/states.ts";
import { ShapeError } from "../../lib/errors.ts";
import { models, type Network, resvnet, vnet } from "../../lib/models/index.ts";
import type { State } from "../../lib/graph/state.ts";
import { openDevice } from "../../lib/runtime/device.ts";

const device = openDevice();

function statistics(network: Network): number {
  const trained = new Set<State>(network.parameters());
  return [...network.states().values()]
    .filter((state) => !trained.has(state))
    .reduce((sum, state) => sum + state.size, 0);
}

test("parameters are counted as published", () => {
  assert.is(vnet().parameterCount, 9_448_866);
  assert.is(resvnet().parameterCount, 17_930_354);
  assert.is(statistics(vnet()), 5_600);
});

test("input channels, classes and base channels are options", () => {
  const options = { inputChannels: 2, classes: 5, baseChannels: 4 };
  assert.equal([...vnet(options).states().values()][0].shape, [4, 3, 3, 3, 2]);
  assert.is(vnet(options).classes, 5);
  // From 2 to 5 classes only the head grows: a weight per channel and a bias for each.
  assert.is(vnet({ classes: 5 }).parameterCount - vnet().parameterCount, 3 * 17);
});

for (const [name, make] of Object.entries(models)) {
  test(`${name}: the seed decides the weights`, () => {
    const first = (seed: number) => {
      const { initial } = [...make({ baseChannels: 2, seed }).states().values()][0];
      return typeof initial === "function" ? [...initial()] : [];
    };
    assert.equal(first(1), first(1));
    assert.not.equal(first(1), first(2));
  });

  test(`${name}: logits have the image's extent and one channel per class`, async () => {
    const network = make({ baseChannels: 2, classes: 3 });
    const plan = await compile((g) => ({ y: network.apply(g.input("x", [1, 16, 32, 16, 1])) }), {
      paranoid: true,
    });
    const { y } = await plan.run({ x: new Float32Array(16 * 32 * 16).map((_, i) => Math.sin(i)) });
    assert.is(y.length, 16 * 32 * 16 * 3);
    assert.ok(y.every(Number.isFinite));
    plan.dispose();
    disposeStates(device, network.states().values());
  });

  test(`${name}: extents that the network cannot halve four times are refused`, async () => {
    const network = make({ baseChannels: 2 });
    try {
      await compile((g) => ({ y: network.apply(g.input("x", [1, 16, 24, 16, 1])) }));
      assert.unreachable();
    } catch (error) {
      assert.instance(error, ShapeError);
      assert.match((error as Error).message, /multiples of 16, found \[1,16,24,16,1\]/);
    }
  });
}

test("kaiming weights have variance 2 / fan-in", () => {
  const weight = vnet({ seed: 3 }).states().get("blocks.2.layers.1.conv.weight") as State;
  const { initial } = weight;
  const values = typeof initial === "function" ? initial() : [];
  let squares = 0;
  for (const value of values) squares += value * value;
  assert.ok(Math.abs((squares / weight.size) * (64 * 27) - 2) < 0.05);
});

test.run();
