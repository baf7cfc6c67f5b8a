import { promisify } from "node:util";
import { inflate as inflateWithCallback } from "node:zlib";
import { counted, DataError } from "../errors.ts";
import { crc32, PNG_SIGNATURE } from "./png_format.ts";

const inflate = promisify<Uint8Array, { maxOutputLength: number }, Buffer>(inflateWithCallback);

/** A grey picture, rows from the top; `data.length` is `width * height`. */
export interface GreyPicture {
  width: number;
  height: number;
  /** As stored: 0 to 255, or 0 to 65535 for 16 bits. */
  data: Uint8Array | Uint16Array;
}

const COLOUR_TYPES: Readonly<Record<number, string>> = {
  0: "grey",
  2: "RGB",
  3: "palette",
  4: "grey with alpha",
  6: "RGB with alpha",
};
const HEADER_BYTES = 13;
/** Chunk length, type and check sum. */
const FRAME_BYTES = 12;
/** Deflate expands at most this many times. */
const MOST_EXPANSION = 1032;

interface Header {
  width: number;
  height: number;
  bytesPerPixel: 1 | 2;
}

/**
 * Decodes a PNG file (ISO/IEC 15948) of grey pixels with 8 or 16 bits, not interlaced; `path` is for messages
 * alone. No memory is taken for a size that the compressed data cannot fill. Bytes after the IEND chunk are
 * ignored, and so are ancillary chunks (gamma, transparency, text).
 *
 * Throws DataError for any other kind of PNG, a wrong check sum, a file that is cut short or damaged, and
 * pixel data of another length than the size needs.
 */
export async function decodePng(path: string, bytes: Buffer): Promise<GreyPicture> {
  if (PNG_SIGNATURE.some((byte, i) => bytes[i] !== byte)) {
    throw new DataError(path, "expected a PNG file, found no PNG signature in its first 8 bytes");
  }
  const [first, ...others] = readChunks(path, bytes);
  if (first.type !== "IHDR") throw new DataError(path, `expected chunk IHDR first, found ${first.type}`);
  const header = parseHeader(path, first.data);
  const critical = others.find(({ type }) => /^[A-Z]/.test(type) && !["IDAT", "IEND"].includes(type));
  if (critical) {
    throw new DataError(path, `expected chunks IDAT and IEND in a grey picture, found ${critical.type}`);
  }
  const compressed = Buffer.concat(others.flatMap(({ type, data }) => (type === "IDAT" ? [data] : [])));
  const rows = await inflateRows(path, header, compressed);
  unfilter(path, header, rows);
  return { width: header.width, height: header.height, data: pixels(header, rows) };
}

interface Chunk {
  type: string;
  data: Buffer;
}

/** The chunks up to IEND, at least one, their check sums compared. */
function readChunks(path: string, bytes: Buffer): Chunk[] {
  const chunks: Chunk[] = [];
  let at = PNG_SIGNATURE.length;
  for (;;) {
    const room = bytes.length - at - FRAME_BYTES;
    if (room < 0) throw new DataError(path, "expected chunk IEND at the end: the file is cut short");
    const length = bytes.readUInt32BE(at);
    const name = bytes.toString("latin1", at + 4, at + 8);
    const type = /^[A-Za-z]{4}$/.test(name) ? name : JSON.stringify(name);
    if (length > room) {
      throw new DataError(
        path,
        `chunk ${type} at byte ${at} claims ${counted(length, "byte")}, found ${room}: the file is cut short or damaged`,
      );
    }
    const end = at + 8 + length;
    if (crc32(bytes.subarray(at + 4, end)) !== bytes.readUInt32BE(end)) {
      throw new DataError(path, `chunk ${type} at byte ${at} has a wrong check sum: the file is damaged`);
    }
    chunks.push({ type, data: bytes.subarray(at + 8, end) });
    if (type === "IEND") return chunks;
    at = end + 4;
  }
}

function parseHeader(path: string, data: Buffer): Header {
  if (data.length !== HEADER_BYTES) {
    throw new DataError(path, `chunk IHDR: expected ${HEADER_BYTES} bytes, found ${data.length}`);
  }
  const [width, height] = [data.readUInt32BE(0), data.readUInt32BE(4)];
  const [depth, colour, compression, filter, interlace] = data.subarray(8);
  if (colour !== 0) {
    const found = COLOUR_TYPES[colour] ?? `unknown colour type ${colour}`;
    throw new DataError(path, `expected a grey PNG (one value per pixel), found ${found}: convert it first`);
  }
  if (depth !== 8 && depth !== 16) {
    throw new DataError(path, `expected 8 or 16 bits per pixel, found ${depth}`);
  }
  if (compression !== 0 || filter !== 0) {
    throw new DataError(path, `expected compression and filter method 0, found ${compression} and ${filter}`);
  }
  if (interlace !== 0) {
    throw new DataError(path, "expected a PNG that is not interlaced, found it interlaced: save it without");
  }
  if (width === 0 || height === 0) {
    throw new DataError(path, `expected at least one pixel, found a size of ${width} x ${height}`);
  }
  return { width, height, bytesPerPixel: depth === 8 ? 1 : 2 };
}

/** The filtered rows: per row the filter's number, then its pixels. */
async function inflateRows(
  path: string,
  { width, height, bytesPerPixel }: Header,
  compressed: Buffer,
): Promise<Buffer> {
  const needed = height * (1 + width * bytesPerPixel);
  const claim = `its header claims ${width} x ${height} pixels of ${8 * bytesPerPixel} bits`;
  if (needed > compressed.length * MOST_EXPANSION) {
    throw new DataError(
      path,
      `${claim}, found ${counted(compressed.length, "byte")} of compressed data, too little`,
    );
  }
  let rows: Buffer;
  try {
    rows = await inflate(compressed, { maxOutputLength: needed });
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const problem =
      code === "ERR_BUFFER_TOO_LARGE"
        ? `${claim}, found more`
        : `expected whole compressed data, found it damaged or cut short (${message})`;
    throw new DataError(path, problem, { cause: error });
  }
  if (rows.length !== needed) {
    throw new DataError(path, `${claim} in ${counted(needed, "byte")}, found ${rows.length}`);
  }
  return rows;
}

/** Undoes the filters of ISO/IEC 15948, 9.2, in place. */
function unfilter(path: string, { width, height, bytesPerPixel }: Header, rows: Buffer): void {
  const stride = 1 + width * bytesPerPixel;
  for (let y = 0; y < height; y++) {
    const start = y * stride + 1;
    const filter = rows[start - 1];
    if (filter > 4) throw new DataError(path, `row ${y}: expected a filter from 0 to 4, found ${filter}`);
    if (filter === 0) continue;
    for (let i = 0; i < stride - 1; i++) {
      const at = start + i;
      const left = i < bytesPerPixel ? 0 : rows[at - bytesPerPixel];
      const above = y === 0 ? 0 : rows[at - stride];
      if (filter === 1) rows[at] += left;
      else if (filter === 2) rows[at] += above;
      else if (filter === 3) rows[at] += (left + above) >> 1;
      else
        rows[at] += paeth(left, above, y === 0 || i < bytesPerPixel ? 0 : rows[at - stride - bytesPerPixel]);
    }
  }
}

/** Which of the three neighbours lies nearest to left + above - corner (ISO/IEC 15948, 9.4). */
function paeth(left: number, above: number, corner: number): number {
  const byLeft = Math.abs(above - corner);
  const byAbove = Math.abs(left - corner);
  const byCorner = Math.abs(left + above - 2 * corner);
  if (byLeft <= byAbove && byLeft <= byCorner) return left;
  return byAbove <= byCorner ? above : corner;
}

function pixels({ width, height, bytesPerPixel }: Header, rows: Buffer): Uint8Array | Uint16Array {
  const stride = 1 + width * bytesPerPixel;
  if (bytesPerPixel === 1) {
    const data = new Uint8Array(width * height);
    for (let y = 0; y < height; y++) data.set(rows.subarray(y * stride + 1, (y + 1) * stride), y * width);
    return data;
  }
  const data = new Uint16Array(width * height);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) data[y * width + x] = rows.readUInt16BE(y * stride + 1 + 2 * x);
  return data;
}
