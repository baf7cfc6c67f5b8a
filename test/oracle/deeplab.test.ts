/** DeepLabv3+ against PyTorch in float64 with the same weights: deeplab_torch.py wrote deeplab_torch.json. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { gradients } from "../../lib/autograd/gradients.ts";
import { compile } from "../../lib/compile/compile.ts";
import { disposeStates, writeState } from "../../lib/compile/states.ts";
import { type DeepLabOptions, deeplabv3plus } from "../../lib/models/index.ts";
import { crossEntropy } from "../../lib/ops/loss.ts";
import { openDevice } from "../../lib/runtime/device.ts";
import { expectClose } from "../ops/harness.ts";

interface Recorded {
  readonly options: DeepLabOptions;
  readonly loss: number;
  /** Every 997th logit in training mode, and in prediction by the running statistics after that one step. */
  readonly training: readonly number[];
  readonly prediction: readonly number[];
  /** Of each parameter's gradient its length, and its product with hashed numbers. */
  readonly gradients: Readonly<Record<string, readonly [number, number]>>;
}

const recorded = JSON.parse(
  readFileSync(join(import.meta.dirname, "deeplab_torch.json"), "utf8"),
) as Recorded[];
const shape = [3, 1, 320, 48, 1];
const voxels = 3 * 320 * 48;
const device = openDevice();

/** `count` numbers in [-1, 1) that a name decides: FNV-1a of the name, then a finalizer of MurmurHash3 for each index. */
function hashed(name: string, count: number): Float32Array {
  let seed = 2166136261;
  for (const byte of Buffer.from(name)) seed = Math.imul(seed ^ byte, 16777619);
  return Float32Array.from({ length: count }, (_, index) => {
    let h = Math.imul(index, 0x9e3779b1) + seed;
    h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
    h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
    return ((h ^ (h >>> 16)) >>> 0) / 2 ** 31 - 1;
  });
}

function weightsOf(name: string, size: number, fanIn: number): Float32Array {
  const values = hashed(name, size);
  if (name.endsWith(".gamma")) return values.map((value) => 0.4 * (1 + 0.25 * value));
  if (name.endsWith(".weight")) return values.map((value) => value * Math.sqrt(6 / fanIn));
  if (!name.endsWith(".beta")) return values;
  // No ReLU is near its kink: every channel is open or, every fourth, closed, but where two are added first.
  const closes = !name.startsWith("stages.") || name.includes(".first.");
  return values.map((value, channel) => value + 4 - (closes && channel % 4 === 3 ? 8 : 0));
}

const everyNth = (values: Float32Array) => values.filter((_, index) => index % 997 === 0);

for (const { options, loss, training, prediction, gradients: slopes } of recorded) {
  const form = `output stride ${options.outputStride}, ASPP ${options.aspp}, ${options.decoderConvs} decoder convolutions`;
  test(`logits and gradients are those of PyTorch: ${form}`, async () => {
    const network = deeplabv3plus({ ...options, baseChannels: 2, classes: 3 });
    const parameters = new Set(network.parameters());
    const named = [...network.states()].filter(([, state]) => parameters.has(state));
    assert.equal(named.map(([name]) => name).sort(), Object.keys(slopes).sort());
    for (const [name, state] of named)
      await writeState(device, state, weightsOf(name, state.size, state.size / state.shape[0]));
    using step = await compile((graph) => {
      const logits = network.apply(graph.input("image", shape), { training: true });
      const error = crossEntropy(logits, graph.input("labels", shape.slice(0, 4), "u8"));
      const found = gradients(
        error,
        named.map(([, state]) => graph.read(state)),
      );
      return {
        logits,
        loss: error,
        ...Object.fromEntries(named.map(([name], index) => [name, found[index]])),
      };
    });
    using predict = await compile((graph) => ({ logits: network.apply(graph.input("image", shape)) }));
    const image = hashed("image", voxels).map((value, index) => value + Math.floor((3 * index) / voxels));
    const labels = Uint8Array.from({ length: voxels }, (_, index) => Math.floor(index / 5) % 3);
    const found = (await step.run({ image, labels })) as Record<string, Float32Array>;
    const later = await predict.run({ image });

    expectClose(found.loss, [loss], 1e-6, "loss");
    // Norms with shifts this large lose a digit to the mean that they subtract.
    expectClose(everyNth(found.logits), training, 5e-5, "logits in training");
    expectClose(everyNth(later.logits as Float32Array), prediction, 5e-5, "logits in prediction");
    // What another norm takes away again, a beta, or the mean of three samples, has a gradient that is a small difference of large sums.
    const longest = Math.max(...Object.values(slopes).map(([length]) => length));
    for (const [name, [length, product]] of Object.entries(slopes)) {
      const slope = found[name];
      const tolerance = 1e-3 * length + 5e-5 * longest;
      const against = hashed(`${name}.product`, slope.length);
      const dot = slope.reduce((sum, value, index) => sum + value * against[index], 0);
      const norm = Math.sqrt(slope.reduce((sum, value) => sum + value * value, 0));
      assert.ok(Math.abs(norm - length) <= tolerance, `${name}: length ${norm}, PyTorch ${length}`);
      assert.ok(Math.abs(dot - product) <= tolerance, `${name}: product ${dot}, PyTorch ${product}`);
    }
    disposeStates(device, network.states().values());
  });
}

test.run();
