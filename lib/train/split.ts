import { readFile } from "node:fs/promises";
import { z } from "zod";
import type { Case } from "../data/dataset.ts";
import { DataError, nearest } from "../errors.ts";
import type { Split } from "./data.ts";

const ids = z.array(z.string());
const splitSchema = z.strictObject({ labeled: ids.min(1), unlabeled: ids, validation: ids.default([]) });

/**
 * Reads `{ "labeled": [ids], "unlabeled": [ids], "validation": [ids] }`, the last being optional: another run's
 * `split.json`, say. Cases in none of the lists take no part. Throws `DataError` when an id is unknown or listed
 * twice, or a case that needs a label has none.
 */
export async function readSplit(path: string, cases: readonly Case[]): Promise<Split> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(await readFile(path, "utf8"));
  } catch (error) {
    throw new DataError(path, `expected a JSON file with a split: ${(error as Error).message}`, {
      cause: error,
    });
  }
  const result = splitSchema.safeParse(parsed);
  if (!result.success) {
    const { path: at, message } = result.error.issues[0];
    throw new DataError(
      path,
      `expected { "labeled": [ids], "unlabeled": [ids], "validation": [ids] }; ${at.join(".") || "top level"}: ${message}`,
    );
  }
  const { labeled, unlabeled, validation } = result.data;
  const known = new Map(cases.map((each) => [each.id, each]));
  const seen = new Set<string>();
  for (const id of [...labeled, ...unlabeled, ...validation]) {
    if (!known.has(id)) {
      const hint = nearest(id, [...known.keys()]);
      throw new DataError(
        path,
        `case "${id}" is not in the dataset${hint ? `, did you mean "${hint}"?` : ""}`,
      );
    }
    if (seen.has(id)) throw new DataError(path, `case "${id}" is listed twice; a case plays one part`);
    seen.add(id);
  }
  for (const id of [...labeled, ...validation])
    if (known.get(id)?.label === undefined)
      throw new DataError(path, `case "${id}" needs a label, and the dataset has none for it`);
  return result.data;
}

/** The cases of a split as training may see them: those that it counts as unlabelled have no label. */
export function casesOf(split: Split, cases: readonly Case[]): Case[] {
  const unlabeled = new Set(split.unlabeled);
  const labeled = new Set([...split.labeled, ...split.validation]);
  return cases.flatMap((each) => {
    if (labeled.has(each.id)) return [each];
    return unlabeled.has(each.id) ? [{ id: each.id, image: each.image }] : [];
  });
}
