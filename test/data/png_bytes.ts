import { deflateSync } from "node:zlib";
import { crc32 } from "../../lib/data/png_format.ts";

export interface PngSpec {
  width: number;
  height: number;
  /** One value per pixel. */
  data: ArrayLike<number>;
  depth?: number;
  colour?: number;
  interlace?: number;
  /** Filter of each row, from the first on again after the last; default none. */
  filters?: number[];
  /** What IHDR claims instead of width and height. */
  claim?: [number, number];
  /** Bytes of the rows as they are compressed. */
  rows?: Uint8Array;
  /** Chunks between IHDR and IDAT. */
  before?: Buffer[];
  /** IDAT chunks that the data is cut into. */
  parts?: number;
}

export function chunk(type: string, body: Uint8Array): Buffer {
  const bytes = Buffer.alloc(body.length + 12);
  bytes.writeUInt32BE(body.length, 0);
  bytes.write(type, 4, "latin1");
  bytes.set(body, 8);
  bytes.writeUInt32BE(crc32(bytes.subarray(4, body.length + 8)), body.length + 8);
  return bytes;
}

/** A grey PNG, written in terms of the standard's definition of its filters. */
export function pngBytes(spec: PngSpec): Buffer {
  const { width, height, depth = 8, colour = 0, interlace = 0, parts = 1 } = spec;
  const header = Buffer.alloc(13);
  const [claimedWidth, claimedHeight] = spec.claim ?? [width, height];
  header.writeUInt32BE(claimedWidth, 0);
  header.writeUInt32BE(claimedHeight, 4);
  header.set([depth, colour, 0, 0, interlace], 8);
  const compressed = deflateSync(spec.rows ?? filteredRows(spec));
  const step = Math.ceil(compressed.length / parts);
  return Buffer.concat([
    Buffer.from([137, 80, 78, 71, 13, 10, 26, 10]),
    chunk("IHDR", header),
    ...(spec.before ?? []),
    ...Array.from({ length: parts }, (_, i) => chunk("IDAT", compressed.subarray(i * step, (i + 1) * step))),
    chunk("IEND", new Uint8Array(0)),
  ]);
}

function filteredRows({ width, height, data, depth = 8, filters = [0] }: PngSpec): Buffer {
  const step = depth === 16 ? 2 : 1;
  const raw = Buffer.alloc(width * height * step);
  for (let i = 0; i < width * height; i++) {
    if (step === 2) raw.writeUInt16BE(data[i], 2 * i);
    else raw[i] = data[i];
  }
  const stride = width * step;
  const at = (y: number, i: number) => (y < 0 || i < 0 ? 0 : raw[y * stride + i]);
  const predicted = (filter: number, y: number, i: number): number => {
    const [a, b, c] = [at(y, i - step), at(y - 1, i), at(y - 1, i - step)];
    if (filter === 4) {
      const p = a + b - c;
      return [a, b, c].reduce((best, v) => (Math.abs(p - v) < Math.abs(p - best) ? v : best));
    }
    return [0, a, b, Math.floor((a + b) / 2)][filter];
  };
  const rows = Buffer.alloc((stride + 1) * height);
  for (let y = 0; y < height; y++) {
    const filter = filters[y % filters.length];
    rows[y * (stride + 1)] = filter;
    for (let i = 0; i < stride; i++) {
      rows[y * (stride + 1) + 1 + i] = at(y, i) - predicted(filter, y, i);
    }
  }
  return rows;
}
