import { mkdir, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { DataError } from "../errors.ts";

/**
 * Makes a folder with those above it; one that is there stays as it is. Throws DataError naming it when it cannot be made.
 *
 * Not `mkdir` with `recursive`: under /proc, where a folder that is there says ENOENT to a new one in it, Node tries for ever.
 */
export async function makeFolder(path: string): Promise<void> {
  try {
    await makeWithParents(path);
  } catch (error) {
    throw new DataError(path, `this folder cannot be made: ${(error as Error).message}`, { cause: error });
  }
}

async function makeWithParents(path: string): Promise<void> {
  try {
    await mkdir(path);
  } catch (error) {
    if (await isFolder(path)) return;
    const parent = dirname(path);
    if ((error as NodeJS.ErrnoException).code !== "ENOENT" || (await isFolder(parent))) throw error;
    await makeWithParents(parent);
    await makeWithParents(path);
  }
}

async function isFolder(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory();
  } catch {
    return false;
  }
}
