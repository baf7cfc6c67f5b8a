import { writeAtomically } from "../data/atomic.ts";
import type { Case } from "../data/dataset.ts";
import { type Triple, voxelCount } from "../data/volume.ts";
import { Predictor } from "../infer/predictor.ts";
import { predictVolume } from "../infer/sliding.ts";
import { classBoxes, evaluateCase, summarize } from "../metrics/overlap.ts";
import type { Device } from "../runtime/device.ts";
import type { Config } from "../train/config.ts";
import { loadVolume, type LoadedVolume, type Split } from "../train/data.ts";
import { loadRun } from "../train/load.ts";
import type { RunFolder } from "../train/run.ts";
import { type Fact, type ReportCase, trainingReport } from "./html.ts";
import { sliceTriptych } from "./slices.ts";
import { trainingCharts } from "./training_charts.ts";

export interface RunReportOptions {
  readonly device: Device;
  /** The dataset's cases; a few of the run's own are drawn. */
  readonly cases: readonly Case[];
  /** Last line of the page. */
  readonly footer?: string;
  /** Hears of cases drawn so far. */
  readonly onProgress?: (done: number, total: number) => void;
}

/** Cases drawn per part that they play. */
const DRAWN = 2;

/**
 * Writes `report.html` into a run folder: curves of everything logged, every setting, and image, truth and
 * prediction of a few cases by the networks of the last checkpoint. Large volumes are drawn around their labelled
 * structures, one and a half patches wide (sixteen slices where these are flat), so that the time stays bounded. Throws `DataError` when the run or a
 * case cannot be read.
 */
export async function writeRunReport(run: RunFolder, options: RunReportOptions): Promise<void> {
  const { device, cases, footer, onProgress } = options;
  const [split, metrics, loaded] = await Promise.all([run.split(), run.metrics(), loadRun(run, device)]);
  const { recipe, config, data, preset } = loaded;
  const drawn = drawnCases(split, cases);
  const predictor = new Predictor(loaded.networks, device);
  const pictures: ReportCase[] = [];
  try {
    for (const [index, { part, ...each }] of drawn.entries()) {
      const { volume, start } = crop(await loadVolume(each, config, () => undefined), config.patch);
      const { image, size } = volume;
      const prediction = await predictVolume(predictor, image, size, { patch: config.patch, overlap: 0.25 });
      pictures.push(drawCase(volume, prediction, config, part, start));
      onProgress?.(index + 1, drawn.length);
    }
  } finally {
    await predictor.dispose();
    loaded.dispose();
  }
  const last = (name: string) => metrics.findLast((line) => name in line)?.[name];
  const facts: Fact[] = [
    { label: "steps", value: `${loaded.step} of ${config.steps}` },
    { label: "labelled cases", value: split.labeled.length },
    { label: "unlabelled cases", value: split.unlabeled.length },
    ...loaded.networks.flatMap(({ path }): Fact[] => {
      const loss = last(`dice.${path}`);
      return loss === undefined ? [] : [{ label: `last Dice loss, ${path}`, value: loss.toFixed(3) }];
    }),
  ];
  const validation = metrics.flatMap((line) => line.validationDice ?? []);
  if (validation.length > 0)
    facts.push({ label: "best validation Dice", value: Math.max(...validation).toFixed(4) });
  const html = trainingReport({
    title: `${recipe}: ${config.networks.join(" and ")}`,
    subtitle: `${data}, preset ${preset}`,
    facts,
    charts: trainingCharts([{ name: recipe, metrics }]),
    cases: pictures,
    classes: classNames(config.classes),
    config: { recipe, preset, data, config },
    footer,
  });
  await writeAtomically(run.file("report.html"), [Buffer.from(html)]);
}

/** Names of the foreground classes for a legend. */
export function classNames(classes: number): string[] {
  return Array.from({ length: classes - 1 }, (_, index) => `class ${index + 1}`);
}

/** Image, truth and prediction of one case, which begins at voxel `start` of its file; `part` says what the case was to the run. */
export function drawCase(
  { id, image, label, size, geometry }: LoadedVolume,
  prediction: Uint8Array,
  { classes }: Pick<Config, "classes">,
  part: string,
  start: Triple = [0, 0, 0],
): ReportCase {
  const { spacing, affine } = geometry;
  const pictures = sliceTriptych({ image, size, spacing, affine, truth: label, prediction });
  const facts: Fact[] = [{ label: "part", value: part }];
  if (label !== undefined) {
    const { dice } = summarize([evaluateCase(label, prediction, size, classes)]).whole.mean.perCase;
    facts.push({ label: "Dice", value: dice.toFixed(4) });
  }
  return { name: id, pictures: { ...pictures, slice: start[pictures.axis] + pictures.slice }, facts };
}

function drawnCases(split: Split, cases: readonly Case[]): (Case & { part: string })[] {
  const byId = new Map(cases.map((each) => [each.id, each]));
  const take = (ids: readonly string[], part: string) =>
    ids.slice(0, DRAWN).flatMap((id) => {
      const each = byId.get(id);
      return each === undefined ? [] : [{ ...each, part }];
    });
  return [
    ...take(split.validation, "validation"),
    ...take(split.labeled, "training, labelled"),
    ...take(split.unlabeled, "training, unlabelled"),
  ];
}

/** Slices that are drawn from where patches are flat. */
const FLAT = 16;

/** At most one and a half patches along each axis, around what is labelled, else around the middle. */
function crop(volume: LoadedVolume, patch: Triple): { volume: LoadedVolume; start: Triple } {
  const { size, image, label } = volume;
  const boxes = label === undefined ? [] : classBoxes(label, size, 256).slice(1);
  const found = boxes.filter((box) => box !== undefined);
  const axes = [0, 1, 2].map((axis) => {
    const extent = Math.min(size[axis], patch[axis] === 1 ? FLAT : Math.ceil(1.5 * patch[axis]));
    const low = found.length > 0 ? Math.min(...found.map(({ from }) => from[axis])) : 0;
    const high = found.length > 0 ? Math.max(...found.map(({ to }) => to[axis])) : size[axis];
    const start = Math.round((low + high - extent) / 2);
    return { start: Math.max(0, Math.min(size[axis] - extent, start)), extent };
  });
  const to: Triple = [axes[0].extent, axes[1].extent, axes[2].extent];
  const cut = <T extends Float32Array | Uint8Array>(source: T, target: T): T => {
    for (let z = 0; z < to[2]; z++) {
      for (let y = 0; y < to[1]; y++) {
        const row = ((z + axes[2].start) * size[1] + y + axes[1].start) * size[0] + axes[0].start;
        target.set(source.subarray(row, row + to[0]), (z * to[1] + y) * to[0]);
      }
    }
    return target;
  };
  const cropped = {
    ...volume,
    size: to,
    image: cut(image, new Float32Array(voxelCount(to))),
    label: label && cut(label, new Uint8Array(voxelCount(to))),
  };
  return { volume: cropped, start: [axes[0].start, axes[1].start, axes[2].start] };
}
