import { readdir } from "node:fs/promises";
import { basename, join } from "node:path";
import { DataError } from "../errors.ts";

const ENDING = /\.(nii|nii\.gz|png)$/;

/** The endings of files that can be read, for messages. */
export const endings = ".nii, .nii.gz or .png files";

/** Name without its ending -> path. */
export type Stems = Map<string, string>;

/** The name of an image or label map without folder and ending. */
export function stemOf(path: string): string {
  return basename(path).replace(ENDING, "");
}

/** Whether a file is a PNG slice, by its name. */
export function isSlice(path: string): boolean {
  return path.endsWith(".png");
}

/** Throws DataError when there are both PNG slices and NIfTI files. */
export function checkOneFormat(where: string, paths: readonly string[]): void {
  const slice = paths.find(isSlice);
  const volume = paths.find((path) => !isSlice(path));
  if (slice === undefined || volume === undefined) return;
  throw new DataError(
    where,
    `expected either NIfTI or PNG files, found both: ${basename(volume)} and ${basename(slice)}`,
  );
}

/**
 * The NIfTI files of a folder, or its PNG slices, by name. Throws DataError when there are both, or two that
 * differ in their ending alone.
 */
export async function imageFiles(folder: string): Promise<Stems> {
  const names = (await readdir(folder)).filter((name) => !name.startsWith(".") && ENDING.test(name)).sort();
  checkOneFormat(folder, names);
  const stems: Stems = new Map();
  for (const name of names) {
    const stem = stemOf(name);
    const other = stems.get(stem);
    if (other) throw new DataError(other, `and ${name} beside it: expected one file per case, found two`);
    stems.set(stem, join(folder, name));
  }
  return stems;
}
