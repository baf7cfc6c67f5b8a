import { readFile, rm, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { resolve } from "node:path";
import { DataError } from "../errors.ts";

interface Holder {
  readonly process: number;
  readonly host: string;
}

/** Locks of this process: a container that starts again may give its process the number that a crashed one had. */
const held = new Set<string>();

/**
 * Takes the lock file at `path` for this process, and resolves to the function that removes it. Two processes that train in one
 * folder would mix their metrics and overwrite each other's checkpoints. A lock whose process on this machine is gone (a crash, a
 * second Ctrl-C) is taken over.
 *
 * @throws {DataError} when another process holds it, which on another machine cannot be told from one that is gone.
 */
export async function lockFile(path: string): Promise<() => Promise<void>> {
  const own: Holder = { process: process.pid, host: hostname() };
  try {
    await writeFile(path, `${JSON.stringify(own)}\n`, { flag: "wx" });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST")
      throw new DataError(path, `could not be written: ${(error as Error).message}`, { cause: error });
    const holder = await readHolder(path);
    if (holder !== undefined && !isGone(holder, path))
      throw new DataError(
        path,
        `process ${holder.process} on ${holder.host} trains in this folder: wait for it or stop it; if there is no such process, delete this file`,
        { cause: error },
      );
    await rm(path, { force: true });
    return lockFile(path);
  }
  held.add(resolve(path));
  // One that stays names a process that is gone; that it stays must not hide why the run ended.
  return async () => {
    held.delete(resolve(path));
    await rm(path, { force: true }).catch(() => undefined);
  };
}

/** Undefined where the file went away or holds no process: a crash may leave an empty one. */
async function readHolder(path: string): Promise<Holder | undefined> {
  try {
    const { process: id, host } = JSON.parse(await readFile(path, "utf8")) as Partial<Holder>;
    return typeof id === "number" && typeof host === "string" ? { process: id, host } : undefined;
  } catch {
    return undefined;
  }
}

function isGone({ process: id, host }: Holder, path: string): boolean {
  if (host !== hostname()) return false;
  if (id === process.pid) return !held.has(resolve(path));
  try {
    process.kill(id, 0);
    return false;
  } catch (error) {
    // EPERM: it is there, and someone else's.
    return (error as NodeJS.ErrnoException).code === "ESRCH";
  }
}
