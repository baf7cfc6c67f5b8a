import { existsSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { loadCase } from "../../lib/data/dataset.ts";
import {
  inverse,
  isOrientation,
  orientationOf,
  rearrange,
  rearrangementTo,
} from "../../lib/data/orientation.ts";
import { screenGeometry, type Triple, type Volume } from "../../lib/data/volume.ts";
import { makeConfig } from "../../lib/train/config.ts";
import { loadVolume } from "../../lib/train/data.ts";

const size: Triple = [2, 3, 4];
const volume: Volume<Float32Array> = {
  size,
  data: Float32Array.from({ length: 24 }, (_, i) => i),
  geometry: screenGeometry(size, [1, 2, 5]),
};

/** Every voxel's value by the place in millimetres where its geometry puts it. */
function places({ size: [sx, sy, sz], data, geometry: { affine } }: Volume): Map<string, number> {
  const found = new Map<string, number>();
  for (let z = 0, i = 0; z < sz; z++)
    for (let y = 0; y < sy; y++)
      for (let x = 0; x < sx; x++, i++) {
        const at = [0, 4, 8].map(
          (row) => affine[row] * x + affine[row + 1] * y + affine[row + 2] * z + affine[row + 3],
        );
        found.set(at.map((mm) => mm.toFixed(3)).join(" "), data[i]);
      }
  return found;
}

const letters = ["RL", "AP", "SI"];
const orders = [
  [0, 1, 2],
  [0, 2, 1],
  [1, 0, 2],
  [1, 2, 0],
  [2, 0, 1],
  [2, 1, 0],
];
const orientations = orders.flatMap((order) =>
  [0, 1, 2, 3, 4, 5, 6, 7].map((bits) => order.map((axis, i) => letters[axis][(bits >> i) & 1]).join("")),
);

test("in all 48 orientations every voxel stays at its place, and the way back gives the same bytes", () => {
  assert.is(new Set(orientations).size, 48);
  assert.is(orientationOf(volume.geometry.affine), "LPS");
  const before = places(volume);
  for (const orientation of orientations) {
    const way = rearrangementTo(volume.geometry.affine, orientation);
    const turned = rearrange(volume, way);
    assert.is(orientationOf(turned.geometry.affine), orientation);
    const after = places(turned);
    assert.equal([...after].sort(), [...before].sort(), orientation);
    const back = rearrange(turned, inverse(way));
    assert.equal(back.size, size);
    assert.equal(back.data, volume.data);
    assert.equal(back.geometry.spacing, [1, 2, 5]);
    back.geometry.affine.forEach((value, i) =>
      assert.ok(Math.abs(value - volume.geometry.affine[i]) < 1e-12),
    );
  }
});

test("nothing is copied where nothing turns, and the letters are checked", () => {
  assert.is(rearrange(volume, rearrangementTo(volume.geometry.affine, "LPS")), volume);
  assert.not(["", "LP", "LPP", "LRS", "lps", "LPSS", "XYZ"].some(isOrientation));
  assert.throws(() => rearrangementTo(volume.geometry.affine, "LLS"), /three letters such as LPS/);
  for (const orientation of ["file", "RAS"]) makeConfig("recommended", { orientation });
  assert.throws(
    () => makeConfig("recommended", { orientation: "ras" }),
    /setting "orientation": expected "file", or/,
  );
});

test("oblique axes go with the directions that they are nearest to", () => {
  const turn = (degrees: number) => {
    const [c, s] = [Math.cos((degrees * Math.PI) / 180), Math.sin((degrees * Math.PI) / 180)];
    return [2 * c, -2 * s, 0, 0, 2 * s, 2 * c, 0, 0, 0, 0, -3, 0, 0, 0, 0, 1];
  };
  assert.is(orientationOf(turn(30)), "RAI");
  assert.is(orientationOf(turn(60)), "ALI");
  assert.is(orientationOf(turn(-100)), "PRI");
});

const sct = join(import.meta.dirname, "../../../shared/data/sct");
if (existsSync(sct)) {
  test("real: spine MR of two orientations, turned with their masks and back", async () => {
    for (const [name, stored] of [
      ["t1w", "RAS"],
      ["t2", "PSR"],
    ]) {
      const each = {
        id: name,
        image: join(sct, `${name}.nii.gz`),
        label: join(sct, `${name}_seg-manual.nii.gz`),
      };
      const { image, label } = await loadCase(each, 2);
      assert.is(orientationOf(image.geometry.affine), stored);
      const config = makeConfig("recommended", { orientation: "LPS", normalize: "none" });
      const loaded = await loadVolume(each, config, (warning) => assert.unreachable(warning));
      assert.is(orientationOf(loaded.geometry.affine), "LPS");
      const turned = { size: loaded.size, data: loaded.image, geometry: loaded.geometry };
      const restored = rearrange(turned, inverse(loaded.file.rearranged));
      assert.equal(restored.size, image.size);
      assert.equal(restored.data, image.data);
      const cord = { ...turned, data: loaded.label as Uint8Array };
      const back = rearrange(cord, inverse(loaded.file.rearranged));
      assert.equal(back.data, label?.data);
      assert.is(loaded.file.geometry.nifti?.sformCode, 1);
      // The cord runs from head to feet: along z it is far longer than across, in both scans.
      const [x, y, z] = [0, 1, 2].map((axis) => extent(loaded.label as Uint8Array, loaded.size, axis));
      assert.ok(z > 2 * Math.max(x, y), `${name}: ${x} x ${y} x ${z}`);
    }
  });
} else {
  console.log("skipped: the spine scans need ../shared/data/sct");
}

function extent(label: Uint8Array, [sx, sy]: Triple, axis: number): number {
  const at = [...label.keys()].filter((i) => label[i] === 1);
  const along = at.map((i) => [i % sx, Math.floor(i / sx) % sy, Math.floor(i / (sx * sy))][axis]);
  return Math.max(...along) - Math.min(...along) + 1;
}

test.run();
