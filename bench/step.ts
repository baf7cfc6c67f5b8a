/**
 * Times whole training steps of a recipe on random patches: both networks forward and back, all losses and updates.
 *
 *   node --import tsx bench/step.ts [--recipe sdnet] [--base 8] [--patch 32x48x32] [--classes 3] [--runs 20]
 *
 * VOXGRAD_THREADS sets the threads. Prints one JSON line: milliseconds (median, p10, p90), GFLOP/s, planned and resident memory.
 */
import { parseArgs } from "node:util";
import { parseSize } from "../lib/cli/options.ts";
import { openDevice } from "../lib/runtime/device.ts";
import { Random } from "../lib/random.ts";
import { makeConfig } from "../lib/train/config.ts";
import { recipeNamed } from "../lib/train/recipes/index.ts";
import { compileStep, makeLearners } from "../lib/train/step.ts";

const { values } = parseArgs({
  options: {
    recipe: { type: "string", default: "sdnet" },
    base: { type: "string", default: "8" },
    patch: { type: "string", default: "32x48x32" },
    classes: { type: "string", default: "3" },
    runs: { type: "string", default: "20" },
  },
});

const device = openDevice();
const recipe = recipeNamed(values.recipe);
const patch = parseSize("--patch", values.patch);
const classes = Number(values.classes);
const config = makeConfig("recommended", {
  baseChannels: Number(values.base),
  patch,
  classes,
  flip: [],
  rotate: 0,
});
const plan = await compileStep(config, recipe, makeLearners(config), device);

const random = new Random(1);
const voxels = patch[0] * patch[1] * patch[2];
const count = config.labeledPerBatch + (recipe.unlabeled ? config.unlabeledPerBatch : 0);
const image = Float32Array.from({ length: count * voxels }, () => random.normal());
const labels = Uint8Array.from({ length: config.labeledPerBatch * voxels }, () => random.below(classes));
const feed = { image, labels, learningRate: 0.01, unsupervisedWeight: 0.1 };

const times: number[] = [];
const warmUp = 3;
for (let step = 0; step < warmUp + Number(values.runs); step++) {
  const began = performance.now();
  await plan.run({ ...feed, key: Int32Array.of(0, step) });
  if (step >= warmUp) times.push(performance.now() - began);
}
times.sort((a, b) => a - b);
const at = (share: number) => Number(times[Math.round(share * (times.length - 1))].toFixed(1));
const result = {
  recipe: recipe.name,
  patch: values.patch,
  batch: count,
  baseChannels: config.baseChannels,
  threads: device.native.threads(),
  isa: device.native.isa(),
  median: at(0.5),
  p10: at(0.1),
  p90: at(0.9),
  gflops: Number((plan.flops / at(0.5) / 1e6).toFixed(0)),
  plannedMiB: Math.round(plan.peakBytes / 2 ** 20),
  residentMiB: Math.round(process.memoryUsage.rss() / 2 ** 20),
};
console.log(JSON.stringify(result));
