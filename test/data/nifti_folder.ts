/** A folder for the NIfTI files of one test, and what its tests ask of them. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import * as oracle from "nifti-reader-js";
import * as assert from "uvu/assert";

/** Gone when the process ends. */
export const dir = mkdtempSync(join(tmpdir(), "voxgrad-nifti-"));
process.on("exit", () => rmSync(dir, { recursive: true, force: true }));

/** Writes a file of the folder; its path. */
export function file(name: string, bytes: Uint8Array): string {
  const path = join(dir, name);
  writeFileSync(path, bytes);
  return path;
}

/** What the outside reader sees. */
export function oracleHeader(bytes: Buffer) {
  const plain = bytes[0] === 0x1f ? gunzipSync(bytes) : bytes;
  const data = new Uint8Array(plain).buffer;
  return { header: oracle.readHeader(data), data };
}

/** Expects a DataError that names a file of the folder. */
export async function rejects(work: Promise<unknown>, pattern: RegExp): Promise<void> {
  try {
    await work;
  } catch (error) {
    const { code, message } = error as { code?: string; message: string };
    assert.ok(code === "ERR_DATA", `expected a DataError, found ${String(error)}`);
    assert.match(message, pattern);
    assert.ok(message.startsWith(dir), `the message names the file: ${message}`);
    return;
  }
  assert.unreachable(`expected an error like ${String(pattern)}`);
}

/** Whether headers agree, which hold 32-bit floats. */
export const close = (a: readonly number[], b: readonly number[]) =>
  a.length === b.length && a.every((v, i) => Math.abs(v - b[i]) < 1e-4 * Math.max(1, Math.abs(b[i])));
