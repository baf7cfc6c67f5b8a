import { readFile } from "node:fs/promises";
import { type Case, type LabelMapping, readLabels } from "../data/index.ts";
import { isLabelMapping, labelMappingForm } from "../data/label_map.ts";
import { DataError, UsageError } from "../errors.ts";
import { parseSetting, SettingError } from "../train/config.ts";

/** What `--config`, `--set` and the options of single settings ask for. */
export interface Settings {
  /** Named by a run's own config.json. */
  readonly preset?: string;
  readonly values: Readonly<Record<string, unknown>>;
  /** Where each was given: a file, or words of the command line. */
  readonly sources: ReadonlyMap<string, string>;
}

/**
 * Settings of a JSON file, with the `key=value` texts over them, and over all those that have an option of their own, by name.
 * The file is an object of settings, or the config.json of a run. Throws UsageError when an option and a text give one setting.
 */
export async function readSettings(
  file: string | undefined,
  texts: readonly string[],
  options: Readonly<Record<string, unknown>>,
): Promise<Settings> {
  const base = file === undefined ? { values: {} } : await readSettingsFile(file);
  const values: Record<string, unknown> = { ...base.values };
  const sources = new Map(Object.keys(values).map((key) => [key, String(file)]));
  const set = new Set<string>();
  for (const text of texts) {
    const [key, value] = parseSetting(text);
    values[key] = value;
    sources.set(key, `--set ${text}`);
    set.add(key);
  }
  for (const [key, value] of Object.entries(options)) {
    if (value === undefined) continue;
    const option = `--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
    if (set.has(key))
      throw new UsageError(`${option} and ${sources.get(key)} give the same setting: leave one out`);
    values[key] = value;
    sources.set(key, option);
  }
  return { ...base, values, sources };
}

/** What `make` returns; where it refuses a setting, the error begins with where that was given. */
export function naming<T>({ sources }: Pick<Settings, "sources">, make: () => T): T {
  try {
    return make();
  } catch (error) {
    const source = error instanceof SettingError ? sources.get(error.setting) : undefined;
    if (source === undefined) throw error;
    throw new UsageError(`${source}: ${(error as SettingError).message}`);
  }
}

async function readSettingsFile(path: string): Promise<Omit<Settings, "sources">> {
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
