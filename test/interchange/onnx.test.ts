/** Exported networks, run by onnxruntime, against our own plans. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { disposeStates, writeState } from "../../lib/compile/states.ts";
import { elements } from "../../lib/graph/value.ts";
import { type ExportOptions, exportOnnx } from "../../lib/infer/export_onnx.ts";
import { Predictor } from "../../lib/infer/predictor.ts";
import { reestimateStatistics } from "../../lib/infer/reestimate.ts";
import { deeplabv3plus, type Network, resvnet, vnet } from "../../lib/models/index.ts";
import { nameStates } from "../../lib/nn/module.ts";
import { openDevice } from "../../lib/runtime/device.ts";
import { channelsFirst, type Dense, loadRuntime } from "../oracle/onnx.ts";
import { expectClose, random } from "../ops/harness.ts";
import { temporaryFolder } from "../train/fixtures.ts";
import { decodeModel, metadataOf, slicesApart } from "./onnx_file.ts";

const runtime = await loadRuntime();
const device = openDevice();
const folder = temporaryFolder();

/** Gives a new network the running statistics of random images, and gammas and betas that are not 1 and 0. */
async function settle(network: Network, shape: readonly number[]): Promise<Network> {
  let seed = 1;
  for (const [name, state] of network.states())
    if (/\.(gamma|beta)$/.test(name)) {
      const shift = name.endsWith("gamma") ? 0.5 : 0;
      const values = random(state.size, seed++);
      await writeState(
        device,
        state,
        Float32Array.from(values, (value) => shift + 0.2 * value),
      );
    }
  await reestimateStatistics([network], device, shape, 2, (index) =>
    Float32Array.from(random(elements(shape), 50 + index)),
  );
  return network;
}

async function exported(networks: readonly Network[], options: ExportOptions = {}): Promise<Buffer> {
  const path = join(folder, "model.onnx");
  const { bytes } = await exportOnnx(path, networks, { device, ...options });
  const file = readFileSync(path);
  assert.is(file.length, bytes);
  return file;
}

/** Holds what onnxruntime makes of images of these shapes, `[N, D, H, W, 1]`, against our own prediction. */
async function compare(networks: readonly Network[], shapes: readonly number[][], options?: ExportOptions) {
  const flat = networks.every(({ divisor }) => divisor[0] === 1);
  const file = await exported(networks, options);
  if (typeof runtime === "string") return;
  const predictor = new Predictor(networks, device);
  for (const graphOptimizationLevel of ["all", "disabled"] as const) {
    const session = await runtime.InferenceSession.create(file, {
      graphOptimizationLevel,
      intraOpNumThreads: 1,
      logSeverityLevel: 3,
    });
    for (const [index, shape] of shapes.entries()) {
      const data = Float32Array.from(random(elements(shape), 7 + index));
      const [count, z, y, x] = shape;
      const image = channelsFirst({ shape, data });
      const fed = flat ? slicesApart(image) : image;
      const results = await session.run({ image: new runtime.Tensor("float32", fed.data, fed.shape) });
      const { dims, data: theirs } = results.probabilities;
      const { classes } = networks[0];
      const own: Dense = channelsFirst({
        shape: [count, z, y, x, classes],
        data: await predictor.run(data, [count, z, y, x]),
      });
      const expected = flat ? slicesApart(own) : own;
      assert.equal(dims, expected.shape);
      expectClose(
        theirs as Float32Array,
        expected.data,
        1e-5,
        `${graphOptimizationLevel} ${shape.join("x")}`,
      );
      const largest = expected.data.reduce((most, value) => Math.max(most, value));
      const least = expected.data.reduce((fewest, value) => Math.min(fewest, value));
      assert.ok(largest - least > 0.2, `probabilities from ${least} to ${largest} would show no error`);
    }
    await session.release();
  }
  await predictor.dispose();
}

const volumes = [
  [1, 16, 32, 48, 1],
  [2, 32, 16, 16, 1],
];
const slices = [
  [1, 1, 48, 80, 1],
  [2, 3, 64, 32, 1],
];

test("vnet", async () => {
  const network = await settle(vnet({ baseChannels: 3, classes: 3 }), [2, 32, 32, 32, 1]);
  await compare([network], volumes);
  disposeStates(device, network.states().values());
});

test("resvnet, with the oldest and the newest opset", async () => {
  const network = await settle(resvnet({ baseChannels: 2, classes: 2, seed: 1 }), [2, 32, 32, 32, 1]);
  await compare([network], volumes, { opset: 15 });
  await compare([network], volumes, { opset: 22 });
  disposeStates(device, network.states().values());
});

for (const aspp of ["added", "concatenated"] as const)
  test(`deeplabv3plus with ASPP ${aspp}: a model of slices`, async () => {
    const outputStride = aspp === "added" ? 16 : 8;
    const options = { baseChannels: 3, classes: 4, aspp, outputStride } as const;
    const network = await settle(deeplabv3plus(options), [4, 2, 96, 96, 1]);
    await compare([network], slices);
    disposeStates(device, network.states().values());
  });

test("the mean of two networks, in volumes as soon as one of them works in volumes", async () => {
  const shape = [2, 32, 32, 32, 1];
  const first = await settle(vnet({ baseChannels: 2 }), shape);
  const second = await settle(deeplabv3plus({ baseChannels: 2, seed: 1 }), shape);
  await compare([first, second], volumes);
  const third = nameStates(await settle(deeplabv3plus({ baseChannels: 2, seed: 2 }), shape), "other");
  await compare([second, third], slices);
  for (const network of [first, second, third]) disposeStates(device, network.states().values());
});

test("another protobuf library reads the file as it was meant", async () => {
  const network = deeplabv3plus({ baseChannels: 1 });
  const model = decodeModel(
    await exported([network], { opset: 19, metadata: { "voxgrad.patch": "[48,48,1]" } }),
  );
  assert.is(Number(model.irVersion), 9);
  assert.is(Number(model.opsetImport[0].version), 19);
  const metadata = metadataOf(model);
  assert.equal(metadata, {
    "voxgrad.networks": '["deeplabv3plus"]',
    "voxgrad.classes": "2",
    "voxgrad.divisor": "[16,16,1]",
    "voxgrad.patch": "[48,48,1]",
  });
  const extents = model.graph?.input?.[0].type?.tensorType?.shape?.dim?.map(
    ({ dimParam, dimValue }) => dimParam || Number(dimValue),
  );
  assert.equal(extents, ["batch", 1, "height", "width"]);
  const stored = model.graph?.initializer
    ?.filter(({ dataType }) => dataType === 1)
    .reduce((total, { rawData }) => total + (rawData?.length ?? 0), 0);
  const held = [...network.states().values()].reduce((total, { size }) => total + size, 0);
  assert.is(stored, 4 * held);
  disposeStates(device, network.states().values());
});

test("networks of different classes, no network, opsets out of range, and more than 2 GiB are refused", async () => {
  const path = join(folder, "refused.onnx");
  const refused = async (networks: readonly Network[], options: ExportOptions, message: RegExp) => {
    let error: unknown;
    await exportOnnx(path, networks, { device, ...options }).catch((thrown: unknown) => (error = thrown));
    assert.is((error as { code?: string }).code, "ERR_USAGE");
    assert.match((error as Error).message, message);
    assert.throws(() => readFileSync(path), /ENOENT/);
  };
  await refused([], {}, /expected one network or more/);
  await refused([vnet(), vnet({ classes: 3 })], {}, /same classes and input channels/);
  await refused([vnet()], { opset: 14 }, /from 15 to 22, found 14/);
  // No weight of it is ever made.
  await refused([resvnet({ baseChannels: 128 })], {}, /less than 2 GiB, these weights need 4.3 GiB/);
});

test.run();
