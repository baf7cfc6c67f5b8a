import { existsSync, statSync } from "node:fs";
import { type Geometry, type LabelMapping, readLabels, type Triple, type Volume } from "../data/index.ts";
import { classesOf } from "../data/label_map.ts";
import { stemOf } from "../data/files.ts";
import { DataError, UsageError } from "../errors.ts";
import { volumesIn } from "./options.ts";
import type { Progress } from "./progress.ts";

/** A reference and its prediction, by path. */
export interface Pair {
  readonly name: string;
  readonly ref: string;
  readonly pred: string;
}

/** References with their predictions, and predictions that have no reference. */
export async function findPairs(ref: string, pred: string): Promise<{ pairs: Pair[]; ignored: string[] }> {
  for (const path of [ref, pred])
    if (!existsSync(path))
      throw new DataError(path, "expected a label map or a folder of them, found nothing");
  const [refIsFolder, predIsFolder] = [ref, pred].map((path) => statSync(path).isDirectory());
  if (refIsFolder !== predIsFolder) throw new UsageError("--ref and --pred must be two files or two folders");
  if (!refIsFolder) return { pairs: [{ name: stemOf(ref), ref, pred }], ignored: [] };
  const [refs, preds] = await Promise.all([volumesIn(ref), volumesIn(pred)]);
  const missing = [...refs.keys()].filter((name) => !preds.has(name));
  if (missing.length > 0)
    throw new DataError(
      pred,
      `expected a prediction for each of ${refs.size} references, found none for ${missing.join(", ")}`,
    );
  const pairs = [...refs].map(([name, path]) => ({ name, ref: path, pred: preds.get(name) as string }));
  return { pairs, ignored: [...preds.keys()].filter((name) => !refs.has(name)) };
}

/**
 * Classes by the largest label of all maps, and what `mapping` makes of the references. Where nothing but 0, 1 and 255
 * occurs, they are masks of one class.
 */
export async function countClasses(
  pairs: readonly Pair[],
  progress: Progress,
  mapping?: LabelMapping,
): Promise<{ classes: number; masks: boolean }> {
  const found = new Set<number>(mapping && [classesOf(mapping) - 1]);
  for (const [index, { ref, pred }] of pairs.entries()) {
    for (const path of mapping === undefined ? [ref, pred] : [pred]) {
      const labels = labelsOf((await readLabels(path)).data);
      for (const label of labels) found.add(label);
    }
    progress.update(index + 1);
  }
  const largest = Math.max(...found);
  if (largest < 255) return { classes: Math.max(2, largest + 1), masks: false };
  const others = [...found].filter((label) => label > 1 && label < 255);
  if (others.length === 0) return { classes: 2, masks: true };
  throw new UsageError(
    `the label maps hold 255 beside ${others.slice(0, 8).join(", ")}: say with --classes N which labels are classes`,
  );
}

function labelsOf(data: Uint8Array): number[] {
  const seen = new Uint8Array(256);
  for (const label of data) seen[label] = 1;
  return [...seen.keys()].filter((label) => seen[label] === 1);
}

/** Two label maps of one size, [z, y, x]. */
export interface Maps {
  ref: Uint8Array;
  pred: Uint8Array;
  size: Triple;
  /** In mm. */
  spacing: Triple;
}

/**
 * Reads a pair, the reference through `mapping`; throws DataError when the sizes differ, and warns when the files claim
 * different places.
 */
export async function readPair(
  { name, ref, pred }: Pair,
  { classes, masks }: { classes: number; masks: boolean },
  warn: (text: string) => void,
  mapping?: LabelMapping,
): Promise<Maps> {
  const reference =
    mapping === undefined ? await readMap(ref, classes, masks) : await readLabels(ref, classes, mapping);
  const prediction = await readMap(pred, classes, masks);
  if (reference.size.some((extent, axis) => extent !== prediction.size[axis]))
    throw new DataError(
      pred,
      `expected the size of its reference ${ref}, ${reference.size.join(" x ")}; found ${prediction.size.join(" x ")}`,
    );
  const affine = prediction.geometry.affine;
  const apart = reference.geometry.affine.some((value, i) => Math.abs(value - affine[i]) > 0.01);
  if (apart)
    warn(`${name}: the files say that the two maps lie in different places; voxels are paired by index`);
  return {
    ref: reference.data,
    pred: prediction.data,
    size: reference.size,
    spacing: spacingOf(reference.geometry),
  };
}

/**
 * The header's own spacing where the affine agrees with it: what the affine says has been rounded, and a distance of just
 * the tolerance may no longer be within it.
 */
function spacingOf({ spacing, nifti }: Geometry): Triple {
  const [, x, y, z] = (nifti?.pixdim ?? []).map(Math.abs);
  const agrees = [x, y, z].every((step, axis) => Math.abs(step - spacing[axis]) <= 1e-4 * spacing[axis]);
  return agrees ? [x, y, z] : spacing;
}

/** A label map whose labels are below `classes`; a mask of 0 and one other value may stand for 0 and 1. */
async function readMap(path: string, classes: number, masks: boolean): Promise<Volume<Uint8Array>> {
  if (!masks) return readLabels(path, classes);
  const volume = await readLabels(path);
  const labels = labelsOf(volume.data);
  if (labels.every((label) => label < 2)) return volume;
  if (labels.length > 2 || (labels.length === 2 && labels[0] !== 0))
    throw new DataError(path, `expected a mask of 0 and one other value, found labels ${labels.join(", ")}`);
  return { ...volume, data: volume.data.map((label) => (label === 0 ? 0 : 1)) };
}
