import { readFile } from "node:fs/promises";
import { type Case, type LabelMapping, readLabels } from "../data/index.ts";
import { isLabelMapping, labelMappingForm } from "../data/label_map.ts";
import { DataError } from "../errors.ts";
import { parseSetting } from "../train/config.ts";

/** What `--config` and `--set` ask for. */
export interface Settings {
  /** Named by a run's own config.json. */
  readonly preset?: string;
  readonly values: Readonly<Record<string, unknown>>;
}

/**
 * Settings of a JSON file, with the `key=value` texts over them. The file is an object of settings, or the
 * config.json of a run.
 */
export async function readSettings(file: string | undefined, texts: readonly string[]): Promise<Settings> {
  const base = file === undefined ? { values: {} } : await readSettingsFile(file);
  return { ...base, values: { ...base.values, ...Object.fromEntries(texts.map(parseSetting)) } };
}

async function readSettingsFile(path: string): Promise<Settings> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(await readFile(path, "utf8"));
  } catch (error) {
    throw new DataError(path, `expected a JSON file with settings: ${(error as Error).message}`, {
      cause: error,
    });
  }
  if (!isObject(parsed))
    throw new DataError(path, `expected a JSON object such as { "steps": 400 }, found ${typeof parsed}`);
  if (!isObject(parsed.config)) return { values: parsed };
  return { preset: String(parsed.preset), values: parsed.config };
}

/** The label map of a JSON file. Throws DataError when it holds none. */
export async function readLabelMap(path: string): Promise<LabelMapping> {
  let map: unknown;
  try {
    map = JSON.parse(await readFile(path, "utf8"));
  } catch (error) {
    throw new DataError(path, `expected a JSON file with a label map: ${(error as Error).message}`, {
      cause: error,
    });
  }
  if (!isLabelMapping(map)) throw new DataError(path, `expected ${labelMappingForm}`);
  return map;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/**
 * The number of classes that the labels of these cases need, background included: the largest label + 1, at least 2. `absent` are
 * those between background and the largest that no voxel has.
 */
export async function findClasses(
  cases: readonly Case[],
  onProgress: (done: number, total: number) => void,
): Promise<{ classes: number; files: number; absent: number[] }> {
  const paths = cases.flatMap(({ label }) => label ?? []);
  const present = new Uint8Array(256);
  for (const [index, path] of paths.entries()) {
    const { data } = await readLabels(path);
    for (const label of data) present[label] = 1;
    if (present[255] === 1)
      throw new DataError(
        path,
        "expected labels numbered from 0 without gaps, found 255; write masks as 0 and 1",
      );
    onProgress(index + 1, paths.length);
  }
  const classes = Math.max(2, present.lastIndexOf(1) + 1);
  const absent = Array.from({ length: classes - 2 }, (_, index) => index + 1).filter((n) => present[n] === 0);
  return { classes, files: paths.length, absent };
}
