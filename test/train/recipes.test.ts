import { existsSync, readFileSync } from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { NotFiniteError, UsageError } from "../../lib/errors.ts";
import { decodeSafetensors } from "../../lib/interchange/safetensors.ts";
import { type Config, makeConfig, parseSetting, presets } from "../../lib/train/config.ts";
import { loadRun } from "../../lib/train/load.ts";
import { device, tinyCohort, tinyConfig, tinyRun } from "./fixtures.ts";

const data = await tinyCohort();

test("sdnet lowers the supervised losses of both networks, by either difference loss and selector", async () => {
  for (const settings of [
    {},
    { differenceLoss: "crossEntropy", selector: "sample", dice: "linear" },
  ] as const) {
    const config = tinyConfig({ ...settings, steps: 40, dropout: 0, checkpointEvery: 40 });
    const run = await tinyRun(data, "sdnet", config);
    const lines = await run.metrics();
    for (const network of ["vnet", "resvnet"]) {
      // Without what comes and goes as long as the networks disagree.
      const [first, last] = [lines[0], lines[39]].map(
        (line) =>
          line[`loss.${network}`] -
          config.differenceWeight * line[`difference.${network}`] -
          line.unsupervisedWeight * line[`unsupervised.${network}`],
      );
      assert.ok(last < 0.8 * first, `${network} from ${first} to ${last}`);
    }
    assert.ok(lines.every((line) => line.firstIsBetter === 0 || line.firstIsBetter === 1));
  }
});

test("the better network on the labelled half gets no unsupervised loss, the other one does", async () => {
  const run = await tinyRun(data, "sdnet", tinyConfig({ steps: 6 }));
  for (const line of await run.metrics()) {
    const firstIsBetter = line["dice.vnet"] < line["dice.resvnet"];
    assert.is(line.firstIsBetter, firstIsBetter ? 1 : 0);
    assert.is(line["unsupervised.vnet"] === 0, firstIsBetter);
    assert.is(line["unsupervised.resvnet"] === 0, !firstIsBetter);
  }
});

test("with every weight zero, sdnet's losses are those of supervised networks", async () => {
  const settings = { steps: 1, dropout: 0, differenceWeight: 0, unsupervisedWeight: 0 };
  const [line] = await (await tinyRun(data, "sdnet", tinyConfig(settings))).metrics();
  for (const network of ["vnet", "resvnet"]) assert.ok(line[`loss.${network}`] > line[`dice.${network}`]);
});

test("supervised trains any number of networks, two of a kind with weights of their own", async () => {
  const run = await tinyRun(data, "supervised", tinyConfig({ networks: ["vnet", "vnet"], steps: 2 }));
  const [line] = await run.metrics();
  assert.ok("loss.vnet1" in line && "loss.vnet2" in line);
  assert.is.not(line["loss.vnet1"], line["loss.vnet2"]);
});

test("a run describes itself and can be loaded", async () => {
  const config = tinyConfig({ steps: 2 });
  const run = await tinyRun(data, "supervised", config);
  const loaded = await loadRun(run, device);
  assert.equal(loaded.config, config);
  assert.equal(
    loaded.networks.map(({ path }) => path),
    ["vnet", "resvnet"],
  );
  for (const name of ["config.json", "split.json", "metrics.jsonl", "best.safetensors"] as const)
    assert.ok(existsSync(run.file(name)), name);
});

test("re-estimating statistics changes them and nothing else", async () => {
  const settings = { steps: 2, flip: [], rotate: 0 };
  const plain = await tinyRun(data, "supervised", tinyConfig(settings));
  const adapted = await tinyRun(data, "supervised", tinyConfig({ ...settings, reestimateBatches: 3 }));
  const [a, b] = [plain, adapted].map((run) => readFileSync(run.file("last.safetensors")));
  assert.is(a.equals(b), false);
  assert.ok(
    readFileSync(plain.file("best.safetensors")).equals(readFileSync(adapted.file("best.safetensors"))),
  );
});

test("a loss that is not finite stops the run, keeps the last checkpoint and names the tensor", async () => {
  const before = await tinyRun(data, "supervised", tinyConfig({ steps: 4 }));
  const kept = readFileSync(before.file("last.safetensors"));
  try {
    await tinyRun(data, "supervised", tinyConfig({ steps: 40, learningRate: 1e30 }), {
      run: before,
      resume: true,
    });
    assert.unreachable();
  } catch (error) {
    assert.instance(error, NotFiniteError);
    assert.match((error as Error).message, /step \d+: .* in (vnet|resvnet)\..*last good checkpoint/);
  }
  assert.ok(readFileSync(before.file("last.safetensors")).equals(kept));
});

test("rates hold back the parameters whose paths begin so, and refuse what begins no path", async () => {
  const after = async (rates: Config["rates"]) => {
    const config = tinyConfig({ networks: ["vnet"], steps: 1, weightDecay: 0, rates });
    const path = (await tinyRun(data, "supervised", config)).file("last.safetensors");
    return decodeSafetensors(readFileSync(path), path).tensors;
  };
  const [initial, whole, held] = [
    await after({ "": 0 }),
    await after({}),
    await after({ downs: 0.5, "downs.0": 0 }),
  ];
  for (const [path, { data: now }] of held) {
    if (!path.startsWith("vnet.") || !path.endsWith("weight")) continue;
    const [before, free] = [initial, whole].map((tensors) => tensors.get(path)?.data as Float32Array);
    const factor = path.startsWith("vnet.downs.0") ? 0 : path.startsWith("vnet.downs") ? 0.5 : 1;
    for (let i = 0; i < now.length; i += 11)
      assert.ok(Math.abs(now[i] - before[i] - factor * (free[i] - before[i])) < 1e-6, path);
  }
  try {
    await after({ backbone: 0.1 });
    assert.unreachable();
  } catch (error) {
    assert.match(
      (error as Error).message,
      /no parameter's path begins with "backbone"; .* blocks, downs, decoder/,
    );
  }
});

test("settings are checked and the nearest name is offered", () => {
  assert.throws(
    () => makeConfig("recommended", { learningrate: 0.1 }),
    /unknown setting "learningrate", did you mean "learningRate"\?/,
  );
  assert.throws(() => makeConfig("recomended", {}), /did you mean "recommended"/);
  assert.throws(
    () => makeConfig("recommended", { steps: -1 }),
    (error: unknown) => error instanceof UsageError && /"steps"/.test(error.message),
  );
  const refusals: [Record<string, unknown>, string][] = [
    [{ steps: 0 }, 'setting "steps": expected a number of at least 1; found 0'],
    [{ steps: "many" }, 'setting "steps": expected a number; found "many"'],
    [{ steps: 1.5 }, 'setting "steps": expected a whole number; found 1.5'],
    [{ momentum: 2 }, 'setting "momentum": expected a number of at most 1; found 2'],
    [{ teacherDecay: 1 }, 'setting "teacherDecay": expected a number below 1; found 1'],
    [{ learningRate: 0 }, 'setting "learningRate": expected a number above 0; found 0'],
    [{ networks: [] }, 'setting "networks": expected at least 1 item; found []'],
    [{ nesterov: 1 }, 'setting "nesterov": expected true or false; found 1'],
    [{ aspp: "add" }, 'setting "aspp": expected one of "added", "concatenated"; found "add"'],
    [{ outputStride: 9 }, 'setting "outputStride": expected one of 8, 16; found 9'],
    [{ patch: [16, 16] }, 'setting "patch": expected three whole numbers along x, y, z; found [16,16]'],
    [{ patch: [16, 16, 0] }, 'setting "patch.2": expected a number of at least 1; found 0'],
    [{ window: 3 }, 'setting "window": expected [low, high], or null; found 3'],
    [{ cacheFolder: "" }, 'setting "cacheFolder": expected a folder, or null; found ""'],
  ];
  for (const [settings, message] of refusals)
    assert.throws(
      () => makeConfig("recommended", settings),
      (error: unknown) => error instanceof UsageError && error.message === message,
      message,
    );
  assert.throws(
    () => makeConfig("recommended", { patch: [20, 32, 32] }),
    /multiples of 16x16x16, found 20x32x32/,
  );
  assert.equal(
    makeConfig("recommended", { networks: ["deeplabv3plus"], patch: [32, 32, 3] }).patch,
    [32, 32, 3],
  );
  assert.throws(
    () => makeConfig("recommended", { networks: ["deeplabv3plus", "vnet"], patch: [32, 32, 3] }),
    /multiples of 16x16x16, found 32x32x3/,
  );
  assert.equal(parseSetting("patch=32x48x32"), ["patch", [32, 48, 32]]);
  assert.equal(parseSetting("flip=x,y"), ["flip", ["x", "y"]]);
  assert.equal(parseSetting("learningRate=1e-2"), ["learningRate", 0.01]);
  assert.throws(() => parseSetting("steps"), /key=value/);
});

test("the literal preset has the paper's numbers", () => {
  const {
    learningRate,
    steps,
    decayEvery,
    momentum,
    weightDecay,
    labeledPerBatch,
    unlabeledPerBatch,
    window,
    temperature,
  } = presets.literal;
  assert.equal(
    {
      learningRate,
      steps,
      decayEvery,
      momentum,
      weightDecay,
      labeledPerBatch,
      unlabeledPerBatch,
      window,
      temperature,
    },
    {
      learningRate: 0.01,
      steps: 1200,
      decayEvery: 200,
      momentum: 0.9,
      weightDecay: 1e-4,
      labeledPerBatch: 2,
      unlabeledPerBatch: 2,
      window: [0, 400],
      temperature: 0.1,
    },
  );
});

test.run();
