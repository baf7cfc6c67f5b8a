/** NIfTI files that are written, whole or slice by slice, and read again. */
import fc from "fast-check";
import { mkdtempSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import * as oracle from "nifti-reader-js";
import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  readImage,
  readLabels,
  readSlices,
  writeImage,
  writeLabels,
  writeLabelSlices,
} from "../../lib/data/nifti.ts";
import { type Triple, type Volume, screenGeometry } from "../../lib/data/volume.ts";
import { niftiBytes } from "./nifti_bytes.ts";
import { close, dir, file, oracleHeader, rejects } from "./nifti_folder.ts";

test("a round trip keeps voxels and size, and the outside reader sees the same", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.tuple(
        fc.integer({ min: 1, max: 6 }),
        fc.integer({ min: 1, max: 6 }),
        fc.integer({ min: 1, max: 6 }),
      ),
      fc.constantFrom("float32", "int32", "uint8", "int16"),
      fc.boolean(),
      fc.nat(1000),
      async (size, type, gzip, seed) => {
        const n = size[0] * size[1] * size[2];
        const numbers = Array.from({ length: n }, (_, i) => ((i + seed) * 37) % 251);
        const data =
          type === "uint8"
            ? Uint8Array.from(numbers)
            : type === "int32"
              ? Int32Array.from(numbers, (v) => v * -70000)
              : Float32Array.from(numbers, (v) => (type === "int16" ? 100 - v : v / 3));
        const volume = { size, data, geometry: screenGeometry(size, [1, 2, 3]) };
        const path = join(dir, gzip ? "r.nii.gz" : "r.nii");
        await writeImage(path, volume, type === "int16" ? { dtype: "int16" } : {});
        const back = await readImage(path);
        assert.equal([...back.data], [...Float32Array.from(data)]);
        assert.equal([...back.size], [...size]);
        assert.ok(close(back.geometry.affine, volume.geometry.affine));
        const { header, data: raw } = oracleHeader(readFileSync(path));
        assert.ok(header && close(header.affine.flat(), volume.geometry.affine));
        assert.equal(header.dims.slice(1, 4), [...size]);
        const bits = { float32: 32, int32: 32, uint8: 8, int16: 16 }[type];
        assert.is(header.numBitsPerVoxel, bits);
        const image = oracle.readImage(header, raw);
        const View = { float32: Float32Array, int32: Int32Array, uint8: Uint8Array, int16: Int16Array }[type];
        assert.equal([...new View(image)], [...data]);
      },
    ),
    { numRuns: 80 },
  );
});

test("a mask written for an image keeps the image's placement exactly, both versions", async () => {
  for (const version of [1, 2] as const) {
    const image = await readImage(
      file(
        "p.nii.gz",
        gzipSync(
          niftiBytes({
            version,
            le: false,
            qform: 3,
            sform: 4,
            pixdim: [-1, 0.7265625, 0.3, 2.1, 0.5, 6, 7, 8],
            quatern: [0.1, 0.2, 0.3],
            qoffset: [-1.1, 2.2, 3.3],
            srow: [0.7, 0.01, 0, -100.1, 0, 0.3, 0, 2, 0, 0, 2.1, 3.3],
            units: 10,
          }),
        ),
      ),
    );
    const path = join(dir, "m.nii.gz");
    const mask = { size: image.size, data: new Uint8Array(24).fill(1), geometry: image.geometry };
    await writeLabels(path, mask);
    const back = await readLabels(path);
    assert.equal(back, mask);
    assert.is(back.geometry.nifti?.version, version);
  }
});

test("an extent above 32,767 is written as NIfTI-2", async () => {
  const size: Triple = [40000, 1, 1];
  const path = join(dir, "long.nii.gz");
  await writeLabels(path, {
    size,
    data: new Uint8Array(40000).fill(2),
    geometry: screenGeometry(size, [1, 1, 1]),
  });
  const back = await readLabels(path);
  assert.equal(back.size, size);
  assert.ok(back.data.every((v) => v === 2));
  assert.is(back.geometry.nifti?.version, 2);
});

test("slices come one after the other, with the values of the whole image", async () => {
  const size: Triple = [5, 4, 7];
  const data = Float32Array.from({ length: 140 }, (_, i) => i - 70.5);
  for (const name of ["s.nii", "s.nii.gz"]) {
    const path = join(dir, name);
    await writeImage(path, { size, data, geometry: screenGeometry(size, [1, 1, 1]) });
    const slices: Float32Array[] = [];
    for await (const slice of readSlices(path)) slices.push(slice);
    assert.equal(
      slices.map((slice) => slice.length),
      Array.from({ length: 7 }, () => 20),
    );
    assert.equal(
      slices.flatMap((slice) => [...slice]),
      [...data],
    );
    for await (const slice of readSlices(path)) {
      assert.is(slice[0], -70.5);
      break;
    }
  }
  const scaled = file("l.nii", niftiBytes({ slope: 2, inter: -3, body: new Uint8Array(24).fill(4) }));
  for await (const slice of readSlices(scaled)) assert.ok(slice.every((value) => value === 5));
  const short = file("l.nii", gzipSync(niftiBytes({ body: new Uint8Array(20) })));
  await rejects(
    (async () => {
      for await (const _ of readSlices(short)) assert.ok(_);
    })(),
    /found 20: the file is cut short/,
  );
});

test("label slices make the same file as the whole map", async () => {
  const size: Triple = [5, 4, 7];
  const data = Uint8Array.from({ length: 140 }, (_, i) => i);
  const volume = { size, data, geometry: screenGeometry(size, [1, 2, 3]) };
  async function* slices() {
    for (let z = 0; z < 7; z++) yield await Promise.resolve(data.slice(20 * z, 20 * (z + 1)));
  }
  for (const ending of [".nii", ".nii.gz"]) {
    const [whole, parts] = ["whole", "parts"].map((name) => join(dir, name + ending));
    await writeLabels(whole, volume);
    await writeLabelSlices(parts, volume, slices());
    const back = await readLabels(parts);
    assert.equal(back, await readLabels(whole));
    assert.equal(back.data, data);
  }
});

test("a write that fails leaves the old file and no other", async () => {
  const folder = mkdtempSync(join(dir, "atomic-"));
  const path = join(folder, "x.nii");
  const size: Triple = [1, 1, 2];
  const volume: Volume = { size, data: Float32Array.of(1, 2), geometry: screenGeometry(size, [1, 1, 1]) };
  await writeImage(path, volume);
  const before = readFileSync(path);
  const failing = {
    ...volume,
    data: Object.assign(Float32Array.of(1, 2), {
      subarray: () => {
        throw new Error("no more");
      },
    }),
  };
  // What the data throw is thrown as it is: a prediction that is stopped on the way says so.
  try {
    await writeImage(path, failing);
    assert.unreachable();
  } catch (error) {
    assert.is((error as Error).message, "no more");
  }
  assert.equal(readFileSync(path), before);
  assert.equal(readdirSync(folder), ["x.nii"]);
  await rejects(writeImage(join(folder, "none", "x.nii"), volume), /could not be written/);
  await rejects(writeImage(path, { ...volume, data: Float32Array.of(1) }), /holds 2 voxels, found 1/);
  await rejects(
    writeImage(path, { ...volume, data: Float32Array.of(1, 0.5) }, { dtype: "int16" }),
    /found 0\.5/,
  );
  try {
    await writeImage(join(folder, "x.mha"), volume);
    assert.unreachable();
  } catch (error) {
    assert.match((error as Error).message, /must be named \.nii or \.nii\.gz/);
  }
});

test.run();
