import fc from "fast-check";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import * as oracle from "nifti-reader-js";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { LabelMap, type LabelMapping } from "../../lib/data/label_map.ts";
import {
  readHeader,
  readImage,
  readLabels,
  readSlices,
  writeImage,
  writeLabels,
  writeLabelSlices,
} from "../../lib/data/nifti.ts";
import { screenGeometry, type Triple, type Volume } from "../../lib/data/volume.ts";
import { niftiBytes, type Spec } from "./nifti_bytes.ts";

const dir = mkdtempSync(join(tmpdir(), "voxgrad-nifti-"));
const file = (name: string, bytes: Uint8Array): string => {
  const path = join(dir, name);
  writeFileSync(path, bytes);
  return path;
};

function oracleHeader(bytes: Buffer) {
  const plain = bytes[0] === 0x1f ? gunzipSync(bytes) : bytes;
  const data = new Uint8Array(plain).buffer;
  return { header: oracle.readHeader(data), data };
}

/** How each type stores a number, through DataView: [code, bytes, write]. */
const types: Record<string, [number, number, (view: DataView, at: number, v: number, le: boolean) => void]> =
  {
    uint8: [2, 1, (view, at, v) => view.setUint8(at, v)],
    int8: [256, 1, (view, at, v) => view.setInt8(at, v)],
    uint16: [512, 2, (view, at, v, le) => view.setUint16(at, v, le)],
    int16: [4, 2, (view, at, v, le) => view.setInt16(at, v, le)],
    uint32: [768, 4, (view, at, v, le) => view.setUint32(at, v, le)],
    int32: [8, 4, (view, at, v, le) => view.setInt32(at, v, le)],
    uint64: [1280, 8, (view, at, v, le) => view.setBigUint64(at, BigInt(v), le)],
    int64: [1024, 8, (view, at, v, le) => view.setBigInt64(at, BigInt(v), le)],
    float32: [16, 4, (view, at, v, le) => view.setFloat32(at, v, le)],
    float64: [64, 8, (view, at, v, le) => view.setFloat64(at, v, le)],
  };

function bodyOf(type: string, values: readonly number[], le: boolean): Uint8Array {
  const [, bytes, write] = types[type];
  const body = new Uint8Array(values.length * bytes);
  const view = new DataView(body.buffer);
  values.forEach((value, i) => write(view, i * bytes, value, le));
  return body;
}

test("every type, byte order and version gives the stored numbers, scaled", async () => {
  for (const type of Object.keys(types)) {
    const low = type.startsWith("u") ? 0 : -128;
    const values = Array.from({ length: 24 }, (_, i) => low + i * 5);
    if (type.endsWith("64") && type !== "float64") values[0] = type === "int64" ? -(2 ** 40) : 2 ** 40;
    if (type.startsWith("float")) values[1] = 0.5;
    for (const le of [true, false]) {
      for (const version of [1, 2] as const) {
        const [code, bytes] = types[type];
        const spec: Spec = { version, le, code, bits: bytes * 8, body: bodyOf(type, values, le) };
        const plain = await readImage(file("t.nii", niftiBytes(spec)));
        assert.equal([...plain.data], values, `${type} le=${le} v${version}`);
        assert.equal(plain.size, [2, 3, 4]);
        const scaled = await readImage(
          file("t.nii.gz", gzipSync(niftiBytes({ ...spec, slope: 2, inter: -7 }))),
        );
        assert.equal(
          [...scaled.data],
          values.map((v) => Math.fround(v * 2 - 7)),
        );
      }
    }
  }
});

test("large files cross chunk borders in every element width", async () => {
  for (const type of ["int16", "float32", "int64"]) {
    const [code, bytes] = types[type];
    const values = Array.from({ length: 101 * 67 * 31 }, (_, i) => (i * 7919) % 30011);
    const spec = {
      code,
      bits: bytes * 8,
      le: false,
      dims: [3, 101, 67, 31, 1, 1, 1, 1],
      body: bodyOf(type, values, false),
    };
    const extension = new Uint8Array(12816).fill(3);
    for (const bytes of [niftiBytes({ ...spec, extension }), gzipSync(niftiBytes({ ...spec, extension }))]) {
      const { data } = await readImage(file("large.nii", bytes));
      assert.ok(
        values.every((value, i) => data[i] === value),
        type,
      );
    }
  }
});

test("scl_slope 0 or NaN means no scaling", async () => {
  for (const slope of [0, Number.NaN]) {
    const { data } = await readImage(
      file("s.nii", niftiBytes({ slope, inter: 5, body: new Uint8Array(24).fill(9) })),
    );
    assert.ok(data.every((v) => v === 9));
  }
});

const close = (a: readonly number[], b: readonly number[]) =>
  a.length === b.length && a.every((v, i) => Math.abs(v - b[i]) < 1e-4 * Math.max(1, Math.abs(b[i])));

test("the affine follows sform, then qform, then pixdim; a qform agrees with the outside reader", async () => {
  const pixdim = [-1, 2, 3, 4, 1, 1, 1, 1];
  const srow = [0, -3, 0, 10, 2, 0, 0, 20, 0, 0, 4, 30];
  const quatern = [0.1, -0.5, 0.3];
  const base: Spec = { pixdim, srow, quatern, qoffset: [5, 6, 7], qform: 1, sform: 2 };
  const s = await readImage(file("a.nii", niftiBytes(base)));
  assert.equal(s.geometry.affine, [...srow, 0, 0, 0, 1]);
  assert.equal(s.geometry.spacing, [2, 3, 4]);
  for (const spec of [
    { ...base, sform: 0 },
    { ...base, srow: new Array<number>(12).fill(0) },
  ]) {
    const q = await readImage(file("a.nii", niftiBytes(spec)));
    const bytes = niftiBytes({ ...base, sform: 0 });
    const header = oracleHeader(bytes).header as unknown as { affine: number[][] };
    assert.ok(close(q.geometry.affine, header.affine.flat()), q.geometry.affine.join());
    assert.ok(close(q.geometry.spacing, [2, 3, 4]));
  }
  const p = await readImage(file("a.nii", niftiBytes({ ...base, sform: 0, qform: 0 })));
  assert.equal(p.geometry.affine, [2, 0, 0, 0, 0, 3, 0, 0, 0, 0, 4, 0, 0, 0, 0, 1]);
  const metres = await readImage(file("a.nii", niftiBytes({ ...base, units: 1, sform: 0, qform: 0 })));
  assert.equal(metres.geometry.spacing, [2000, 3000, 4000]);
});

test("written geometry is read by the outside reader as it was meant, with and without right angles", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.tuple(
        fc.double({ min: -3, max: 3, noNaN: true }),
        fc.double({ min: -3, max: 3, noNaN: true }),
        fc.boolean(),
      ),
      async ([u, v, flip]) => {
        const [cu, su, cv, sv] = [Math.cos(u), Math.sin(u), Math.cos(v), Math.sin(v)];
        const k = flip ? -5 : 5;
        const affine = [
          cu * cv * 2,
          -su * 3,
          cu * sv * k,
          11,
          su * cv * 2,
          cu * 3,
          su * sv * k,
          -7,
          -sv * 2,
          0,
          cv * k,
          4,
          0,
          0,
          0,
          1,
        ];
        const size: Triple = [2, 2, 2];
        const volume = {
          size,
          data: new Float32Array(8),
          geometry: { spacing: [2, 3, 5] as Triple, affine },
        };
        const path = join(dir, "g.nii");
        await writeImage(path, volume);
        const back = await readImage(path);
        assert.ok(close(back.geometry.affine, affine));
        const bytes = readFileSync(path);
        bytes.writeInt16LE(0, 254);
        writeFileSync(path, bytes);
        const q = (await readImage(path)).geometry.affine;
        assert.ok(close(q, affine), `${q.join()} against ${affine.join()}`);
      },
    ),
    { numRuns: 60 },
  );
  const sheared = [1, 0.5, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1];
  const geometry = { spacing: [1, Math.sqrt(1.25), 1] as Triple, affine: sheared };
  const path = join(dir, "sheared.nii");
  await writeImage(path, { size: [1, 1, 1], data: new Float32Array(1), geometry });
  const { nifti } = (await readHeader(path)).geometry;
  assert.equal([nifti.qformCode, nifti.sformCode], [0, 1]);
});

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

test("labels are rounded when near a whole number and listed when not", async () => {
  const near = bodyOf(
    "float32",
    Array.from({ length: 24 }, (_, i) => (i % 3) + 0.0004),
    true,
  );
  const read = await readLabels(file("l.nii", niftiBytes({ code: 16, bits: 32, body: near })), 3);
  assert.equal([...read.data.subarray(0, 4)], [0, 1, 2, 0]);
  const values = Array.from({ length: 24 }, (_, i) => (i < 5 ? 255 : i < 7 ? 0.5 : i < 8 ? -1 : 1));
  const path = file("l.nii", niftiBytes({ code: 16, bits: 32, body: bodyOf("float32", values, true) }));
  await rejects(
    readLabels(path, 2),
    /labels 0 to 1, found 8 voxels with others: -1 \(1 voxels\), 0\.5 \(2 voxels\), 255 \(5 voxels\)/,
  );
  const all = file("l.nii", niftiBytes({ body: new Uint8Array(24).fill(255) }));
  assert.is((await readLabels(all)).data[0], 255);
  const many = niftiBytes({ body: Uint8Array.from({ length: 24 }, (_, i) => i + 10) });
  await rejects(readLabels(file("l.nii", many), 2), /and 16 voxels with further values/);
});

test('a label map takes stored values to classes; what it does not name is an error or what "*" says', async () => {
  const values = Array.from({ length: 24 }, (_, i) => [0, 117, 5, 14175, 300][i % 5]);
  const path = file("l.nii", niftiBytes({ code: 16, bits: 32, body: bodyOf("float32", values, true) }));
  const map = { "5": 1, "117": 2, "14175": 1 };
  assert.equal([...(await readLabels(path, 3, { ...map, "300": 0 })).data.subarray(0, 5)], [0, 2, 1, 1, 0]);
  assert.equal([...(await readLabels(path, 4, { ...map, "*": 3 })).data.subarray(0, 5)], [0, 2, 1, 1, 3]);
  assert.equal([...(await readLabels(path, 3, { ...map, "0": 2, "*": 0 })).data.subarray(0, 2)], [2, 2]);
  await rejects(
    readLabels(path, 3, map),
    /values that the label map takes to classes 0 to 2 .*found 4 voxels with others: 300 \(4 voxels\)/,
  );
  await rejects(readLabels(path, 2, { ...map, "*": 0 }), /found 5 voxels with others: 117 \(5 voxels\)/);
  const below = Array.from({ length: 24 }, (_, i) => (i === 3 ? -1 : i === 4 ? 0.5 : i === 5 ? 70_000 : 0));
  const odd = file("l.nii", niftiBytes({ code: 16, bits: 32, body: bodyOf("float32", below, true) }));
  await rejects(readLabels(odd, 2, { "1": 1 }), /found 3 voxels with others: -1 .*0\.5 .*70000/);
  await rejects(readLabels(odd, 2, { "1": 1, "*": 0 }), /found 1 voxels with others: 0\.5/);
  for (const wrong of ["{}", '{"-1":1}', '{"1.5":1}', '{"a":1}', '{"1":255}', '{"1":0.5}', '{"70000":1}']) {
    const read = () => new LabelMap(24, 3, JSON.parse(wrong) as LabelMapping);
    assert.throws(read, /a label map must be an object from label values/);
  }
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

async function rejects(work: Promise<unknown>, pattern: RegExp): Promise<void> {
  try {
    await work;
  } catch (error) {
    const { code, message } = error as { code?: string; message: string };
    assert.ok(code === "ERR_DATA", `expected a DataError, found ${String(error)}`);
    assert.match(message, pattern);
    assert.ok(message.startsWith(dir), `the message names the file: ${message}`);
    return;
  }
  assert.unreachable(`expected an error like ${String(pattern)}`);
}

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

test("trailing dimensions of 1 and fewer than three dimensions are accepted", async () => {
  assert.equal((await readImage(file("d.nii", niftiBytes({ dims: [5, 2, 3, 4, 1, 1] })))).size, [2, 3, 4]);
  assert.equal((await readImage(file("d.nii", niftiBytes({ dims: [2, 4, 6] })))).size, [4, 6, 1]);
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

test("the event loop turns while a large volume is read", async () => {
  const size: Triple = [200, 200, 60];
  const path = join(dir, "big.nii.gz");
  const data = Float32Array.from({ length: 2400000 }, (_, i) => i % 1000);
  await writeImage(path, { size, data, geometry: screenGeometry(size, [1, 1, 1]) }, { dtype: "int16" });
  let ticks = 0;
  const timer = setInterval(() => ticks++, 1);
  const image = await readImage(path);
  clearInterval(timer);
  assert.ok(ticks >= 3, `${ticks} ticks`);
  assert.is(image.data[2399999], 999);
});

test.after(() => rmSync(dir, { recursive: true }));
test.run();
