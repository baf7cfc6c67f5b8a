import { test } from "uvu";
import * as assert from "uvu/assert";
import { compile } from "../../lib/compile/compile.ts";
import { disposeStates } from "../../lib/compile/states.ts";
import { ShapeError } from "../../lib/errors.ts";
import { deeplabv3plus, models, type Network, resvnet, vnet } from "../../lib/models/index.ts";
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

test("DeepLabv3+ on ResNet-18 has as many parameters as the PyTorch code it follows", () => {
  assert.is(deeplabv3plus({ classes: 14 }).parameterCount, 16_600_110);
  assert.is(deeplabv3plus({ classes: 14, inputChannels: 3 }).parameterCount, 16_606_382);
  // The other form of ASPP and the other output stride have the same layers, put together differently.
  assert.is(deeplabv3plus({ classes: 14, aspp: "concatenated", outputStride: 8 }).parameterCount, 16_600_110);
  // Without the second 3x3 convolution and its norm.
  assert.is(deeplabv3plus({ classes: 14, decoderConvs: 1 }).parameterCount, 16_600_110 - 9 * 256 ** 2 - 512);
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

  test(`${name}: extents that the network cannot halve are refused`, async () => {
    const network = make({ baseChannels: 2 });
    try {
      await compile((g) => ({ y: network.apply(g.input("x", [1, 16, 24, 16, 1])) }));
      assert.unreachable();
    } catch (error) {
      assert.instance(error, ShapeError);
      assert.match((error as Error).message, /multiples of (16|1), 16, 16, found \[1,16,24,16,1\]/);
    }
  });
}

for (const options of [{ outputStride: 8 }, { aspp: "concatenated" }, { decoderConvs: 1 }] as const) {
  test(`deeplabv3plus with ${JSON.stringify(options)} segments slices by themselves`, async () => {
    const network = deeplabv3plus({ baseChannels: 2, classes: 3, ...options });
    const image = new Float32Array(3 * 48 * 32).map((_, i) => Math.sin(i));
    using volume = await compile((g) => ({ y: network.apply(g.input("x", [1, 3, 48, 32, 1])) }));
    using slice = await compile((g) => ({ y: network.apply(g.input("x", [1, 1, 48, 32, 1])) }));
    const { y: all } = await volume.run({ x: image });
    for (const depth of [0, 1, 2]) {
      const { y } = await slice.run({ x: image.slice(depth * 48 * 32, (depth + 1) * 48 * 32) });
      assert.is(y.length, 48 * 32 * 3);
      for (const [i, value] of y.entries())
        assert.ok(Math.abs(value - all[depth * y.length + i]) < 1e-5 * (1 + Math.abs(value)));
    }
    disposeStates(device, network.states().values());
  });
}

test("training DeepLabv3+ on one slice is refused: its pooled branch has one value of each channel", async () => {
  const network = deeplabv3plus({ baseChannels: 2 });
  try {
    await compile((g) => ({ y: network.apply(g.input("x", [1, 1, 32, 32, 1]), { training: true }) }));
    assert.unreachable();
  } catch (error) {
    assert.instance(error, ShapeError);
    assert.match((error as Error).message, /aspp\.pooledNorm: .* at least two values .*take a larger batch/);
  }
});

test("kaiming weights have variance 2 / fan-in", () => {
  const weight = vnet({ seed: 3 }).states().get("blocks.2.layers.1.conv.weight") as State;
  const { initial } = weight;
  const values = typeof initial === "function" ? initial() : [];
  let squares = 0;
  for (const value of values) squares += value * value;
  assert.ok(Math.abs((squares / weight.size) * (64 * 27) - 2) < 0.05);
});

test.run();
