import * as zlib from "node:zlib";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { dataUri, encodePng } from "../../lib/report/png.ts";
import { decodePng } from "./decode.ts";

test("grey and RGB come back as they went in", () => {
  for (const channels of [1, 3] as const) {
    const [width, height] = [37, 11];
    const data = Uint8Array.from({ length: width * height * channels }, (_, i) => (i * 7919) >> 3);
    const decoded = decodePng(dataUri({ width, height, channels, data }));
    assert.equal(decoded, { width, height, channels, data });
  }
});

test("the bytes of a one-pixel picture are those of the standard", () => {
  const png = encodePng({ width: 1, height: 1, channels: 1, data: Uint8Array.of(255) });
  assert.is(png.toString("hex", 8, 33), "0000000d49484452000000010000000108000000003a7e9b55");
  assert.is(png.toString("hex", png.length - 12), "0000000049454e44ae426082");
});

test("every chunk carries the checksum that zlib computes", () => {
  // In Node from 20.15 on; before, the fixed bytes above are the check.
  if (typeof zlib.crc32 !== "function") return;
  const png = encodePng({ width: 16, height: 9, channels: 3, data: new Uint8Array(16 * 9 * 3).fill(77) });
  let chunks = 0;
  for (let at = 8; at < png.length; chunks++) {
    const length = png.readUInt32BE(at);
    assert.is(png.readUInt32BE(at + 8 + length), zlib.crc32(png.subarray(at + 4, at + 8 + length)));
    at += 12 + length;
  }
  assert.is(chunks, 3);
});

test("a size that does not fit the data is refused", () => {
  assert.throws(
    () => encodePng({ width: 2, height: 2, channels: 3, data: new Uint8Array(4) }),
    /2 x 2 x 3 .* 4 bytes/,
  );
  assert.throws(() => encodePng({ width: 0, height: 2, channels: 1, data: new Uint8Array(0) }), RangeError);
});

test.run();
