import { type Case, loadCase } from "../data/dataset.ts";
import { grouping, groupsOf } from "../data/groups.ts";
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

/** A case in memory, its intensities as the networks see them. */
export interface LoadedVolume extends SampledVolume {
  readonly id: string;
  readonly geometry: Volume["geometry"];
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
  const { id, image, label, warnings } = await loadCase(each, config.classes);
  for (const warning of warnings) onWarning(warning);
  const prepared = preprocess(image, { window: config.window ?? undefined, normalize: config.normalize });
  return { id, image: prepared.data, label: label?.data, size: image.size, geometry: image.geometry };
}
