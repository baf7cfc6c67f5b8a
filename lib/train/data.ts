import { type Case, loadCase } from "../data/dataset.ts";
import { grouping, groupsOf } from "../data/groups.ts";
import { orientationOf, rearrange, type Rearrangement, rearrangementTo } from "../data/orientation.ts";
import { preprocess } from "../data/preprocess.ts";
import type { SampledVolume } from "../data/sampler.ts";
import type { Volume } from "../data/volume.ts";
import { UsageError } from "../errors.ts";
import type { Config } from "./config.ts";

/** Which case plays which part, by id; a run keeps it as `split.json`. */
export interface Split {
  readonly labeled: readonly string[];
  readonly unlabeled: readonly string[];
  readonly validation: readonly string[];
}

/** A case in memory, its intensities and axes as the networks see them. */
export interface LoadedVolume extends SampledVolume {
  readonly id: string;
  readonly geometry: Volume["geometry"];
  /** Where the file has the voxels, and how its axes were put in another order. */
  readonly file: { readonly geometry: Volume["geometry"]; readonly rearranged: Rearrangement };
}

/**
 * Puts aside validation cases (the last of the labelled ones) and sorts the rest by whether they have a label.
 * With a setting `group` it puts aside whole groups; their unlabelled cases take no part.
 */
export function splitCases(cases: readonly Case[], config: Config): Split {
  const groupOf = grouping(config.group);
  const labeled = cases.filter(({ label }) => label !== undefined).map(({ id }) => id);
  const unlabeled = cases.filter(({ label }) => label === undefined).map(({ id }) => id);
  const groups = groupsOf(labeled, groupOf);
  const kept = groups.length - config.validationCases;
  if (kept < 1)
    throw new UsageError(
      `training needs at least one labelled ${config.group === null ? "case" : "group"}; there are ${groups.length}, ${config.validationCases} of them set aside for validation`,
    );
  const aside = new Set(groups.slice(kept));
  const trains = (id: string) => !aside.has(groupOf(id));
  return {
    labeled: labeled.filter(trains),
    unlabeled: unlabeled.filter(trains),
    validation: labeled.filter((id) => !trains(id)),
  };
}

/** Reads a case and prepares it; `onWarning` hears of image and label that lie in different places. */
export async function loadVolume(
  each: Case,
  config: Config,
  onWarning: (text: string) => void,
): Promise<LoadedVolume> {
  const { window, normalize, classes, labelMap, orientation } = config;
  const { id, image: stored, label, warnings } = await loadCase(each, classes, labelMap ?? undefined);
  for (const warning of warnings) onWarning(warning);
  const { affine } = stored.geometry;
  const rearranged = rearrangementTo(affine, orientation === "file" ? orientationOf(affine) : orientation);
  const prepared = preprocess(stored, { window: window ?? undefined, normalize }, stored.data);
  const { data: image, size, geometry } = rearrange(prepared, rearranged);
  // Image and label are paired by index, so what turns the one turns the other, whatever the label says of itself.
  const labels = label && rearrange({ ...stored, data: label.data }, rearranged);
  return { id, image, label: labels?.data, size, geometry, file: { geometry: stored.geometry, rearranged } };
}
