import { utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { floatImage } from "../../lib/data/coded_image.ts";
import type { SampledVolume } from "../../lib/data/sampler.ts";
import type { Triple } from "../../lib/data/volume.ts";
import type { Case } from "../../lib/data/dataset.ts";
import { Batches } from "../../lib/train/batches.ts";
import { CaseCache } from "../../lib/train/case_cache.ts";
import { CaseStore } from "../../lib/train/case_store.ts";
import { recipes } from "../../lib/train/recipes/index.ts";
import { temporaryFolder, tinyConfig } from "./fixtures.ts";

const size: Triple = [24, 20, 10];
const voxels = 24 * 20 * 10;

/** A case whose voxels say which case and which voxel they are. */
function made(id: string): SampledVolume {
  const number = Number(id.slice(1));
  const image = Float32Array.from({ length: voxels }, (_, i) => number * 1e4 + (i % 300));
  const label = id.startsWith("l")
    ? Uint8Array.from(image, (_, i) => (i % 11 === number ? 1 : 0))
    : undefined;
  return { image, label, size };
}

/** The number of the case that patch `i` of a batch comes from. */
const caseOf = (image: Float32Array, i: number) => Math.floor(image[i * 256] / 1e4);

const ids = (letter: string, count: number) => Array.from({ length: count }, (_, i) => `${letter}${i}`);
const split = { labeled: ids("l", 3), unlabeled: ids("u", 9), validation: [] };
const config = tinyConfig({
  networks: ["deeplabv3plus", "deeplabv3plus"],
  patch: [16, 16, 1],
  steps: 12,
  labeledPerBatch: 4,
  unlabeledPerBatch: 3,
});

/** All batches of a run with room for some bytes, the cases that were read, and the most that was held. */
async function run(
  budget: number,
  { from = 0, broken = "", store }: { from?: number; broken?: string; store?: CaseStore } = {},
) {
  const batches = new Batches(config, recipes.cps, split);
  const reads: string[] = [];
  let most = 0;
  const cases = new CaseCache({
    load: async (id) => {
      reads.push(id);
      most = Math.max(most, cases.bytes);
      await new Promise((resolve) => setTimeout(resolve, id.length % 2));
      if (id === broken) throw new Error(`${id} is damaged`);
      return made(id);
    },
    store,
    budget,
    nextUse: (id, step) => batches.nextUse(id, step),
    foreground: true,
  });
  const made_ = [];
  let error: unknown;
  for (let step = from; step < config.steps && error === undefined; step++) {
    const batch = await batches.at(step, cases).catch((thrown: unknown) => void (error = thrown));
    if (batch) made_.push(batch);
  }
  await batches.close();
  return { batches: made_, reads, most: Math.max(most, cases.bytes), error, count: cases.count };
}

/** Two bytes a voxel, the list of values, the label, and the voxels to centre on. */
const unlabeledBytes = 2 * voxels + 4 * 300;
const labeledBytes = unlabeledBytes + voxels + 4 * Math.ceil(voxels / 11);
const everything = 3 * labeledBytes + 9 * unlabeledBytes;
const whole = await run(everything);

test("with room for all, every case is read once", () => {
  assert.equal([...whole.reads].sort(), [...split.labeled, ...split.unlabeled]);
  assert.ok(whole.most > 0.98 * everything && whole.most <= everything, `${whole.most} of ${everything}`);
  assert.is(whole.count, 12);
});

for (const [name, budget] of [
  ["none", 0],
  ["a third of them", everything / 3],
  ["all but one byte", everything * 0.98 - 1],
] as const)
  test(`the batches are the same with room for ${name}`, async () => {
    const bounded = await run(budget);
    assert.equal(bounded.batches, whole.batches);
    assert.ok(bounded.most <= budget, `${bounded.most} bytes held, ${budget} allowed`);
    assert.ok(bounded.reads.length > whole.reads.length);
  });

test("a run that begins in the middle gets the same batches", async () => {
  const later = await run(everything / 3, { from: 7 });
  assert.equal(later.batches, whole.batches.slice(7));
});

test("labelled cases, which every step needs, stay; a case is read once a step at most", async () => {
  const { reads } = await run(3 * labeledBytes + 2 * unlabeledBytes);
  assert.is(reads.filter((id) => id.startsWith("l")).length, 3);
  const none = await run(0);
  // Four patches of three cases: at least one of them is drawn twice.
  const drawn = whole.batches.map(({ image }) => new Set([0, 1, 2, 3].map((i) => caseOf(image, i))).size);
  const distinct = drawn.reduce((total, count) => total + count, 0);
  assert.is(none.reads.filter((id) => id.startsWith("l")).length, distinct);
});

test("what is needed last goes first, which reads less than dropping what was used last", async () => {
  const room = 4;
  const { reads } = await run(3 * labeledBytes + room * unlabeledBytes);
  const order = whole.batches.map(({ image }) => [4, 5, 6].map((i) => caseOf(image, i)));
  let recent: number[] = [];
  let misses = 0;
  for (const each of order.flat()) {
    if (!recent.includes(each)) misses++;
    recent = [each, ...recent.filter((other) => other !== each)].slice(0, room);
  }
  const found = reads.filter((id) => id.startsWith("u")).length;
  assert.ok(found < 0.85 * misses, `${found} reads, ${misses} without looking ahead`);
});

test("a case that cannot be read is an error of the step that needs it", async () => {
  const first = whole.batches.findIndex(({ image }) => [4, 5, 6].some((i) => caseOf(image, i) === 7));
  const { batches, error } = await run(0, { broken: "u7" });
  assert.is((error as Error).message, "u7 is damaged");
  assert.equal(batches, whole.batches.slice(0, first));
});

/** Stands for the files of every case. */
const anyFile = join(temporaryFolder(), "scan");
writeFileSync(anyFile, "");
const openStore = (folder: string) => CaseStore.open(folder, config, (id): Case => ({ id, image: anyFile }));

for (const [name, budget] of [
  ["none", 0],
  ["a third of them", everything / 3],
] as const)
  test(`with a store and room for ${name} a case is decoded once, and never by the next run`, async () => {
    const store = await openStore(temporaryFolder());
    const first = await run(budget, { store });
    assert.equal(first.batches, whole.batches);
    assert.equal([...first.reads].sort(), [...whole.reads].sort());
    const second = await run(budget, { store });
    assert.equal(second.batches, whole.batches);
    assert.ok(second.most <= budget && second.count === first.count, `${second.most} bytes held`);
    // What stayed in memory until the end was not stored.
    assert.is(second.reads.length, first.count);
  });

test("a case is decoded again once its file has changed", async () => {
  const store = await openStore(temporaryFolder());
  await run(0, { store });
  utimesSync(anyFile, 1, 1);
  const again = await run(0, { store });
  assert.equal(again.batches, whole.batches);
  assert.is(again.reads.length, 12);
});

test("two that ask for a case at once share one reading", async () => {
  let reads = 0;
  const cases = new CaseCache({
    load: (id) => {
      reads++;
      return Promise.resolve(made(id));
    },
    budget: 0,
    nextUse: () => 0,
    foreground: false,
  });
  const [first, second] = await Promise.all([cases.whole("u1", 0), cases.get("u1", 0)]);
  assert.is(first, second);
  assert.is(reads, 1);
  assert.equal(floatImage(first.image), made("u1").image);
});

test.run();
