import { readFile } from "node:fs/promises";
import { z } from "zod";
import type { Case } from "../data/dataset.ts";
import { type Grouping, grouping } from "../data/groups.ts";
import { DataError, nearest } from "../errors.ts";
import type { Split } from "./data.ts";
import { expected } from "./expected.ts";

const ids = z.array(z.string());
const splitSchema = z.strictObject({ labeled: ids.min(1), unlabeled: ids, validation: ids.default([]) });

/**
 * Reads `{ "labeled": [ids], "unlabeled": [ids], "validation": [ids] }`, the last being optional: another run's
 * `split.json`, say. Cases in none of the lists take no part. Throws `DataError` when an id is unknown or listed
 * twice, a case that needs a label has none, or a group (`group` is the setting) would play two parts. Cases without a label
 * may be unlabelled beside labelled ones of their group.
 */
export async function readSplit(path: string, cases: readonly Case[], group: string | null): Promise<Split> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(await readFile(path, "utf8"));
  } catch (error) {
    throw new DataError(path, `expected a JSON file with a split: ${(error as Error).message}`, {
      cause: error,
    });
  }
  const split = checkSplit(path, parsed);
  const { labeled, unlabeled, validation } = split;
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
  checkGroups(path, split, known, grouping(group));
  return split;
}

/** What the JSON file at `path` held, as a split. Throws `DataError` when it has another form. */
export function checkSplit(path: string, parsed: unknown): Split {
  const result = splitSchema.safeParse(parsed, { error: expected });
  if (result.success) return result.data;
  const { path: at, message } = result.error.issues[0];
  throw new DataError(
    path,
    `expected { "labeled": [ids], "unlabeled": [ids], "validation": [ids] }; ${at.join(".") || "top level"}: ${message}`,
  );
}

function checkGroups(path: string, split: Split, known: ReadonlyMap<string, Case>, groupOf: Grouping): void {
  const parts = new Map<string, { part: string; id: string }>();
  for (const part of ["labeled", "validation", "unlabeled"] as const)
    for (const id of split[part]) {
      const first = parts.get(groupOf(id));
      const beside = part === "unlabeled" && first?.part === "labeled" && known.get(id)?.label === undefined;
      if (first !== undefined && first.part !== part && !beside)
        throw new DataError(
          path,
          `"${groupOf(id)}" would play two parts: case "${first.id}" is in "${first.part}", case "${id}" in "${part}"; list all of its cases under one`,
        );
      if (first === undefined) parts.set(groupOf(id), { part, id });
    }
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
