import { dirname } from "node:path";
import { type Case, inverse, rearrange, type Triple, writeLabels } from "../data/index.ts";
import { makeFolder } from "../data/folder.ts";
import { writeLabelSlices } from "../data/nifti.ts";
import type { Predictor } from "../infer/predictor.ts";
import { predictSlices, predictVolume, type SlidingOptions } from "../infer/sliding.ts";
import type { Config } from "../train/config.ts";
import { loadVolume } from "../train/data.ts";
import { openSlices, type SlicedImage } from "../train/slices.ts";
import { clean, type Cleaning, cleanSlices } from "./postprocess.ts";
import { duration, Progress } from "./progress.ts";
import type { Writer } from "./style.ts";

/** One image to segment. */
export interface Job extends Case {
  /** Label map to write. */
  readonly out: string;
}

/** What all images of a command share. */
export interface Means {
  readonly predictor: Predictor;
  readonly config: Config;
  readonly sliding: SlidingOptions;
  readonly cleaning: Cleaning | undefined;
  readonly stdout: Writer;
  readonly warn: (text: string) => void;
}

/**
 * Segments an image and writes its label map: slice by slice from file to file where the image can be read so and nothing is removed
 * across slices, or else with the whole volume in memory. The voxels are the same.
 */
export async function predictOne(job: Job, label: string, means: Means): Promise<void> {
  const { config, cleaning, stdout } = means;
  const began = performance.now();
  let progress: Progress | undefined;
  const onProgress = (done: number, total: number) => {
    progress ??= new Progress(stdout, { total, label, unit: "window" });
    progress.update(done);
  };
  const watched = { ...means, sliding: { ...means.sliding, onProgress } };
  const sliced = cleaning?.within === "volume" ? undefined : await openSlices(job.image, config);
  await makeFolder(dirname(job.out));
  let done: { size: Triple; removed: string };
  try {
    done =
      sliced === undefined
        ? await predictWhole(job, label, watched)
        : await predictSliced(job, sliced, watched);
  } finally {
    progress?.done();
  }
  const seconds = duration((performance.now() - began) / 1000);
  progress?.log(`${label}  ${done.size.join(" x ")} voxels  ${seconds}  ${job.out}${done.removed}`);
}

async function predictSliced(
  job: Job,
  { slices, size, geometry, file }: SlicedImage,
  { predictor, sliding, cleaning }: Means,
): Promise<{ size: Triple; removed: string }> {
  const predicted = predictSlices(predictor, slices, size, sliding);
  const back = inverse(file.rearranged);
  const slice: Triple = [size[0], size[1], 1];
  const cleaner = cleaning && cleanSlices(predicted, slice, geometry.spacing, cleaning);
  async function* labels() {
    for await (const data of cleaner?.slices ?? predicted)
      yield rearrange({ size: slice, data, geometry }, back).data;
  }
  await writeLabelSlices(job.out, file, labels());
  return { size, removed: cleaner?.removed() ?? "" };
}

async function predictWhole(
  job: Job,
  label: string,
  { predictor, config, sliding, cleaning, stdout, warn }: Means,
): Promise<{ size: Triple; removed: string }> {
  const volume = await loadVolume({ id: job.id, image: job.image }, config, warn);
  const { image, size, geometry, file } = volume;
  const data = await predictVolume(predictor, image, size, sliding);
  const labels = { size, data, geometry };
  const removed = cleaning === undefined ? "" : await clean(labels, cleaning, label, stdout, sliding.signal);
  const placed = rearrange(labels, inverse(file.rearranged));
  await writeLabels(job.out, { ...placed, geometry: file.geometry });
  return { size, removed };
}
