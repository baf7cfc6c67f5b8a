import { test } from "uvu";
import * as assert from "uvu/assert";
import { classColour, hex } from "../../lib/report/palette.ts";
import { rearrangementTo } from "../../lib/data/orientation.ts";
import { drawCase } from "../../lib/report/run_report.ts";
import { percentileWindow, sliceTriptych, type Triple } from "../../lib/report/slices.ts";
import { decodePng, pixelAt } from "./decode.ts";

/** A volume that is 0 but for the voxels where `inside` holds. */
function volume(size: Triple, inside: (x: number, y: number, z: number) => boolean): Uint8Array {
  const data = new Uint8Array(size[0] * size[1] * size[2]);
  for (let i = 0; i < data.length; i++) {
    const [x, y, z] = [i % size[0], Math.floor(i / size[0]) % size[1], Math.floor(i / (size[0] * size[1]))];
    data[i] = inside(x, y, z) ? 1 : 0;
  }
  return data;
}

const RAS = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1];
const LPS = [-1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1];
// Voxel x runs to the head, y to the right, z to the back.
const SRP = [0, 1, 0, 0, 0, 0, -1, 0, 1, 0, 0, 0, 0, 0, 0, 1];

test("the patient's right front is at the top left, whatever the voxel order", () => {
  const size: Triple = [6, 6, 6];
  const corners: [string, ArrayLike<number> | undefined, (x: number, y: number, z: number) => boolean][] = [
    ["RAS", RAS, (x, y) => x >= 4 && y >= 4],
    ["no affine", undefined, (x, y) => x >= 4 && y >= 4],
    ["LPS", LPS, (x, y) => x < 2 && y < 2],
    ["SRP", SRP, (_, y, z) => y >= 4 && z < 2],
  ];
  for (const [name, affine, corner] of corners) {
    const image = Float32Array.from(volume(size, corner));
    const picture = decodePng(sliceTriptych({ image, size, affine }).image);
    assert.equal(pixelAt(picture, 0.1, 0.1), [255], name);
    assert.equal(pixelAt(picture, 0.9, 0.1), [0], name);
    assert.equal(pixelAt(picture, 0.1, 0.9), [0], name);
  }
});

test("what was cut out of a file is numbered as the file numbers it", () => {
  const size: Triple = [4, 4, 3];
  const label = volume(size, (x, _, z) => x === 2 && z === 2);
  const geometry = { spacing: [1, 1, 1] as Triple, affine: SRP };
  const case_ = { id: "a", image: new Float32Array(48), label, size };
  for (const [affine, slice] of [
    [RAS, 32],
    [SRP, 12],
  ] as const) {
    const file = { geometry: { ...geometry, affine }, rearranged: rearrangementTo(affine, "RAS") };
    const drawn = { ...case_, geometry: { ...geometry, affine }, file };
    const { pictures } = drawCase(drawn, label, { classes: 2 }, "test", [10, 20, 30]);
    assert.is(pictures.slice, slice);
  }
});

test("shows the slice with most foreground, else the middle one", () => {
  const size: Triple = [8, 8, 10];
  const image = new Float32Array(640);
  const truth = volume(size, (x, y, z) => x > 1 && x < (z === 7 ? 6 : 3) && y === 3);
  const prediction = volume(size, (_, __, z) => z === 2);
  const empty = new Uint8Array(640);
  const { slice, axis } = sliceTriptych({ image, size, truth, prediction });
  assert.equal([slice, axis], [7, 2]);
  assert.is(sliceTriptych({ image, size, truth: empty, prediction }).slice, 2);
  assert.is(sliceTriptych({ image, size, truth: empty }).slice, 5);
  // With x to the head, slices are counted along x.
  const cube: Triple = [8, 8, 8];
  const along = volume(cube, (x) => x === 6);
  assert.is(sliceTriptych({ image: new Float32Array(512), size: cube, affine: SRP, truth: along }).slice, 6);
});

test("small pictures are enlarged and anisotropic voxels keep their shape", () => {
  const shape = (size: Triple, spacing: Triple) => {
    const { width, height } = sliceTriptych({
      image: new Float32Array(size[0] * size[1] * size[2]),
      size,
      spacing,
    });
    return [width, height];
  };
  assert.equal(shape([35, 51, 3], [1, 1, 1]), [245, 357]);
  assert.equal(shape([100, 50, 1], [0.5, 2, 1]), [300, 600]);
  assert.equal(shape([50, 100, 1], [2, 0.5, 1]), [400, 200]);
  assert.equal(shape([512, 512, 1], [0.7, 0.7, 5]), [512, 512]);
  assert.equal(shape([2000, 1000, 1], [1, 1, 1]), [800, 400]);
});

test("a class has a tinted inside and an outline of its colour; the truth is dashed over the prediction", () => {
  const size: Triple = [20, 20, 1];
  const image = new Float32Array(400).map((_, i) => i % 2);
  const truth = volume(size, (x, y) => x >= 5 && x < 15 && y >= 5 && y < 15);
  const { truth: drawn, prediction } = sliceTriptych({
    image,
    size,
    truth,
    prediction: new Uint8Array(400),
    window: [0, 1],
  });
  const picture = decodePng(drawn ?? "");
  assert.is(picture.channels, 3);
  const colours = new Map<string, number>();
  for (let i = 0; i < picture.data.length; i += 3) {
    const colour = hex([picture.data[i], picture.data[i + 1], picture.data[i + 2]]);
    colours.set(colour, (colours.get(colour) ?? 0) + 1);
  }
  // 12 pixels a voxel: a square of 120 x 120 has 476 outline pixels.
  assert.is(colours.get(hex(classColour(1))), 476);
  assert.equal(
    new Set(colours.keys()),
    new Set(["#000000", "#ffffff", hex(classColour(1)), "#513800", "#f6dda6"]),
  );

  const hint = decodePng(prediction ?? "");
  const at = (x: number, y: number) =>
    [...hint.data.subarray((y * 240 + x) * 3, (y * 240 + x) * 3 + 3)].join();
  const edge = Array.from({ length: 120 }, (_, i) => at(60 + i, 60));
  assert.equal(new Set(edge), new Set(["255,255,255", "20,20,20"]));
  assert.is(at(59, 59) === "20,20,20", false);
});

test("the grey window leaves out outliers and values that are not finite", () => {
  const image = Float32Array.from({ length: 10_000 }, (_, i) => i / 10_000);
  image[17] = 1e9;
  image[18] = -1e9;
  image[19] = Number.NaN;
  const [black, white] = percentileWindow(image);
  assert.ok(Math.abs(black - 0.005) < 0.001 && Math.abs(white - 0.995) < 0.001);
  assert.equal(percentileWindow(new Float32Array(4).fill(Number.NaN)), [0, 1]);
  const mask = new Float32Array(1000);
  mask[3] = 1;
  assert.equal(percentileWindow(mask), [0, 1]);
});

test("arrays of another size are refused by name", () => {
  const image = new Float32Array(8);
  const size: Triple = [2, 2, 2];
  assert.throws(
    () => sliceTriptych({ image, size, truth: new Uint8Array(7) }),
    /truth has 7 voxels, expected 2 x 2 x 2 = 8/,
  );
});

test("classes beyond the palette still get colours of their own", () => {
  const colours = Array.from({ length: 21 }, (_, i) => hex(classColour(i + 1)));
  assert.is(new Set(colours).size, 21);
});

test.run();
