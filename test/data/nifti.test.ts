/** What is read from a NIfTI file: voxels, scaled, as an image or as labels. */
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { type LabelMapping, LabelMap } from "../../lib/data/label_map.ts";
import { readImage, readLabels, writeImage } from "../../lib/data/nifti.ts";
import { type Triple, screenGeometry } from "../../lib/data/volume.ts";
import { type Spec, niftiBytes } from "./nifti_bytes.ts";
import { dir, file, rejects } from "./nifti_folder.ts";

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
    /labels 0 to 1, found 8 voxels with others: -1 \(1 voxel\), 0\.5 \(2 voxels\), 255 \(5 voxels\)/,
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
  await rejects(readLabels(odd, 2, { "1": 1, "*": 0 }), /found 1 voxel with others: 0\.5/);
  for (const wrong of ["{}", '{"-1":1}', '{"1.5":1}', '{"a":1}', '{"1":255}', '{"1":0.5}', '{"70000":1}']) {
    const read = () => new LabelMap(24, 3, JSON.parse(wrong) as LabelMapping);
    assert.throws(read, /a label map must be an object from label values/);
  }
});

test("trailing dimensions of 1 and fewer than three dimensions are accepted", async () => {
  assert.equal((await readImage(file("d.nii", niftiBytes({ dims: [5, 2, 3, 4, 1, 1] })))).size, [2, 3, 4]);
  assert.equal((await readImage(file("d.nii", niftiBytes({ dims: [2, 4, 6] })))).size, [4, 6, 1]);
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

test.run();
