import { existsSync, statSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { type Case, openDataset, type Triple } from "../../data/index.ts";
import { stemOf } from "../../data/files.ts";
import { counted, DataError, UsageError, VoxgradError } from "../../errors.ts";
import { Predictor } from "../../infer/predictor.ts";
import type { SlidingOptions } from "../../infer/sliding.ts";
import type { Network } from "../../models/index.ts";
import { type Device, openDevice } from "../../runtime/device.ts";
import type { Config } from "../../train/config.ts";
import { loadVolume, type LoadedVolume } from "../../train/data.ts";
import { type LoadedRun, loadRun } from "../../train/load.ts";
import { reestimateFromPatches } from "../../train/reestimate.ts";
import { RunFolder } from "../../train/run.ts";
import { type Arguments, type Context, defineCommand } from "../arguments.ts";
import { chooseNetworks } from "../networks.ts";
import { atLeast, deviceLine, deviceOption, parseSize, precisionOption, volumesIn } from "../options.ts";
import { type Cleaning, parseClassBias, parseCleaning, postprocessOptions } from "../postprocess.ts";
import { type Job, type Means, predictOne } from "../predict_case.ts";
import { Progress } from "../progress.ts";
import { STOPPED } from "../run.ts";
import { paint } from "../style.ts";
import { formatBytes } from "../table.ts";

const options = {
  run: { type: "string", placeholder: "RUN", help: "folder of a training run" },
  checkpoint: {
    type: "string",
    placeholder: "FILE",
    help: "a checkpoint of a run instead, beside the run's config.json",
  },
  input: {
    type: "string",
    short: "i",
    placeholder: "FILE|DIR",
    help: "a NIfTI image or grey PNG, or a folder of them",
    required: true,
  },
  out: {
    type: "string",
    short: "o",
    placeholder: "FILE|DIR",
    help: "label map to write (.nii or .nii.gz), or a folder for them",
    required: true,
  },
  weights: {
    type: "string",
    choices: ["last", "best", "average"],
    default: "last",
    help: "which checkpoint of --run, or its running average (setting teacherDecay)",
  },
  network: {
    type: "string",
    placeholder: "NAME",
    default: "all",
    help: "all averages the probabilities of the run's networks; vnet or resvnet takes one alone",
  },
  patch: { type: "string", placeholder: "XxYxZ|whole", help: "window; default the patch of the training" },
  overlap: { type: "number", default: 0.5, help: "share of a window that its neighbour covers again" },
  blend: {
    type: "string",
    choices: ["gaussian", "uniform"],
    default: "gaussian",
    help: "weight of a voxel within its window",
  },
  ...postprocessOptions,
  "reestimate-norm": {
    type: "integer",
    help: "first estimate the batch-norm statistics again, from N batches of four random patches",
  },
  "reestimate-from": {
    type: "string",
    placeholder: "input|unlabeled|DIR",
    help: "images for that: those to predict, the run's own unlabelled ones, or a folder; default input",
  },
  precision: {
    ...precisionOption,
    help: "of convolutions: f32, tf32 or bf16; default that of the run, where the device has it",
  },
  device: deviceOption,
} as const;

type Given = Arguments<typeof options, []>["options"];

export const predict = defineCommand({
  name: "predict",
  summary: "Segment scans with the networks of a run.",
  usage: "--run RUN --input FILE|DIR --out FILE|DIR [options]",
  options,
  positionals: [],
  notes: [
    "Label maps have the size, place and direction of their image. A file that cannot be segmented does not stop the others; the command then ends with status 1 and lists it.",
    "Components are removed after the class of every voxel is decided, in the voxels of the image; a slice is one along its third axis, or z of the run's setting orientation. Biases that begin with a minus follow an equals sign: --class-bias=-0.1,0.6.",
  ],
  examples: [
    "voxgrad predict --run runs/sdnet --input scan.nii.gz --out organs.nii.gz",
    "voxgrad predict --run runs/sdnet --input scans/imagesTs --out predictions --weights best",
    "voxgrad predict --run runs/sdnet --input scans/imagesTs --out predictions --network vnet --overlap 0.75",
    "voxgrad predict --run runs/sdnet --input scan.nii.gz --out organs.nii.gz --class-bias 0.6 --min-component 50",
    "voxgrad predict --run runs/supervised --input scans/imagesTs --out adapted --reestimate-norm 50 --reestimate-from unlabeled",
  ],
  async run({ options: given }, context) {
    const { run, checkpoint } = given;
    if ((run === undefined) === (checkpoint === undefined))
      throw new UsageError("exactly one of --run RUN and --checkpoint FILE is needed");
    if (!(given.overlap >= 0 && given.overlap <= 0.95))
      throw new UsageError(`--overlap must lie between 0 and 0.95, found ${given.overlap}`);
    if (given.reestimateFrom !== undefined && given.reestimateNorm === undefined)
      throw new UsageError("--reestimate-from needs --reestimate-norm N");
    if (given.reestimateNorm !== undefined) atLeast("--reestimate-norm", given.reestimateNorm, 1);
    const cleaning = parseCleaning(given);
    const jobs = await findJobs(given);
    const folder = new RunFolder(run ?? dirname(checkpoint as string));
    const device = openDevice(given.device);
    const weights = checkpoint === undefined ? given.weights : { file: checkpoint };
    const loaded = await loadRun(folder, device, weights);
    try {
      return await predictAll(jobs, folder, loaded, device, given, cleaning, context);
    } finally {
      loaded.dispose();
    }
  },
});

async function findJobs({ input, out }: Given): Promise<Job[]> {
  if (!existsSync(input))
    throw new DataError(input, "expected a NIfTI or PNG file, or a folder of them, found nothing");
  if (statSync(input).isDirectory()) return folderJobs(input, out);
  const isFile = /\.nii(\.gz)?$/.test(out) && !(existsSync(out) && statSync(out).isDirectory());
  if (!isFile && /\.(nrrd|nhdr|mha|mhd|hdr|img|mgz|png|dcm|gz)$/i.test(out))
    throw new UsageError(
      `--out must be a file whose name ends in .nii or .nii.gz, or a folder; found ${out}`,
    );
  const id = stemOf(input);
  const target = isFile ? out : join(out, `${id}.nii.gz`);
  if (resolve(target) === resolve(input))
    throw new UsageError(`--out ${target} would overwrite the image: choose another name`);
  return [{ id, image: input, out: target }];
}

/** Every image of a folder; nnU-Net's channel suffix `_0000` is left off where all of them bear it. */
async function folderJobs(input: string, out: string): Promise<Job[]> {
  if (resolve(input) === resolve(out))
    throw new UsageError("--out is the folder of the images: choose another one, or they are overwritten");
  if (/\.nii(\.gz)?$/.test(out) || (existsSync(out) && !statSync(out).isDirectory()))
    throw new UsageError(`--input is a folder, so --out must be one too; found ${out}`);
  const files = [...(await volumesIn(input))];
  const suffixed = files.every(([stem]) => /._0000$/.test(stem));
  return files.map(([stem, image]) => {
    const id = suffixed ? stem.slice(0, -"_0000".length) : stem;
    return { id, image, out: join(out, `${id}.nii.gz`) };
  });
}

async function predictAll(
  jobs: readonly Job[],
  folder: RunFolder,
  run: LoadedRun,
  device: Device,
  given: Given,
  cleaning: Cleaning | undefined,
  context: Context,
): Promise<number> {
  const { stdout, stderr, signal } = context;
  const networks = chooseNetworks(run.networks, given.network);
  const log = new Progress(context.stdout, { total: jobs.length, label: "predict" });
  const own = device.precisions.includes(run.config.precision) ? run.config.precision : "f32";
  const precision = given.precision ?? own;
  const predictor = new Predictor(networks, device, {
    precision,
    onPlan: ({ flops, peakBytes }) =>
      log.log(
        `plan      ${(flops / 1e9).toPrecision(3)} GFLOP a window, peak memory ${formatBytes(peakBytes)}`,
      ),
  });
  const patch = choosePatch(given.patch, run.config, predictor.divisor);
  const classBias =
    given.classBias === undefined ? undefined : parseClassBias(given.classBias, predictor.classes);
  const sliding: SlidingOptions = { patch, overlap: given.overlap, blend: given.blend, classBias, signal };
  const warn = (text: string) => log.log(`${paint(stdout, "yellow", "warning:")} ${text}`);
  log.log(deviceLine(device, precision));
  log.log(`networks  ${networks.map(({ path }) => path).join(" and ")} after ${counted(run.step, "step")}`);
  if (classBias !== undefined)
    log.log(`bias      ${classBias.join(", ")} added to the log probabilities of the classes`);
  if (cleaning !== undefined) log.log(`cleaning  ${cleaning.description}`);
  const failed: string[] = [];
  const means: Means = { predictor, config: run.config, sliding, cleaning, stdout, warn };
  try {
    if (given.reestimateNorm !== undefined) {
      const images = await reestimationImages(given.reestimateFrom ?? "input", jobs, folder, run);
      const used = await reestimate(networks, device, run.config, images, given.reestimateNorm, warn);
      log.log(
        `norm      statistics estimated again from ${counted(used, "image")}, ${counted(given.reestimateNorm, "batch")}`,
      );
    }
    for (const [index, job] of jobs.entries()) {
      if (signal.aborted) break;
      const label = jobs.length === 1 ? job.id : `${job.id} (${index + 1} of ${jobs.length})`;
      try {
        await predictOne(job, label, means);
      } catch (error) {
        if (signal.aborted && error === signal.reason) break;
        if (!(error instanceof VoxgradError)) throw error;
        failed.push(job.image);
        stderr.write(`${paint(stderr, "red", "failed:")} ${error.message} [${error.code}]\n`);
      }
    }
  } finally {
    await predictor.dispose();
  }
  if (signal.aborted) {
    log.log("stopped   the label maps above are complete, the others are not written");
    return STOPPED;
  }
  if (failed.length === 0) return 0;
  stderr.write(`${failed.length} of ${jobs.length} failed: ${failed.join(", ")}\n`);
  return 1;
}

function choosePatch(text: string | undefined, config: Config, divisor: Triple): Triple | "whole" {
  if (text === undefined) return config.patch;
  if (text === "whole") return text;
  const patch = parseSize("--patch", text);
  if (patch.some((extent, axis) => extent % divisor[axis] !== 0))
    throw new UsageError(`--patch: extents must be multiples of ${divisor.join("x")}, found ${text}`);
  return patch;
}

async function reestimationImages(
  from: string,
  jobs: readonly Job[],
  folder: RunFolder,
  run: LoadedRun,
): Promise<readonly Case[]> {
  if (from === "input") return jobs.map(({ id, image }) => ({ id, image }));
  if (from !== "unlabeled") return [...(await volumesIn(from))].map(([id, image]) => ({ id, image }));
  const unlabeled = new Set((await folder.split()).unlabeled);
  if (unlabeled.size === 0)
    throw new DataError(
      folder.file("split.json"),
      "expected unlabelled cases for --reestimate-from, found none",
    );
  const { cases } = await openDataset(run.data);
  return cases.flatMap(({ id, image }) => (unlabeled.has(id) ? [{ id, image }] : []));
}

/** Estimates from at most as many images as patches are drawn, evenly spaced; returns how many. */
async function reestimate(
  networks: readonly Network[],
  device: Device,
  config: Config,
  images: readonly Case[],
  batches: number,
  warn: (text: string) => void,
): Promise<number> {
  const count = Math.min(images.length, 4 * batches);
  const volumes: LoadedVolume[] = [];
  for (let index = 0; index < count; index++)
    volumes.push(await loadVolume(images[Math.floor((index * images.length) / count)], config, warn));
  await reestimateFromPatches(networks, device, config, volumes, batches);
  return count;
}
