/** Where the voxels of a NIfTI file lie, as it is read and as it is written. */
import fc from "fast-check";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { readHeader, readImage, writeImage } from "../../lib/data/nifti.ts";
import type { Triple } from "../../lib/data/volume.ts";
import { type Spec, niftiBytes } from "./nifti_bytes.ts";
import { close, dir, file, oracleHeader } from "./nifti_folder.ts";

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

test.run();
