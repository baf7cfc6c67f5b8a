/**
 * Cross pseudo supervision against its controls on real slices: Sunnybrook cardiac MR (images/ and labels/ in --data), 30 patients,
 * halved to 128x128.
 *
 *   node --import tsx bench/evidence/cardiac.ts --data DIR --out DIR [--labels 3] [--seeds 3] [--steps 800] [--jobs 2]
 *   ... --pool [--variant "cps teacherDecay=0.99"]...     settings, judged on pool patients only
 *
 * Finished trainings are kept, so the command can be repeated. Tables go to standard output.
 */
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { openDataset } from "../../lib/data/dataset.ts";
import { writeImage, writeLabels } from "../../lib/data/nifti.ts";
import { readImage, readLabels } from "../../lib/data/read.ts";
import { screenGeometry, type Triple } from "../../lib/data/volume.ts";
import { Random } from "../../lib/random.ts";
import { compareVariants, type Job, parseVariant, runChildJob, type Study, table, wordsOf } from "./study.ts";

const { values: options } = parseArgs({
  options: {
    data: { type: "string" },
    out: { type: "string" },
    jobs: { type: "string", default: "2" },
    seeds: { type: "string", default: "3" },
    steps: { type: "string", default: "800" },
    labels: { type: "string", default: "3" },
    channels: { type: "string", default: "8" },
    rate: { type: "string", default: "0.02" },
    pool: { type: "boolean", default: false },
    variant: { type: "string", multiple: true, default: [] },
    job: { type: "string" },
  },
});
if (options.data === undefined || options.out === undefined) throw new Error("--data and --out are needed");
const { data, out, steps, channels, rate } = options as typeof options & { data: string; out: string };

const patients = "^(.+)-IM-";
const study: Study = {
  data: join(out, "slices"),
  out,
  group: patients,
  common: {
    networks: ["deeplabv3plus", "deeplabv3plus"],
    classes: 2,
    baseChannels: Number(channels),
    patch: [128, 128, 1],
    foreground: 0,
    flip: [],
    rotate: 15,
    labeledPerBatch: 4,
    unlabeledPerBatch: 4,
    learningRate: Number(rate),
    schedule: "warmUpPoly",
    decayVectors: false,
    steps: Number(steps),
    group: patients,
  },
};

/** Means of 2x2 pixels, and 1 where at least two of four are 1. */
async function halveSlices(): Promise<void> {
  if (existsSync(study.data)) return;
  const { cases } = await openDataset(data);
  for (const folder of ["images", "labels"]) mkdirSync(join(study.data, folder), { recursive: true });
  for (const { id, image, label } of cases) {
    const [picture, mask] = await Promise.all([readImage(image), readLabels(label as string, 2)]);
    const size: Triple = [picture.size[0] / 2, picture.size[1] / 2, 1];
    const geometry = screenGeometry(size, [2, 2, 1]);
    const means = quartered(picture.data, size).map((sum) => sum / 4);
    const majority = Uint8Array.from(quartered(mask.data, size), (sum) => (sum >= 2 ? 1 : 0));
    await writeImage(join(study.data, "images", `${id}.nii.gz`), { size, geometry, data: means });
    await writeLabels(join(study.data, "labels", `${id}.nii.gz`), { size, geometry, data: majority });
  }
}

function quartered(source: Float32Array | Uint8Array, [width, height]: Triple): Float32Array {
  const at = (x: number, y: number) => source[y * 2 * width + x];
  return Float32Array.from({ length: width * height }, (_, i) => {
    const [x, y] = [2 * (i % width), 2 * Math.floor(i / width)];
    return at(x, y) + at(x + 1, y) + at(x, y + 1) + at(x + 1, y + 1);
  });
}

const patientOf = (id: string) => (new RegExp(patients).exec(id) as RegExpExecArray)[1];

/** 8 test patients, the same for all; the other 22 in the order in which a seed labels them. */
function partsOf(ids: readonly string[], seed: number): { test: string[]; pool: string[] } {
  const names = [...new Set(ids.map(patientOf))].sort();
  const shuffled = (list: readonly string[], key: number) =>
    [...new Random(key).permutation(list.length)].map((index) => list[index]);
  const all = shuffled(names, 2026);
  return { test: all.slice(0, 8), pool: shuffled(all.slice(8), seed) };
}

function makeJob(ids: readonly string[], seed: number, count: number, variant: string): Job {
  const { recipe, settings } = parseVariant(variant);
  const { test, pool } = partsOf(ids, seed);
  // On the pool, patients that the seed labels last are judged and take no other part.
  const judged = options.pool ? pool.slice(-6) : test;
  const learning = pool.filter((patient) => !judged.includes(patient));
  const idsOf = (chosen: readonly string[]) => ids.filter((id) => chosen.includes(patientOf(id)));
  return {
    name: `${options.pool ? "pool" : "test"}-n${count}-s${seed}-${wordsOf(variant)}-${steps}-c${channels}-lr${rate}`,
    recipe,
    seed,
    settings,
    labeled: idsOf(learning.slice(0, count)),
    unlabeled: idsOf(learning.slice(count)),
    judged: idsOf(judged),
  };
}

const seeds = Array.from({ length: Number(options.seeds) }, (_, seed) => seed);

if (options.job !== undefined) await runChildJob(study, options.job);
else {
  await halveSlices();
  const ids = (await openDataset(study.data)).cases.map(({ id }) => id);
  const given = options.variant;
  const variants = given.length > 0 ? given : ["supervised", "cps unsupervisedWeight=0", "cps"];
  for (const count of options.labels.split(",").map(Number)) {
    const rows = await compareVariants({
      study,
      variants,
      seeds,
      makeJob: (seed, variant) => makeJob(ids, seed, count, variant),
      lanes: Number(options.jobs),
      childArguments: [
        "--data",
        data,
        "--out",
        out,
        "--steps",
        steps,
        "--channels",
        channels,
        "--rate",
        rate,
      ],
    });
    console.log(`N = ${count}\n\n${table(rows)}\n`);
  }
}
