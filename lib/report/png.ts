import { deflateSync } from "node:zlib";
import { crc32, PNG_SIGNATURE } from "../data/png_format.ts";

export interface Picture {
  /** Pixels. */
  width: number;
  height: number;
  /** 1: grey, 3: RGB. */
  channels: 1 | 3;
  /** Rows from the top, `width * height * channels` bytes. */
  data: Uint8Array;
}

const COLOUR_TYPE = { 1: 0, 3: 2 } as const;
const FILTER_NONE = 0;
const FILTER_UP = 2;

/**
 * An 8-bit grey or RGB picture as the bytes of a PNG file (ISO/IEC 15948). Throws RangeError when the size is not
 * positive or `data` has another length.
 */
export function encodePng({ width, height, channels, data }: Picture): Buffer {
  const stride = width * channels;
  if (!(width > 0 && height > 0) || data.length !== stride * height) {
    throw new RangeError(`PNG of ${width} x ${height} x ${channels} cannot hold ${data.length} bytes`);
  }
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, COLOUR_TYPE[channels], 0, 0, 0], 8);

  // Upscaled pictures repeat their rows: a row that equals the one above becomes zeros.
  const filtered = Buffer.alloc((stride + 1) * height);
  for (let y = 0; y < height; y++) {
    const row = y * (stride + 1);
    const from = y * stride;
    filtered[row] = y === 0 ? FILTER_NONE : FILTER_UP;
    for (let i = 0; i < stride; i++) {
      filtered[row + 1 + i] = y === 0 ? data[i] : data[from + i] - data[from - stride + i];
    }
  }
  return Buffer.concat([
    Buffer.from(PNG_SIGNATURE),
    chunk("IHDR", header),
    chunk("IDAT", deflateSync(filtered, { level: 9 })),
    chunk("IEND", Buffer.alloc(0)),
  ]);
}

/** The picture as `data:image/png;base64,...`, ready for `src`. */
export function dataUri(picture: Picture): string {
  return `data:image/png;base64,${encodePng(picture).toString("base64")}`;
}

function chunk(type: string, body: Buffer): Buffer {
  const bytes = Buffer.alloc(body.length + 12);
  bytes.writeUInt32BE(body.length, 0);
  bytes.write(type, 4, "latin1");
  body.copy(bytes, 8);
  bytes.writeUInt32BE(crc32(bytes.subarray(4, body.length + 8)), body.length + 8);
  return bytes;
}
