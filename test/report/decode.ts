import { inflateSync } from "node:zlib";

export interface Decoded {
  width: number;
  height: number;
  channels: number;
  data: Uint8Array;
}

/** A small reader for 8-bit grey and RGB PNG with filters none and up, from bytes or a data URI. */
export function decodePng(source: Buffer | string): Decoded {
  const bytes =
    typeof source === "string" ? Buffer.from(source.replace("data:image/png;base64,", ""), "base64") : source;
  if (bytes.toString("hex", 0, 8) !== "89504e470d0a1a0a") throw new Error("no PNG signature");
  const compressed: Buffer[] = [];
  for (let at = 8; at < bytes.length; at += 12 + bytes.readUInt32BE(at)) {
    const type = bytes.toString("latin1", at + 4, at + 8);
    if (type === "IDAT") compressed.push(bytes.subarray(at + 8, at + 8 + bytes.readUInt32BE(at)));
  }
  const [width, height] = [bytes.readUInt32BE(16), bytes.readUInt32BE(20)];
  const channels = bytes[25] === 2 ? 3 : 1;
  const stride = width * channels;
  const rows = inflateSync(Buffer.concat(compressed));
  const data = new Uint8Array(stride * height);
  for (let y = 0; y < height; y++) {
    const filter = rows[y * (stride + 1)];
    if (filter !== 0 && filter !== 2) throw new Error(`unexpected filter ${filter}`);
    for (let i = 0; i < stride; i++) {
      const above = filter === 2 ? data[(y - 1) * stride + i] : 0;
      data[y * stride + i] = rows[y * (stride + 1) + 1 + i] + above;
    }
  }
  return { width, height, channels, data };
}

/** The pixel at column `x` and row `y`, both as a fraction of the picture. */
export function pixelAt({ width, height, channels, data }: Decoded, x: number, y: number): number[] {
  const i = Math.floor(y * height) * width + Math.floor(x * width);
  return [...data.subarray(i * channels, (i + 1) * channels)];
}
