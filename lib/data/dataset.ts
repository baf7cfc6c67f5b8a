import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { counted, DataError, UsageError } from "../errors.ts";
import { Random } from "../random.ts";
import { checkOneFormat, endings, imageFiles, isSlice, type Stems } from "./files.ts";
import { type Grouping, grouping, groupsOf } from "./groups.ts";
import type { LabelMapping } from "./label_map.ts";
import { readHeader } from "./nifti.ts";
import { readImage, readLabels } from "./read.ts";
import type { Volume } from "./volume.ts";

/** One image on disk; `label` is absent for an unlabelled case. */
export interface Case {
  id: string;
  image: string;
  label?: string;
}

/** Cases sorted by id; `test` comes from imagesTs/labelsTs and is empty without them. */
export interface Dataset {
  dir: string;
  cases: Case[];
  test: Case[];
}

const layouts =
  "images/ with labels/, or imagesTr/ with labelsTr/ (nnU-Net, Decathlon), and optionally imagesTs/ with labelsTs/; " +
  "a label has the name of its image (all .nii or .nii.gz, or all .png slices), an image without a label is unlabelled";

/**
 * True when images are numbered with four digits and labels bear the same full names: then digits are no
 * channel.
 */
function numberedNames(images: Stems, labels: Stems): boolean {
  return [...images.keys()].some((stem) => /_\d{4}$/.test(stem) && labels.has(stem));
}

function pair(images: Stems, labels: Stems, numbered: boolean): Case[] {
  const cases = new Map<string, Case>();
  for (const [stem, image] of images) {
    const [, base, channel] = /^(.+)_(\d{4})$/.exec(stem) ?? [];
    let id = stem;
    if (channel !== undefined && !labels.has(stem) && (labels.has(base) || !numbered)) {
      if (channel !== "0000") {
        throw new DataError(
          image,
          `expected one channel per case (_0000), found channel _${channel}: several channels per case are not supported yet. ` +
            "If these are separate cases, number them without an underscore before four digits",
        );
      }
      id = base;
    }
    const other = cases.get(id);
    if (other) throw new DataError(image, `expected one image for case ${id}, found ${other.image} too`);
    const label = labels.get(id);
    cases.set(id, label === undefined ? { id, image } : { id, image, label });
  }
  for (const [stem, path] of labels) {
    if (!cases.has(stem)) throw new DataError(path, `expected an image for this label, found none`);
  }
  return [...cases.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
}

/**
 * Finds the cases of a folder laid out as `images/` + `labels/` or `imagesTr/` + `labelsTr/`, with optional
 * test cases in `imagesTs/` + `labelsTs/`. nnU-Net's channel suffix `_0000` is no part of a case's id.
 * Nothing but folder listings is read.
 *
 * Throws DataError when a folder is missing or empty, NIfTI and PNG are mixed, a label has no image, two files
 * claim one case, or a case has several channels.
 */
export async function openDataset(dir: string): Promise<Dataset> {
  let entries: Set<string>;
  try {
    entries = new Set(await readdir(dir));
  } catch (error) {
    throw new DataError(dir, `expected a data folder (${layouts}), found no readable folder`, {
      cause: error,
    });
  }
  const suffixes = ["", "Tr"].filter((suffix) => entries.has(`images${suffix}`));
  if (suffixes.length !== 1) {
    const found = suffixes.length === 2 ? "both images/ and imagesTr/" : [...entries].slice(0, 8).join(", ");
    throw new DataError(dir, `expected ${layouts}; found ${found || "an empty folder"}`);
  }
  const [suffix] = suffixes;
  if (!entries.has(`labels${suffix}`)) {
    throw new DataError(dir, `expected labels${suffix}/ beside images${suffix}/ (${layouts}), found none`);
  }
  const images = await imageFiles(join(dir, `images${suffix}`));
  if (images.size === 0) {
    throw new DataError(join(dir, `images${suffix}`), `expected ${endings}, found none in this folder`);
  }
  const labels = await imageFiles(join(dir, `labels${suffix}`));
  const numbered = numberedNames(images, labels);
  const testImages = entries.has("imagesTs")
    ? await imageFiles(join(dir, "imagesTs"))
    : new Map<string, string>();
  const testLabels = entries.has("labelsTs")
    ? await imageFiles(join(dir, "labelsTs"))
    : new Map<string, string>();
  checkOneFormat(
    dir,
    [images, labels, testImages, testLabels].flatMap((stems) => [...stems.values()]),
  );
  return {
    dir,
    cases: pair(images, labels, numbered),
    test: pair(testImages, testLabels, numbered || numberedNames(testImages, testLabels)),
  };
}

/** Throws DataError when a group (`group` as `grouping` takes it) has cases both to train on and to test. */
export function checkTestApart({ dir, cases, test }: Dataset, group: string | null): void {
  if (group === null) return;
  const groupOf = grouping(group);
  const training = new Map(cases.map(({ id }) => [groupOf(id), id]));
  for (const { id } of test) {
    const other = training.get(groupOf(id));
    if (other === undefined) continue;
    throw new DataError(
      dir,
      `"${groupOf(id)}" would be both trained on and tested: case "${other}" is to train on, case "${id}" lies in imagesTs/`,
    );
  }
}

interface Draw {
  /** Says in messages what is counted. */
  what: string;
  count: number;
  seed: number;
  stream: number;
  group: string | null;
}

/** `count` of the groups that have a label, drawn by `seed` and `stream`. */
function draw(
  cases: readonly Case[],
  { what, count, seed, stream, group }: Draw,
): { drawn: Set<string>; groupOf: Grouping } {
  const groupOf = grouping(group);
  const known = groupsOf(
    cases.filter(({ label }) => label !== undefined).map(({ id }) => id),
    groupOf,
  );
  if (!Number.isInteger(count) || count < 0 || count > known.length) {
    throw new UsageError(
      `${what} must be a whole number from 0 to ${known.length}, the labelled ${group === null ? "cases" : "groups"} at hand; found ${count}`,
    );
  }
  const order = new Random(seed, stream).permutation(known.length);
  return { drawn: new Set(Array.from(order.subarray(0, count), (i) => known[i])), groupOf };
}

/**
 * The same cases, in the same order, with the labels of only `keep` of them: the first of a permutation
 * seeded by `seed`, so a larger `keep` contains the smaller ones. With `group`, a pattern as `grouping` takes
 * it, groups are kept or hidden whole, and `keep` counts them. Throws UsageError when fewer are labelled.
 */
export function hideLabels(
  cases: readonly Case[],
  keep: number,
  seed: number,
  group: string | null = null,
): Case[] {
  const what = "the number of labels to keep";
  const { drawn, groupOf } = draw(cases, { what, count: keep, seed, stream: 1, group });
  return cases.map((c) => (drawn.has(groupOf(c.id)) ? c : { id: c.id, image: c.image }));
}

/**
 * Splits `count` labelled cases, chosen by `seed`, off as test cases. With `group`, a pattern as `grouping` takes
 * it, it counts groups, all of whose cases go the same way. Throws UsageError when fewer are labelled.
 */
export function holdOut(
  cases: readonly Case[],
  count: number,
  seed: number,
  group: string | null = null,
): { train: Case[]; test: Case[] } {
  const what = "the number of test cases to hold out";
  const { drawn, groupOf } = draw(cases, { what, count, seed, stream: 2, group });
  const held = (c: Case) => drawn.has(groupOf(c.id));
  return { train: cases.filter((c) => !held(c)), test: cases.filter(held) };
}

export interface LoadedCase {
  id: string;
  image: Volume<Float32Array>;
  label?: Volume<Uint8Array>;
  /** Differences between image and label that do not stop training, one sentence each. */
  warnings: string[];
}

/**
 * Reads a case's image and label; `classes` counts the background, `mapping` takes stored labels to classes. Throws DataError when either cannot be
 * read, the image holds values that are not finite, or the two differ in size or by more than 0.1 % in voxel
 * spacing. A label that claims another place or direction than its image is reported in `warnings`: voxels
 * are paired by index.
 */
export async function loadCase(
  { id, image: imagePath, label: labelPath }: Case,
  classes?: number,
  mapping?: LabelMapping,
): Promise<LoadedCase> {
  const image = await readImage(imagePath);
  const notFinite = image.data.reduce((sum, value) => sum + (Number.isFinite(value) ? 0 : 1), 0);
  if (notFinite > 0) {
    throw new DataError(
      imagePath,
      `expected finite intensities, found ${counted(notFinite, "voxel")} with NaN or infinity`,
    );
  }
  if (labelPath === undefined) return { id, image, warnings: [] };
  const label = await readLabels(labelPath, classes, mapping);
  checkPair(imagePath, image, labelPath, label);
  return { id, image, label, warnings: placementWarnings(id, image, label) };
}

/**
 * Looks at the headers of a case's NIfTI files; of PNG slices nothing is read. Throws DataError for what `loadCase` refuses and headers
 * show.
 */
export async function inspectCase({ image, label }: Case): Promise<void> {
  if (isSlice(image)) return;
  const header = await readHeader(image);
  if (label !== undefined) checkPair(image, header, label, await readHeader(label));
}

type Extent = Pick<Volume, "size" | "geometry">;

/** Throws DataError unless a label has the size and the spacing of its image. */
function checkPair(imagePath: string, image: Extent, labelPath: string, label: Extent): void {
  if (image.size.some((extent, axis) => extent !== label.size[axis])) {
    throw new DataError(
      labelPath,
      `expected the size of its image ${imagePath}, ${image.size.join(" x ")}; found ${label.size.join(" x ")}`,
    );
  }
  const wanted = image.geometry.spacing;
  const found = label.geometry.spacing;
  if (wanted.some((step, axis) => Math.abs(found[axis] - step) > 1e-3 * step)) {
    const mm = (spacing: readonly number[]) => spacing.map((step) => +step.toPrecision(6)).join(" x ");
    throw new DataError(
      labelPath,
      `expected the voxel spacing of its image ${imagePath}, ${mm(wanted)} mm; found ${mm(found)} mm`,
    );
  }
}

function placementWarnings(id: string, image: Volume, label: Volume<Uint8Array>): string[] {
  const a = image.geometry.affine;
  const b = label.geometry.affine;
  const direction = [0, 1, 2, 4, 5, 6, 8, 9, 10].reduce(
    (most, i) => Math.max(most, Math.abs(a[i] - b[i]) / image.geometry.spacing[i % 4]),
    0,
  );
  const shift = Math.hypot(a[3] - b[3], a[7] - b[7], a[11] - b[11]);
  const warnings: string[] = [];
  if (direction > 1e-2) {
    warnings.push(
      `case ${id}: the label's axes point elsewhere than the image's; voxels are paired by index`,
    );
  }
  if (shift > 0.1 * Math.min(...image.geometry.spacing)) {
    warnings.push(`case ${id}: the label's origin lies ${shift.toFixed(2)} mm from the image's`);
  }
  return warnings;
}
