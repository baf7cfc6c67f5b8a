/** Every kernel that the CPU has, the CUDA backend has too; each gives the same, and each function of the device is tried. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { StepSpec, TensorSpec } from "../../lib/runtime/native.ts";
import { openDevice } from "../../lib/runtime/device.ts";
import { elements, type Value } from "../../lib/graph/value.ts";
import { expectClose, random } from "../ops/harness.ts";
import { testDevices } from "./devices.ts";
import { runStep } from "./run_step.ts";
import { everyOp } from "../runtime/fixtures/every_op.ts";

const cpu = openDevice("cpu");
const devices = testDevices.map((name) => openDevice(name));

/**
 * Kernels of weights that are laid out as their device likes, and such as the compiler puts in where a device says that it
 * can: other tests compare what they make together.
 */
const own = [
  "asppPacked",
  "conv3dPackWeights",
  "conv3dPacked",
  "conv3dPackedMoments",
  "normalizeReluConv3dPacked",
  "normalizeReluConv3dPackedMoments",
  "normalizeReluConv3dWeightGradient",
];

test("the CUDA backend has every kernel of the CPU, and three of its own", () => {
  const expected = [...cpu.native.kernels(), "emas", "headSegmentationLosses", "sgdPacked"].sort();
  for (const device of devices) assert.equal(device.native.kernels(), expected);
});

/**
 * A grid may have 2^31 blocks along x and 65535 along y and z. A small tensor needs more than one of those only where samples
 * are laid out along y or z: a batch of 65536 would be too long.
 */
function limitGrid(inputs: readonly Value[]): void {
  const small = inputs.every(({ shape }) => elements(shape) <= 4096);
  process.env.VOXGRAD_EMULATOR_GRID = small ? "1" : "65535";
}

function contents({ op, dtype, shape }: Value, seed: number, reader: string): NodeJS.TypedArray {
  const values = random(elements(shape), seed);
  if (dtype === "u8") return Uint8Array.from(values, (value) => Math.floor((value + 1) * 1.99));
  if (dtype === "i32") return Int32Array.from(values, (value) => Math.floor((value + 1) * 1.99));
  if (dtype === "bf16")
    return Uint16Array.from(new Uint32Array(Float32Array.from(values).buffer), (bits) => bits >>> 16);
  // Moments hold variances, sums of Dice counts: positive numbers serve for all of them.
  const positive = op === "moments" || shape.length === 3 || /OfSums|ratio/i.test(reader);
  return Float32Array.from(values, (value) => (positive ? value + 1.5 : value));
}

const key = ({ op, inputs, attributes }: Value) =>
  JSON.stringify([op, attributes, inputs.map(({ dtype, shape }) => [dtype, shape])]);
const nodes = [
  ...new Map(
    everyOp()
      .nodes.filter(({ op }) => cpu.native.kernels().includes(op) && !own.includes(op))
      .map((node) => [key(node), node]),
  ).values(),
];
for (const [index, node] of nodes.entries())
  test(`${node.op}, node ${index} of all, as on the CPU`, async () => {
    const bare = ({ dtype, shape }: Value): TensorSpec => ({ dtype, shape, offset: 0 });
    const step: StepSpec = {
      kernel: node.op,
      label: node.op,
      inputs: node.inputs.map(bare),
      output: bare(node),
      attributes: node.attributes,
    };
    const data = node.inputs.map((input, i) => contents(input, index * 7 + i, node.op));
    const expected = await runStep(cpu, step, data);
    limitGrid(node.inputs);
    for (const device of devices) {
      const found = await runStep(device, step, data);
      for (const [i, bytes] of expected.entries()) {
        const floats = i > 0 || node.dtype === "f32";
        const view = (buffer: ArrayBuffer): ArrayLike<number> =>
          floats ? new Float32Array(buffer) : new Uint8Array(buffer);
        expectClose(view(found[i]), view(bytes), 1e-5, `${device.name}, tensor ${i}`);
      }
    }
  });

test("every function that the sources launch was launched", () => {
  const folder = join(import.meta.dirname, "../../native/cuda");
  // Those of convolutions depend on shapes: conv.test.ts goes through them by name.
  const sources = readdirSync(folder).filter((file) => file.endsWith(".cu") && !file.startsWith("conv_"));
  const text = sources.map((file) => readFileSync(join(folder, file), "utf8")).join("\n");
  const named = [...text.matchAll(/\b(?:forEach|columnSums<\w+>)\(\s*"(\w+)"/g)].map(([, name]) => name);
  const launched = Object.keys(devices[0].native.launches());
  assert.ok(named.length > 30, `only ${named.length} found`);
  assert.equal(
    named.filter((name) => !launched.includes(name)),
    [],
  );
});

test.run();
