/** Runs whose cases do not fit into memory end with the bits of runs whose cases do. */
import { readdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { openDataset } from "../../lib/data/dataset.ts";
import { writeLabels } from "../../lib/data/nifti.ts";
import { DataError } from "../../lib/errors.ts";
import type { Config } from "../../lib/train/config.ts";
import { splitCases } from "../../lib/train/data.ts";
import { recipes } from "../../lib/train/recipes/index.ts";
import { RunFolder } from "../../lib/train/run.ts";
import { train, type TrainListener } from "../../lib/train/trainer.ts";
import { writePhantom } from "../../lib/data/phantom.ts";
import { screenGeometry, type Triple } from "../../lib/data/volume.ts";
import { device, temporaryFolder, tinyConfig } from "./fixtures.ts";

const data = temporaryFolder();
await writePhantom(data, { cases: 7, labeled: 3, test: 0, size: [32, 32, 16], seed: 5 });
const { cases } = await openDataset(data);

const settings: Partial<Config> = {
  networks: ["deeplabv3plus", "deeplabv3plus"],
  baseChannels: 1,
  patch: [32, 32, 1],
  steps: 8,
  checkpointEvery: 3,
  validationCases: 1,
  reestimateBatches: 2,
};

async function sit(
  cacheGB: number | null,
  options: { run?: RunFolder; listener?: TrainListener; cacheFolder?: string } = {},
) {
  const { cacheFolder = null } = options;
  const config = tinyConfig({ ...settings, cacheGB, cacheFolder }, "cps");
  const split = splitCases(cases, config);
  const run = options.run ?? new RunFolder(join(temporaryFolder(), "run"));
  if (options.run === undefined)
    await run.create({ recipe: "cps", preset: "recommended", data, config }, split);
  const resume = options.run !== undefined;
  const { listener } = options;
  await train({ recipe: recipes.cps, config, cases, split, device, run, resume, listener });
  return run;
}

const weights = (run: RunFolder) => readFileSync(run.file("last.safetensors")).toString("base64");
const kept: (readonly [number, number, number])[] = [];
const whole = await sit(null, { listener: { onCache: (...found) => kept.push(found) } });

test("cases that all fit are all kept", () => {
  assert.equal(kept, []);
});

for (const [name, cacheGB] of [
  ["nothing", 0],
  ["some", 1.2e-4],
] as const)
  test(`with room for ${name}, losses, validation and weights are the same`, async () => {
    const found: (readonly [number, number, number])[] = [];
    const loaded: number[] = [];
    const listener = {
      onCache: (...each: [number, number, number]) => found.push(each),
      onLoad: (done: number) => loaded.push(done),
    };
    const run = await sit(cacheGB, { listener });
    assert.ok(weights(run) === weights(whole), "the weights differ");
    assert.equal(await run.metrics(), await whole.metrics());
    assert.is(found.length, 1);
    const [[count, total, bytes]] = found;
    assert.is(total, 7);
    assert.ok(bytes <= cacheGB * 2 ** 30 && count < 7, `${count} cases in ${bytes} bytes`);
    assert.is(count > 0, cacheGB > 0);
    assert.equal(loaded, [1, 2, 3, 4, 5, 6, 7]);
  });

test("with a folder for what has no room, every file is checked beforehand and the weights are the same", async () => {
  const cacheFolder = join(temporaryFolder(), "decoded");
  const run = await sit(0, { cacheFolder });
  assert.ok(weights(run) === weights(whole), "the weights differ");
  assert.equal(await run.metrics(), await whole.metrics());
  assert.is(readdirSync(cacheFolder).length, 7);

  const path = join(cacheFolder, readdirSync(cacheFolder)[0]);
  truncateSync(path, 100);
  await assertDataError(sit(0, { cacheFolder }), path, /expected a decoded case, .* delete the file/);
});

test("a file that cannot be decoded is found before the first step where there is a folder", async () => {
  const { unlabeled } = splitCases(cases, tinyConfig(settings, "cps"));
  const path = cases.find(({ id }) => id === unlabeled[1])?.image as string;
  const intact = readFileSync(path);
  truncateSync(path, intact.length / 2);
  let steps = 0;
  const run = sit(0, { cacheFolder: temporaryFolder(), listener: { onStep: () => void steps++ } });
  await assertDataError(run, path, /./);
  writeFileSync(path, intact);
  assert.is(steps, 0);
});

async function assertDataError(work: Promise<unknown>, path: string, message: RegExp) {
  const error = await work.then(() => undefined).catch((thrown: unknown) => thrown);
  assert.instance(error, DataError);
  assert.is((error as DataError).path, path);
  assert.match((error as Error).message, message);
}

test("headers that cannot be right are found before the first step, though the voxels are not read yet", async () => {
  // Needed for the first time after three steps.
  const { validation } = splitCases(cases, tinyConfig(settings, "cps"));
  const path = cases.find(({ id }) => id === validation[0])?.label as string;
  const intact = readFileSync(path);
  const size: Triple = [32, 32, 15];
  await writeLabels(path, {
    size,
    data: new Uint8Array(32 * 32 * 15),
    geometry: screenGeometry(size, [2, 2, 2]),
  });
  let error: unknown;
  let steps = 0;
  await sit(0, { listener: { onStep: () => void steps++ } }).catch((thrown: unknown) => (error = thrown));
  writeFileSync(path, intact);
  assert.instance(error, DataError);
  assert.match(
    (error as Error).message,
    /expected the size of its image .*, 32 x 32 x 16; found 32 x 32 x 15/,
  );
  assert.is(steps, 0);
});

test("a file that turns out damaged stops the run, which goes on where it was once the file is mended", async () => {
  const run = new RunFolder(join(temporaryFolder(), "run"));
  const config = tinyConfig({ ...settings, cacheGB: 0 }, "cps");
  const split = splitCases(cases, config);
  await run.create({ recipe: "cps", preset: "recommended", data, config }, split);
  const path = cases.find(({ id }) => id === split.unlabeled[1])?.image as string;
  const intact = readFileSync(path);
  let steps = 0;
  const listener: TrainListener = {
    onStep: ({ step }) => {
      steps = step;
      if (step === 4) truncateSync(path, intact.length / 2);
    },
  };
  let error: unknown;
  try {
    await train({ recipe: recipes.cps, config, cases, split, device, run, listener });
  } catch (thrown) {
    error = thrown;
  } finally {
    writeFileSync(path, intact);
  }
  assert.instance(error, DataError);
  assert.is((error as DataError).path, path);
  assert.ok(steps >= 4 && steps < 8, `${steps} steps`);
  assert.is((await run.metrics()).filter((line) => "learningRate" in line).length, steps);
  await sit(null, { run });
  assert.ok(weights(run) === weights(whole), "the weights differ");
  assert.equal(await run.metrics(), await whole.metrics());
});

test.run();
