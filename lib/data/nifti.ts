import { createReadStream } from "node:fs";
import { open } from "node:fs/promises";
import { createGunzip } from "node:zlib";
import { counted, DataError, UsageError } from "../errors.ts";
import { writeAtomically } from "./atomic.ts";
import { LabelMap, type LabelMapping } from "./label_map.ts";
import { CHUNK, type Consume, Decoder, encodeVoxels } from "./nifti_codec.ts";
import {
  bytesPerVoxel,
  encodeHeader,
  HEADER_BYTES,
  type NiftiHeader,
  type NiftiType,
  parseHeader,
} from "./nifti_header.ts";
import { type Volume, type VolumeData, voxelCount } from "./volume.ts";

interface Opened {
  chunks: AsyncIterable<Buffer>;
  /** No more than this many bytes can come out of `chunks`: deflate expands at most 1032 times. */
  atMost: number;
  gzip: boolean;
}

async function openStream(path: string): Promise<Opened> {
  try {
    const file = await open(path);
    try {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(2), 0, 2, 0);
      const { size } = await file.stat();
      const gzip = bytesRead === 2 && buffer[0] === 0x1f && buffer[1] === 0x8b;
      const raw = createReadStream(path, { highWaterMark: CHUNK });
      if (!gzip) return { chunks: raw, atMost: size, gzip };
      const gunzip = createGunzip({ chunkSize: CHUNK });
      raw.on("error", (error) => gunzip.destroy(error));
      gunzip.on("close", () => raw.destroy());
      return { chunks: raw.pipe(gunzip), atMost: size * 1032, gzip };
    } finally {
      await file.close();
    }
  } catch (error) {
    throw readError(path, error);
  }
}

function readError(path: string, error: unknown): DataError {
  if (error instanceof DataError) return error;
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === "ENOENT") return new DataError(path, "expected a NIfTI file, found none", { cause: error });
  if (code?.startsWith("Z_")) {
    return new DataError(path, `expected whole gzip data, found it damaged or cut short (${message})`, {
      cause: error,
    });
  }
  return new DataError(path, `could not be read: ${message}`, { cause: error });
}

function parse(path: string, bytes: Uint8Array, gzip: boolean): NiftiHeader {
  try {
    return parseHeader(path, bytes);
  } catch (error) {
    if (!gzip && path.endsWith(".gz") && error instanceof DataError) {
      throw new DataError(
        path,
        `expected gzip data (its name ends in .gz), found neither gzip nor NIfTI. ${error.message}`,
      );
    }
    throw error;
  }
}

type Receiver = (header: NiftiHeader) => Consume;

/** As `decodeVoxels`, to the end; resolves to the header. */
async function readVoxels(path: string, receiver: Receiver): Promise<NiftiHeader> {
  const decoding = decodeVoxels(path, receiver);
  for (;;) {
    const { done, value } = await decoding.next();
    if (done) return value;
  }
}

/**
 * Reads header and voxels in one pass over the file and yields whenever some have been handed on; memory beyond what the
 * receiver takes is a few chunks. Bytes after the voxels are ignored.
 */
async function* decodeVoxels(path: string, receiver: Receiver): AsyncGenerator<undefined, NiftiHeader> {
  const { chunks, atMost, gzip } = await openStream(path);
  const start = (front: Uint8Array): Decoder => {
    const header = parse(path, front, gzip);
    const { size, type, offset } = header;
    const needed = offset + voxelCount(size) * bytesPerVoxel[type];
    if (needed > atMost) {
      throw new DataError(
        path,
        `its header promises ${size.join(" x ")} voxels of ${type} from byte ${offset} to byte ${needed}; expected a file ` +
          `that holds them, found ${gzip ? "too little compressed data" : counted(atMost, "byte")}`,
      );
    }
    return new Decoder(header, receiver(header));
  };
  let front = Buffer.alloc(0);
  let decoder: Decoder | undefined;
  let end = 0;
  try {
    for await (const chunk of chunks) {
      const begin = end;
      end += chunk.length;
      if (decoder) {
        decoder.push(chunk.subarray(Math.max(0, decoder.header.offset - begin)));
        yield;
        continue;
      }
      front = Buffer.concat([front, chunk]);
      if (front.length < HEADER_BYTES) continue;
      decoder = start(front);
      decoder.push(front.subarray(decoder.header.offset));
      yield;
    }
    if (!decoder) {
      decoder = start(front);
      decoder.push(front.subarray(decoder.header.offset));
      yield;
    }
  } catch (error) {
    throw readError(path, error);
  }
  const { size, type } = decoder.header;
  if (decoder.voxelsRead < voxelCount(size)) {
    throw new DataError(
      path,
      `expected ${size.join(" x ")} = ${counted(voxelCount(size), "voxel")} of ${type}, found ${decoder.voxelsRead}: the file is cut short`,
    );
  }
  return decoder.header;
}

/**
 * The header of a .nii or .nii.gz file, either version and byte order. Throws DataError when it contradicts
 * itself.
 */
export async function readHeader(path: string): Promise<NiftiHeader> {
  const { chunks, gzip } = await openStream(path);
  let front = Buffer.alloc(0);
  try {
    for await (const chunk of chunks) {
      front = Buffer.concat([front, chunk]);
      if (front.length >= HEADER_BYTES) break;
    }
  } catch (error) {
    throw readError(path, error);
  }
  return parse(path, front, gzip);
}

/**
 * Reads intensities, scaled by scl_slope and scl_inter, from a single-file NIfTI-1 or NIfTI-2 image; whether
 * it is gzipped is seen from its bytes. Throws DataError when the file is missing, cut short, damaged,
 * contradictory, of more than three dimensions, or holds more than one number per voxel (complex, RGB).
 */
export async function readImage(path: string): Promise<Volume<Float32Array>> {
  let data = new Float32Array(0);
  const header = await readVoxels(path, ({ size, slope, intercept }) => {
    const image = new Float32Array(voxelCount(size));
    data = image;
    return (values, count, start) => {
      for (let i = 0; i < count; i++) image[start + i] = values[i] * slope + intercept;
    };
  });
  return { size: header.size, data, geometry: header.geometry };
}

/**
 * The slices of an image, `[y, x]` one after the other along the file's z, with the intensities that `readImage` gives;
 * memory is a few of them. Throws DataError as `readImage` does, when it comes to what is wrong.
 */
export async function* readSlices(path: string): AsyncGenerator<Float32Array> {
  const ready: Float32Array[] = [];
  const decoding = decodeVoxels(path, ({ size, slope, intercept }) => {
    const voxels = size[0] * size[1];
    let slice = new Float32Array(voxels);
    let filled = 0;
    return (values, count) => {
      for (let i = 0; i < count; i++) {
        slice[filled++] = values[i] * slope + intercept;
        if (filled < voxels) continue;
        ready.push(slice);
        slice = new Float32Array(voxels);
        filled = 0;
      }
    };
  });
  try {
    while (!(await decoding.next()).done) yield* ready.splice(0);
  } finally {
    // A reader that stops early lets go of the file.
    await decoding.return(undefined as never);
  }
}

/**
 * Reads a label map; `classes` counts the background. Values within 1e-3 of a whole number are rounded to it, and
 * `mapping` says which class each becomes. Throws DataError as `readImage` does, and when a value is not whole, has no
 * class in `mapping`, or lies outside 0 … classes - 1 (0 … 255 without `classes`): the message lists such values and how
 * many voxels have them.
 */
export async function readLabels(
  path: string,
  classes = 256,
  mapping?: LabelMapping,
): Promise<Volume<Uint8Array>> {
  let labels = new LabelMap(0, classes, mapping);
  const header = await readVoxels(path, ({ size, slope, intercept }) => {
    const map = new LabelMap(voxelCount(size), classes, mapping);
    labels = map;
    return (values, count, start) => {
      for (let i = 0; i < count; i++) map.set(start + i, values[i] * slope + intercept);
    };
  });
  return { size: header.size, data: labels.finish(path), geometry: header.geometry };
}

function checkName(path: string): void {
  if (!/\.nii(\.gz)?$/.test(path)) {
    throw new UsageError(`${path}: a NIfTI file to write must be named .nii or .nii.gz`);
  }
}

async function write(path: string, volume: Volume<VolumeData>, type: NiftiType): Promise<void> {
  const { size, data, geometry } = volume;
  checkName(path);
  if (data.length !== voxelCount(size)) {
    throw new DataError(
      path,
      `cannot be written: size ${size.join(" x ")} holds ${counted(voxelCount(size), "voxel")}, found ${data.length}`,
    );
  }
  function* chunks() {
    yield encodeHeader(size, type, geometry);
    yield* encodeVoxels(data, type);
  }
  await writeAtomically(path, chunks(), { gzip: path.endsWith(".gz") });
}

/**
 * Writes a volume as .nii or .nii.gz (by its name), all at once or not at all. The type is that of the array,
 * or int16 when `dtype` says so, which every value must then fit. A geometry that came from a file is written
 * back as it was. Throws UsageError for another ending and DataError when the disk refuses or the values do
 * not fit.
 */
export async function writeImage(
  path: string,
  volume: Volume<VolumeData>,
  options: { dtype?: "int16" } = {},
): Promise<void> {
  const { data } = volume;
  if (options.dtype === "int16") {
    const bad = data.findIndex(
      (value: number) => !(Number.isInteger(value) && value >= -32768 && value <= 32767),
    );
    if (bad >= 0) {
      throw new DataError(path, `int16 needs whole numbers from -32768 to 32767, found ${data[bad]}`);
    }
    return write(path, volume, "int16");
  }
  if (data instanceof Float32Array) return write(path, volume, "float32");
  return write(path, volume, data instanceof Uint8Array ? "uint8" : "int32");
}

/**
 * Writes a label map whose slices, `[y, x]` along z, come one after the other; otherwise as `writeLabels`. What the slices
 * throw is thrown, and nothing is written then.
 */
export async function writeLabelSlices(
  path: string,
  { size, geometry }: Pick<Volume, "size" | "geometry">,
  slices: AsyncIterable<Uint8Array>,
): Promise<void> {
  checkName(path);
  async function* chunks() {
    yield encodeHeader(size, "uint8", geometry);
    yield* slices;
  }
  await writeAtomically(path, chunks(), { gzip: path.endsWith(".gz") });
}

/** Writes a label map of one byte per voxel; otherwise as `writeImage`. */
export async function writeLabels(path: string, volume: Volume<Uint8Array>): Promise<void> {
  return write(path, volume, "uint8");
}
