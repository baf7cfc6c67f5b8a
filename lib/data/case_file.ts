import { open } from "node:fs/promises";
import { z } from "zod";
import { counted, DataError } from "../errors.ts";
import { writeAtomically } from "./atomic.ts";
import { type Intensities, intensityBytes } from "./coded_image.ts";
import type { PatchVolume } from "./patch_draws.ts";
import { type Triple, voxelCount } from "./volume.ts";

const MAGIC = "voxgrad decoded case 1\n";
const PREFIX_BYTES = 32;

const extent = z.int().min(1);

/** What a file begins with, as JSON behind the magic words and its length. */
const headerSchema = z.strictObject({
  size: z.tuple([extent, extent, extent]),
  /** Bytes of a voxel's intensity: 4 are the float itself, else a code. */
  codeBytes: z.union([z.literal(1), z.literal(2), z.literal(4)]),
  /** Number of the values that codes point to. */
  values: z.int().min(0),
  /** Lengths of the lists of voxels to centre patches on. */
  foreground: z.array(z.int().min(0)),
  labeled: z.boolean(),
});
type Header = Readonly<z.infer<typeof headerSchema>>;

/**
 * A decoded case on disk whose slices are read without the rest: header, values, lists of foreground voxels, intensities, labels,
 * in the machine's own byte order. What a damaged file says is never trusted: its length must be that of its header.
 */
export class CaseFile {
  readonly path: string;
  readonly size: Triple;
  readonly foreground: readonly Uint32Array[];
  private readonly header: Header;
  private readonly values: Float32Array;
  /** Where intensities begin in the file. */
  private readonly start: number;

  private constructor(path: string, header: Header, tables: Uint32Array, start: number) {
    this.path = path;
    this.header = header;
    this.size = header.size;
    this.start = start;
    this.values = new Float32Array(tables.buffer, 0, header.values);
    let at = header.values;
    this.foreground = header.foreground.map((length) => tables.subarray(at, (at += length)));
  }

  /** Writes a case, whole or not at all. */
  static async write(path: string, { image, label, size, foreground }: PatchVolume): Promise<void> {
    const coded = !(image instanceof Float32Array);
    const codes = coded ? image.codes : image;
    const header: Header = {
      size: [...size],
      codeBytes: codes.BYTES_PER_ELEMENT as Header["codeBytes"],
      values: coded ? image.values.length : 0,
      foreground: foreground.map(({ length }) => length),
      labeled: label !== undefined,
    };
    const text = Buffer.from(JSON.stringify(header));
    const padded = Buffer.alloc(roundUp(text.length), " ");
    text.copy(padded);
    const prefix = Buffer.alloc(PREFIX_BYTES);
    prefix.write(MAGIC, "latin1");
    prefix.writeUInt32LE(padded.length, PREFIX_BYTES - 4);
    const arrays = [...(coded ? [image.values] : []), ...foreground, codes, ...(label ? [label] : [])];
    await writeAtomically(path, [prefix, padded, ...arrays.map(bytesOf)]);
  }

  /** Opens a file that `write` made; undefined where there is none. Throws DataError when it holds something else. */
  static async open(path: string): Promise<CaseFile | undefined> {
    const file = await open(path).catch((error: unknown) => {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
      throw new DataError(path, `could not be read: ${(error as Error).message}`, { cause: error });
    });
    if (file === undefined) return undefined;
    const damaged = (found: string) =>
      new DataError(path, `expected a decoded case, found ${found}; delete the file, it is made again`);
    try {
      const { size: length } = await file.stat();
      const read = async (bytes: number, at: number) => {
        if (at + bytes > length) throw damaged(counted(length, "byte"));
        const target = new Uint8Array(bytes);
        await file.read(target, 0, bytes, at);
        return Buffer.from(target.buffer);
      };
      const prefix = await read(PREFIX_BYTES, 0);
      if (prefix.toString("latin1", 0, MAGIC.length) !== MAGIC) throw damaged("another kind of file");
      const headerBytes = prefix.readUInt32LE(PREFIX_BYTES - 4);
      const header = parse((await read(headerBytes, PREFIX_BYTES)).toString());
      if (header === undefined) throw damaged("another header");
      const tables = header.values + header.foreground.reduce((sum, count) => sum + count, 0);
      const start = PREFIX_BYTES + headerBytes + 4 * tables;
      const voxels = voxelCount(header.size);
      const expected = start + voxels * (header.codeBytes + (header.labeled ? 1 : 0));
      if (length !== expected) throw damaged(`${counted(length, "byte")} where ${expected} would be whole`);
      const lists = await read(4 * tables, PREFIX_BYTES + headerBytes);
      return new CaseFile(path, header, new Uint32Array(lists.buffer, 0, tables), start);
    } finally {
      await file.close();
    }
  }

  /** Memory that the whole case takes, in bytes. */
  get bytes(): number {
    const { codeBytes, labeled, values } = this.header;
    const lists = this.foreground.reduce((sum, { length }) => sum + length, 0);
    return voxelCount(this.size) * (codeBytes + (labeled ? 1 : 0)) + 4 * (values + lists);
  }

  /** The slices across z from `from` to below `to`. */
  async slices(from: number, to: number): Promise<PatchVolume> {
    const { size, foreground } = this;
    const { codeBytes, labeled } = this.header;
    const slice = size[0] * size[1];
    const file = await open(this.path);
    try {
      const read = async <T extends Uint8Array | Uint16Array | Float32Array>(
        target: T,
        at: number,
      ): Promise<T> => {
        const { bytesRead } = await file.read(target, 0, target.byteLength, at);
        if (bytesRead === target.byteLength) return target;
        throw new DataError(
          this.path,
          `expected ${at + target.byteLength} bytes, found fewer; was it changed?`,
        );
      };
      const count = (to - from) * slice;
      const codes = new { 1: Uint8Array, 2: Uint16Array, 4: Float32Array }[codeBytes](count);
      await read(codes, this.start + from * slice * codeBytes);
      const image: Intensities = codes instanceof Float32Array ? codes : { codes, values: this.values };
      const labels = this.start + voxelCount(size) * codeBytes;
      const label = labeled ? await read(new Uint8Array(count), labels + from * slice) : undefined;
      return { image, label, size, foreground, first: from };
    } finally {
      await file.close();
    }
  }
}

/** Memory that a case takes, in bytes. */
export function caseBytes({ image, label, foreground }: PatchVolume): number {
  const lists = foreground.reduce((total, list) => total + list.byteLength, 0);
  return intensityBytes(image) + (label?.byteLength ?? 0) + lists;
}

const roundUp = (bytes: number) => Math.ceil(bytes / 4) * 4;

const bytesOf = (array: ArrayBufferView) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);

function parse(text: string): Header | undefined {
  try {
    return headerSchema.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}
