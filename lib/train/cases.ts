import { inspectCase } from "../data/dataset.ts";
import { DataError } from "../errors.ts";
import { hostMemory } from "../runtime/device.ts";
import type { Batches } from "./batches.ts";
import { CaseCache } from "./case_cache.ts";
import { CaseStore } from "./case_store.ts";
import { loadVolume } from "./data.ts";
import type { TrainOptions } from "./trainer.ts";

/**
 * The cases that a run needs, as many of them decoded as the setting `cacheGB` allows, those that are needed first. Where all
 * fit, or the setting `cacheFolder` has room for the others, every file is thereby checked before the first step; else headers are.
 */
export async function openCases(
  { cases, split, config, recipe, listener }: TrainOptions,
  batches: Batches,
): Promise<CaseCache> {
  const unlabeled = recipe.unlabeled || config.reestimateBatches > 0 ? split.unlabeled : [];
  const needed = new Set([...split.labeled, ...split.validation, ...unlabeled]);
  const known = new Map(cases.map((each) => [each.id, each]));
  const find = (id: string) => {
    const found = known.get(id);
    if (found !== undefined) return found;
    throw new DataError(id, "the run's split names this case and the dataset does not hold it");
  };
  needed.forEach(find);

  const validation = new Set(split.validation);
  const every = config.checkpointEvery;
  const nextValidation = (step: number) => Math.ceil((step + 1) / every) * every - 1;
  const nextUse = (id: string, step: number) =>
    Math.min(batches.nextUse(id, step), validation.has(id) ? nextValidation(step) : Infinity);
  const folder = config.cacheFolder;
  const store = folder === null ? undefined : await CaseStore.open(folder, config, find);
  const warned = new Set<string>();
  const cache = new CaseCache({
    store,
    load: (id) =>
      loadVolume(find(id), config, (text) => {
        // A case that is decoded again says nothing new.
        if (!warned.has(text)) listener?.onWarning?.(text);
        warned.add(text);
      }),
    budget: config.cacheGB === null ? hostMemory() / 2 : config.cacheGB * 2 ** 30,
    nextUse,
    foreground: config.foreground > 0,
  });
  const ids = cases.flatMap(({ id }) => (needed.has(id) ? [id] : []));
  const firstUse = new Map(ids.map((id) => [id, nextUse(id, 0)]));
  ids.sort((a, b) => (firstUse.get(a) as number) - (firstUse.get(b) as number));
  let full = false;
  for (const [done, id] of ids.entries()) {
    if (full && store === undefined) await inspectCase(find(id));
    else await cache.get(id, 0);
    full ||= cache.count <= done;
    listener?.onLoad?.(done + 1, ids.length);
  }
  if (full) listener?.onCache?.(cache.count, ids.length, cache.bytes);
  return cache;
}
