import { randomBytes } from "node:crypto";
import { open, rename, rm, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGzip } from "node:zlib";
import { DataError } from "../errors.ts";

/**
 * Writes a file so that a reader sees the old content or the new one, never a part: a temporary file in the
 * same folder, flushed to the disk, then renamed. On failure the temporary file is removed and a DataError
 * names `path`; what the chunks themselves throw is thrown as it is.
 */
export async function writeAtomically(
  path: string,
  chunks: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
  options: { gzip?: boolean } = {},
): Promise<void> {
  const temporary = join(dirname(path), `.${basename(path)}.${randomBytes(6).toString("hex")}.tmp`);
  let failed: { readonly error: unknown } | undefined;
  async function* source() {
    try {
      yield* chunks;
    } catch (error) {
      failed = { error };
      throw error;
    }
  }
  try {
    const file = await open(temporary, "wx");
    try {
      if (options.gzip) {
        await pipeline(Readable.from(source()), createGzip(), (packed: AsyncIterable<Uint8Array>) =>
          writeFile(file, packed),
        );
      } else {
        await writeFile(file, source());
      }
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    if (failed !== undefined) throw failed.error;
    throw new DataError(path, `could not be written: ${(error as Error).message}`, { cause: error });
  }
}
