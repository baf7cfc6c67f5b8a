/** What a running average of the weights, thresholds on its confidence, and views of each network's own do to a step. */
import { readFileSync } from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { decodeSafetensors } from "../../lib/interchange/safetensors.ts";
import type { Config } from "../../lib/train/config.ts";
import { loadRun } from "../../lib/train/load.ts";
import { checkRecipe, recipes } from "../../lib/train/recipes/index.ts";
import type { RunFolder } from "../../lib/train/run.ts";
import { device, stoppedRun, tinyCohort, tinyConfig, tinyRun } from "./fixtures.ts";

const data = await tinyCohort();
const settings = (more: Partial<Config>) => tinyConfig({ schedule: "constant", rampShare: 0, ...more });

function tensorsOf(run: RunFolder): ReadonlyMap<string, ArrayLike<number>> {
  const path = run.file("last.safetensors");
  const { tensors } = decodeSafetensors(readFileSync(path), path);
  return new Map([...tensors].map(([name, { data }]) => [name, data as ArrayLike<number>]));
}

test("the average follows weights and statistics by its decay, quickly at first", async () => {
  const after = [];
  for (const steps of [1, 2, 3]) {
    const config = settings({ teacherDecay: 0.6, steps, checkpointEvery: steps, networks: ["vnet"] });
    after.push(tensorsOf(await tinyRun(data, "supervised", config)));
  }
  // Step t finds what step t - 1 left: the average is a step behind.
  const decay = Math.min(2 / 3, 0.6);
  let moved = 0;
  for (const [name, average] of after[2]) {
    if (!name.startsWith("average.")) continue;
    const own = name.slice("average.".length);
    const [w1, w2] = [after[0].get(own), after[1].get(own)] as ArrayLike<number>[];
    const before = after[1].get(name) as ArrayLike<number>;
    const first = after[0].get(name) as ArrayLike<number>;
    for (let i = 0; i < average.length; i += 7) {
      assert.ok(Math.abs(before[i] - (0.5 * first[i] + 0.5 * w1[i])) <= 1e-6 * Math.max(1, Math.abs(w1[i])));
      assert.ok(
        Math.abs(average[i] - (decay * before[i] + (1 - decay) * w2[i])) <=
          1e-6 * Math.max(1, Math.abs(w2[i])),
      );
      if (average[i] !== w2[i]) moved++;
    }
  }
  assert.ok(moved > 100);
});

test("averages and the selector's memory survive stopping: the bits are those of an uninterrupted run", async () => {
  const config = settings({ teacherDecay: 0.9, selector: "average", jitter: 0.2, noise: 0.1, steps: 5 });
  const whole = tensorsOf(await tinyRun(data, "sdnet", config));
  const run = await stoppedRun(data, "sdnet", config, 2);
  const parts = tensorsOf(await tinyRun(data, "sdnet", config, { run, resume: true }));
  assert.ok((whole.get("recipe.dice0") as ArrayLike<number>)[0] > 0);
  assert.equal(parts, whole);
});

test("judged on held-back cases, the better network stays the better one until they are looked at again", async () => {
  const config = settings({ selector: "validation", validationCases: 1, checkpointEvery: 3, steps: 8 });
  const whole = await tinyRun(data, "sdnet", config);
  const lines = await whole.metrics();
  const judged = lines.filter((line) => "validationDice.vnet" in line);
  assert.equal(
    judged.map(({ step }) => step),
    [3, 6, 8],
  );
  const dice = (network: string) => judged.map((line) => line[`validationDice.${network}`]);
  const better = dice("vnet").map((own, index) => (own > dice("resvnet")[index] ? 1 : 0));
  const teaches = lines.flatMap((line) => line.firstIsBetter ?? []);
  assert.equal(teaches.slice(3), [better[0], better[0], better[0], better[1], better[1]]);
  const kept = tensorsOf(whole).get("recipe.dice0") as ArrayLike<number>;
  assert.ok(Math.abs(kept[0] - (1 - dice("vnet")[2])) < 1e-6);

  const run = await stoppedRun(data, "sdnet", config, 4);
  assert.equal(tensorsOf(await tinyRun(data, "sdnet", config, { run, resume: true })), tensorsOf(whole));
});

test("judging on held-back cases needs some", () => {
  assert.throws(
    () => checkRecipe(recipes.sdnet, settings({ selector: "validation" })),
    /set validationCases/,
  );
});

test("the average can be loaded in place of the weights, where a run has kept one", async () => {
  const run = await tinyRun(data, "supervised", settings({ teacherDecay: 0.9, steps: 3 }));
  const loaded = await loadRun(run, device, "average");
  loaded.dispose();
  const plain = await tinyRun(data, "supervised", settings({ steps: 1 }));
  try {
    await loadRun(plain, device, "average");
    assert.unreachable();
  } catch (error) {
    assert.match((error as Error).message, /no running average .* teacherDecay/);
  }
});

for (const recipe of ["sdnet", "cps"])
  test(`${recipe}: nothing is learnt from pseudo-labels below the threshold`, async () => {
    const lessons = async (confidence: number) => {
      const config = settings({ confidence, steps: 1, cutMixBoxes: 0, unsupervisedWeight: 1 });
      const [line] = await (await tinyRun(data, recipe, config)).metrics();
      return Object.entries(line).flatMap(([name, value]) => (name.startsWith("unsupervised.") ? value : []));
    };
    const [none, few, all] = [await lessons(1), await lessons(0.7), await lessons(0)];
    assert.ok(none.every((value) => value === 0));
    assert.ok(all.some((value) => value > 0));
    assert.not.equal(few, all);
  });

test("networks of one kind and weight see views of their own; without jitter and noise the same", async () => {
  const losses = async (more: Partial<Config>) => {
    const [line] = await (await tinyRun(data, "supervised", settings({ steps: 1, ...more }))).metrics();
    return [line["loss.vnet"], line["loss.resvnet"]];
  };
  const plain = await losses({});
  for (const more of [{ jitter: 0.5 }, { noise: 0.5 }]) {
    const changed = await losses(more);
    assert.ok(changed.every((value, index) => Math.abs(value - plain[index]) > 1e-4));
  }
});

test.run();
