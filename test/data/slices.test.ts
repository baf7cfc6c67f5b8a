import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { inverse, rearrange, screenGeometry, type Triple, writeImage } from "../../lib/data/index.ts";
import { Random } from "../../lib/random.ts";
import { type Config, makeConfig } from "../../lib/train/config.ts";
import { loadVolume } from "../../lib/train/data.ts";
import { openSlices } from "../../lib/train/slices.ts";

const dir = mkdtempSync(join(tmpdir(), "voxgrad-slices-"));
const size: Triple = [33, 21, 9];
const random = new Random(4, 0);
const data = Float32Array.from({ length: 33 * 21 * 9 }, () => 300 * random.normal());
const path = join(dir, "scan.nii.gz");
await writeImage(path, { size, data, geometry: screenGeometry(size, [0.7, 0.8, 3]) });

const settings: Partial<Config>[] = [
  {},
  { normalize: "unit" },
  { normalize: "none", window: [-100, 200.5] },
  { normalize: "zscore", window: [-160.25, 240], orientation: "RAS" },
  { normalize: "unit", window: [-160, 240], orientation: "PLS" },
  { orientation: "ARS" },
];
for (const given of settings) {
  test(`slice by slice an image is the same as whole, ${JSON.stringify(given)}`, async () => {
    const config = makeConfig("recommended", given);
    const whole = await loadVolume({ id: "scan", image: path }, config, () => assert.unreachable());
    const sliced = await openSlices(path, config);
    assert.ok(sliced !== undefined);
    assert.equal(sliced.size, whole.size);
    assert.equal(sliced.file.geometry, whole.file.geometry);
    assert.equal(sliced.geometry.spacing, whole.geometry.spacing);
    const voxels = sliced.size[0] * sliced.size[1];
    let z = 0;
    for await (const slice of sliced.slices) {
      assert.equal(slice, whole.image.subarray(z * voxels, (z + 1) * voxels));
      // Turned back by itself, a slice is the file's own.
      const one: Triple = [sliced.size[0], sliced.size[1], 1];
      const turned = { size: one, data: slice, geometry: sliced.geometry };
      const back = rearrange(turned, inverse(sliced.file.rearranged));
      assert.equal(back.size, [33, 21, 1]);
      z++;
    }
    assert.is(z, 9);
  });
}

test("where z of the file is not the networks' z, an image is not read slice by slice", async () => {
  for (const orientation of ["LPI", "SPL", "LSA"])
    assert.is(await openSlices(path, makeConfig("recommended", { orientation })), undefined);
});

test("an intensity that is not finite is found wherever it lies", async () => {
  const bad = join(dir, "bad.nii");
  const values = data.slice();
  values[33 * 21 * 5 + 3] = Number.NaN;
  await writeImage(bad, { size, data: values, geometry: screenGeometry(size, [1, 1, 1]) });
  for (const normalize of ["zscore", "none"] as const) {
    const sliced = await openSlices(bad, makeConfig("recommended", { normalize }));
    try {
      for await (const slice of sliced?.slices ?? []) assert.ok(slice);
      assert.unreachable();
    } catch (error) {
      assert.match(String(error), /bad\.nii: expected finite intensities, found 1 voxel .* in slice 5/);
    }
  }
});

test.after(() => rmSync(dir, { recursive: true, force: true }));
test.run();
