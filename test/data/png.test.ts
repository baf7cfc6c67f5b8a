import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { decodePng } from "../../lib/data/png.ts";
import { crc32 } from "../../lib/data/png_format.ts";
import { readImage, readLabels } from "../../lib/data/read.ts";
import { Random } from "../../lib/random.ts";
import { encodePng } from "../../lib/report/png.ts";
import { chunk, pngBytes, type PngSpec } from "./png_bytes.ts";

const root = mkdtempSync(join(tmpdir(), "voxgrad-png-"));
const path = join(root, "slice.png");

function file(bytes: Buffer): string {
  writeFileSync(path, bytes);
  return path;
}

async function refused(bytes: Buffer, pattern: RegExp): Promise<void> {
  try {
    await decodePng("odd.png", bytes);
  } catch (error) {
    assert.is((error as { code?: string }).code, "ERR_DATA", String(error));
    assert.match((error as Error).message, /^odd\.png: /);
    assert.match((error as Error).message, pattern);
    return;
  }
  assert.unreachable(`expected an error like ${String(pattern)}`);
}

function noise(count: number, below: number): number[] {
  const random = new Random(7);
  return Array.from({ length: count }, () => random.below(below));
}

const small: PngSpec = { width: 5, height: 4, data: noise(20, 256) };

test("the check sum is the standard's", () => {
  assert.is(crc32(Buffer.from("123456789")), 0xcbf43926);
});

test("8 and 16 bits come back through every filter, from one chunk or several", async () => {
  for (const depth of [8, 16])
    for (const filters of [[0], [1], [2], [3], [4], [4, 3, 2, 1, 0]])
      for (const [width, height] of [
        [1, 1],
        [1, 9],
        [9, 1],
        [13, 11],
      ]) {
        const data = noise(width * height, 2 ** depth);
        const picture = await decodePng("a.png", pngBytes({ width, height, data, depth, filters, parts: 3 }));
        assert.equal([picture.width, picture.height], [width, height]);
        assert.equal(
          [...picture.data],
          data,
          `${width} x ${height}, ${depth} bits, filters ${filters.join()}`,
        );
      }
});

test("what the report writes can be read", async () => {
  const data = Uint8Array.from(noise(20, 256));
  const back = await decodePng("a.png", encodePng({ width: 5, height: 4, channels: 1, data }));
  assert.equal(back.data, data);
});

test("ancillary chunks and bytes behind the end are passed over", async () => {
  const before = [chunk("tEXt", Buffer.from("Title\0slice")), chunk("pHYs", Buffer.alloc(9))];
  const bytes = Buffer.concat([pngBytes({ ...small, before }), Buffer.from("more")]);
  assert.equal([...(await decodePng("a.png", bytes)).data], small.data);
});

test("other kinds of PNG are refused by name", async () => {
  await refused(pngBytes({ ...small, colour: 2 }), /expected a grey PNG .*, found RGB: convert/);
  await refused(pngBytes({ ...small, colour: 3 }), /found palette/);
  await refused(pngBytes({ ...small, colour: 4 }), /found grey with alpha/);
  await refused(pngBytes({ ...small, colour: 6 }), /found RGB with alpha/);
  await refused(pngBytes({ ...small, colour: 5 }), /found unknown colour type 5/);
  await refused(pngBytes({ ...small, depth: 4 }), /expected 8 or 16 bits per pixel, found 4/);
  await refused(pngBytes({ ...small, interlace: 1 }), /not interlaced/);
  await refused(pngBytes({ ...small, claim: [0, 4] }), /at least one pixel, found a size of 0 x 4/);
  await refused(pngBytes({ ...small, before: [chunk("PLTE", Buffer.alloc(3))] }), /found PLTE/);
  await refused(Buffer.from("GIF89a, not a PNG"), /no PNG signature/);
  await refused(Buffer.alloc(0), /no PNG signature/);
});

test("a file cut anywhere is refused, and so is a changed byte", async () => {
  const bytes = pngBytes({ ...small, filters: [4], parts: 2 });
  for (let length = 0; length < bytes.length; length++) {
    await refused(bytes.subarray(0, length), length < 8 ? /signature/ : /cut short/);
  }
  for (let at = 0; at < bytes.length; at++) {
    const damaged = Buffer.from(bytes);
    damaged[at] ^= 1;
    await refused(damaged, /signature|check sum|cut short|claims/);
  }
});

test("a size is believed only as far as the data goes", async () => {
  await refused(
    pngBytes({ ...small, claim: [2 ** 32 - 1, 2 ** 32 - 1] }),
    /claims 4294967295 x 4294967295 pixels of 8 bits, found \d+ bytes of compressed data, too little/,
  );
  await refused(pngBytes({ ...small, claim: [5, 5] }), /claims 5 x 5 pixels of 8 bits in 30 bytes, found 24/);
  await refused(pngBytes({ ...small, claim: [5, 3] }), /claims 5 x 3 pixels of 8 bits, found more/);
  await refused(pngBytes({ ...small, rows: new Uint8Array(1 << 24) }), /claims 5 x 4 .*, found more/);
  await refused(pngBytes({ ...small, rows: new Uint8Array(24).fill(5) }), /row 0: .*, found 5/);
  const signature = pngBytes(small).subarray(0, 8);
  await refused(Buffer.concat([signature, chunk("IEND", Buffer.alloc(0))]), /IHDR first, found IEND/);
  await refused(
    Buffer.concat([signature, chunk("IHDR", Buffer.alloc(4)), chunk("IEND", Buffer.alloc(0))]),
    /IHDR: expected 13 bytes, found 4/,
  );
  const long = pngBytes(small);
  long.writeUInt32BE(0xffffffff, 33);
  await refused(long, /chunk IDAT at byte 33 claims 4294967295 bytes/);
  const noise = Buffer.from("this is no zlib stream at all");
  await refused(
    Buffer.concat([pngBytes(small).subarray(0, 33), chunk("IDAT", noise), chunk("IEND", Buffer.alloc(0))]),
    /expected whole compressed data/,
  );
});

test("a slice is a volume of depth 1 with pixels 1 mm apart", async () => {
  const data = noise(20, 65536);
  const image = await readImage(file(pngBytes({ ...small, depth: 16, data })));
  assert.equal(image.size, [5, 4, 1]);
  assert.equal(image.data, Float32Array.from(data));
  assert.equal(image.geometry.spacing, [1, 1, 1]);
  for (const gone of [join(root, "gone.png"), root + "/gone.nii"])
    await readImage(gone).then(
      () => assert.unreachable(),
      (error: Error) => assert.match(error.message, /expected a (PNG|NIfTI) file, found none/),
    );
});

test("labels are grey values; a mask of 0 and 255 is one of 0 and 1", async () => {
  const labels = async (values: number[], classes?: number, depth = 8) => [
    ...(await readLabels(file(pngBytes({ width: 4, height: 1, data: values, depth })), classes)).data,
  ];
  const fails = async (work: Promise<unknown>, pattern: RegExp) =>
    work.then(
      () => assert.unreachable(),
      (error: Error) => assert.match(error.message, pattern),
    );
  assert.equal(await labels([0, 1, 2, 1], 3), [0, 1, 2, 1]);
  assert.equal(await labels([0, 1, 2, 1], undefined, 16), [0, 1, 2, 1]);
  assert.equal(await labels([0, 255, 255, 0], 2), [0, 1, 1, 0]);
  assert.equal(await labels([0, 255, 255, 0]), [0, 1, 1, 0]);
  assert.equal(await labels([0, 0, 0, 0], 2), [0, 0, 0, 0]);
  assert.equal(await labels([0, 255, 1, 0]), [0, 255, 1, 0]);
  await fails(labels([0, 255, 1, 0], 2), /labels 0 to 1, found 1 voxel with others: 255 \(1 voxel\)/);
  await fails(labels([0, 255, 255, 0], 3), /labels 0 to 2, found 2 voxels/);
  await fails(labels([0, 256, 1, 0], undefined, 16), /labels 0 to 255, found 1 voxel with others: 256/);
});

test.after(() => rmSync(root, { recursive: true, force: true }));
test.run();
