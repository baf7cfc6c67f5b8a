/** NIfTI files that are refused, and what the message says. */
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { readHeader, readImage } from "../../lib/data/nifti.ts";
import { type Spec, niftiBytes } from "./nifti_bytes.ts";
import { dir, file, rejects } from "./nifti_folder.ts";

const hostile: [string, Spec, RegExp][] = [
  ["negative extent", { dims: [3, -2, 3, 4] }, /dim: expected positive extents, found -2 x 3 x 4/],
  ["zero extent", { dims: [3, 2, 0, 4] }, /positive extents/],
  ["no dimensions", { dims: [0, 2, 3, 4] }, /dim\[0\]: expected 1 to 7 dimensions, found 0/],
  ["too many dimensions", { dims: [8, 2, 3, 4] }, /dim\[0\]/],
  [
    "a real fourth dimension",
    { dims: [4, 2, 3, 2, 2] },
    /at most three dimensions longer than 1, found 2 x 3 x 2 x 2/,
  ],
  ["huge extents", { dims: [3, 32767, 32767, 32767] }, /voxels/],
  [
    "extents that overflow",
    { version: 2, dims: [3, 2 ** 53, 2 ** 53, 2 ** 53] },
    /dim: expected at most \d+ voxels/,
  ],
  ["more voxels than bytes", { dims: [3, 200, 200, 200] }, /promises 200 x 200 x 200 voxels/],
  ["complex voxels", { code: 32, bits: 64 }, /complex64 \(code 32\), which is not supported/],
  ["RGB voxels", { code: 128, bits: 24 }, /RGB24/],
  ["an unknown type", { code: 3 }, /unknown code 3/],
  ["bitpix that contradicts", { bits: 16 }, /bitpix: expected 8 for datatype uint8, found 16/],
  [
    "vox_offset in the header",
    { offset: 100 },
    /vox_offset: expected a whole number of bytes, 348 or more, found 100/,
  ],
  ["vox_offset behind the end", { offset: 1e6 }, /from byte 1000000 |found 0: the file is cut short/],
  ["vox_offset NaN", { offset: Number.NaN }, /vox_offset/],
  ["pixdim NaN", { pixdim: [1, Number.NaN, 1, 1] }, /pixdim: expected finite numbers/],
  ["pixdim 0", { pixdim: [1, 0, 1, 1] }, /positive voxel spacing/],
  [
    "infinite sform",
    { sform: 1, srow: [Number.POSITIVE_INFINITY, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0] },
    /geometry/,
  ],
  ["NaN qform", { qform: 1, quatern: [Number.NaN, 0, 0] }, /geometry/],
  ["infinite intercept", { inter: Number.POSITIVE_INFINITY }, /scl_inter/],
  ["a pair's header", { magic: "ni1\0" }, /\.hdr\/\.img pair/],
  ["no magic", { magic: "\0\0\0\0" }, /magic: expected "n\+1"/],
];
for (const [what, spec, pattern] of hostile) {
  test(`refused: ${what}`, async () => {
    await rejects(readImage(file("h.nii", niftiBytes(spec))), pattern);
    await rejects(readImage(file("h.nii.gz", gzipSync(niftiBytes(spec)))), pattern);
  });
}

test("refused: files that are cut short, damaged, mislabelled, missing or no file", async () => {
  const whole = niftiBytes({
    dims: [3, 20, 30, 40],
    body: Uint8Array.from({ length: 24000 }, (_, i) => (i * 2654435761) >>> 24),
  });
  await rejects(readImage(file("c.nii", whole.subarray(0, 2000))), /found 2000 bytes/);
  await rejects(
    readImage(file("c.nii", whole.subarray(0, 200))),
    /length: expected at least 348 bytes, found 200/,
  );
  await rejects(readImage(file("c.nii", new Uint8Array(0))), /found 0/);
  await rejects(
    readImage(file("c.nii.gz", gzipSync(whole.subarray(0, 2000)))),
    /found 1648: the file is cut short/,
  );
  const zipped = gzipSync(whole);
  await rejects(
    readImage(file("c.nii.gz", zipped.subarray(0, zipped.length - 100))),
    /gzip data, found it damaged or cut short/,
  );
  const damaged = Buffer.from(zipped);
  damaged.fill(0x5a, 1000, 1100);
  await rejects(readImage(file("c.nii.gz", damaged)), /damaged or cut short/);
  const checksum = Buffer.from(zipped);
  checksum[checksum.length - 6] ^= 1;
  await rejects(readImage(file("c.nii.gz", checksum)), /damaged or cut short/);
  await rejects(
    readHeader(file("c.nii.gz", Buffer.alloc(600, "text "))),
    /found neither gzip nor NIfTI.*sizeof_hdr/,
  );
  await rejects(readImage(file("c.nii", Buffer.alloc(600, "text "))), /sizeof_hdr: expected 348/);
  await rejects(readImage(join(dir, "nowhere.nii")), /expected a NIfTI file, found none/);
  await rejects(readImage(dir), /could not be read/);
  assert.is(
    (await readImage(file("plain.nii.gz", whole))).data[3],
    218,
    "plain NIfTI is read whatever its name",
  );
});

test.run();
