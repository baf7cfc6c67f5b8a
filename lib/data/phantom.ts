import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { counted, DataError, UsageError } from "../errors.ts";
import { makeFolder } from "./folder.ts";
import { writeImage, writeLabels } from "./nifti.ts";
import {
  drawPhase,
  drawStructures,
  drawTrunk,
  type Organ,
  organs,
  type Phase,
  type Trunk,
} from "./phantom_anatomy.ts";
import { ENDLESS, type Shape, solid, waves } from "./phantom_shapes.ts";
import { Random } from "../random.ts";
import { screenGeometry, type Triple, type Volume, voxelCount } from "./volume.ts";

export interface PhantomOptions {
  /** Voxels along x, y, z; at least 16 each. */
  size: Triple;
  /** In mm. The trunk fills the volume whatever it is; the default spans 360 x 360 x 240 mm. */
  spacing?: Triple;
  seed: number;
  /** Number of the case within its cohort. */
  index: number;
  /** 2 (default): background and liver. 5: liver 1, spleen 2, kidneys 3, stomach 4. */
  classes?: 2 | 5;
}

export interface PhantomCase {
  /** Hounsfield units, whole numbers from -1024 to 3071. */
  image: Volume<Float32Array>;
  labels: Volume<Uint8Array>;
  /** Contrast phase that was drawn. */
  phase: Phase;
}

const AIR = -1000;
const FAT = -100;

interface Canvas {
  size: Triple;
  /** Centre of each voxel along an axis, in -1 … 1. */
  places: readonly Float64Array[];
  hu: Float32Array;
  labels: Uint8Array;
  /** Width, in field-of-view units, over which a border goes from outside to inside: about one voxel. */
  softness: number;
}

/** Index range of the voxels between `low` and `high`. */
function span(places: Float64Array, low: number, high: number): [number, number] {
  const step = 2 / places.length;
  const first = Math.max(0, Math.floor((low + 1) / step - 0.5));
  const last = Math.min(places.length, Math.ceil((high + 1) / step + 0.5));
  return [first, last];
}

interface Paint {
  shape: Shape;
  label: number;
  /** Displacement of every voxel along x, y, z; absent for what does not bend. */
  bend?: readonly Float32Array[];
  value: (voxel: number) => number;
}

/**
 * Paints one solid over the canvas: intensities mix by the share of the voxel that it fills, the label goes
 * to the larger share.
 */
function paint(canvas: Canvas, { shape, label, bend, value }: Paint): void {
  const { size, places, hu, labels, softness } = canvas;
  const margin = softness + (bend ? 0.2 : 0);
  const [x0, x1] = span(places[0], shape.low[0] - margin, shape.high[0] + margin);
  const [y0, y1] = span(places[1], shape.low[1] - margin, shape.high[1] + margin);
  const [z0, z1] = span(places[2], shape.low[2] - margin, shape.high[2] + margin);
  for (let z = z0; z < z1; z++) {
    for (let y = y0; y < y1; y++) {
      const row = (z * size[1] + y) * size[0];
      for (let x = x0; x < x1; x++) {
        const i = row + x;
        const distance = bend
          ? shape.distance(places[0][x] + bend[0][i], places[1][y] + bend[1][i], places[2][z] + bend[2][i])
          : shape.distance(places[0][x], places[1][y], places[2][z]);
        const share = Math.min(1, 0.5 - distance / softness);
        if (share <= 0) continue;
        hu[i] += share * (value(i) - hu[i]);
        if (share > 0.5) labels[i] = label;
      }
    }
  }
}

/** Values of a smooth function at every voxel. */
function field(canvas: Canvas, f: (x: number, y: number, z: number) => number): Float32Array {
  const [xs, ys, zs] = canvas.places;
  const out = new Float32Array(voxelCount(canvas.size));
  let i = 0;
  for (const z of zs) for (const y of ys) for (const x of xs) out[i++] = f(x, y, z);
  return out;
}

/** Skin, fat under it, the muscular wall, fat inside, and the table beneath. */
function paintTrunk(canvas: Canvas, trunk: Trunk, muscle: number): void {
  const cylinder = (radii: readonly [number, number], y: number) =>
    solid([0, y, 0], [radii[0], radii[1], ENDLESS], { exponent: 2.2 });
  const inset = ([rx, ry]: readonly [number, number], by: number) => [rx - by, ry - by] as const;
  const layers = [
    {
      shape: solid([0, trunk.skin[1] + 0.1, 0], [0.9, 0.07, ENDLESS], { exponent: 5 }),
      hu: -600,
    },
    { shape: cylinder(trunk.skin, 0), hu: 10 },
    { shape: cylinder(inset(trunk.skin, 0.022), 0), hu: FAT },
    { shape: cylinder(inset(trunk.skin, trunk.fat), 0), hu: muscle },
    { shape: cylinder(trunk.cavity, trunk.cavityY), hu: FAT + 5 },
  ];
  for (const { shape, hu } of layers) paint(canvas, { shape, label: 0, value: () => hu });
}

/** Slanting ribs in the wall around the upper cavity: a bright shell with a softer core. */
function paintRibs(canvas: Canvas, trunk: Trunk, random: Random): void {
  const [a, b] = [trunk.cavity[0] + trunk.wall * 0.5, trunk.cavity[1] + trunk.wall * 0.5];
  const pitch = random.between(0.24, 0.3);
  const start = pitch * random.uniform();
  const slant = random.between(0.22, 0.32);
  const thickness = trunk.wall * 0.45;
  const shape: Shape = {
    low: [-a - trunk.wall, trunk.cavityY - b - trunk.wall, -0.55],
    high: [a + trunk.wall, trunk.cavityY + b + trunk.wall, 2],
    distance(x, y, z) {
      const [u, v] = [x / a, (y - trunk.cavityY) / b];
      const radial = (Math.hypot(u, v) - 1) * Math.min(a, b);
      const fromSpine = Math.abs(Math.atan2(u, v));
      if (fromSpine < 0.35 || fromSpine > 2.5 || z < -0.5) return 1;
      const phase = (z + slant * fromSpine - start) / pitch;
      const along = (phase - Math.round(phase)) * pitch;
      return Math.hypot(radial, along * 0.6) - thickness;
    },
  };
  paint(canvas, { shape, label: 0, value: () => 330 });
  const core: Shape = { ...shape, distance: (x, y, z) => shape.distance(x, y, z) + thickness * 0.6 };
  paint(canvas, { shape: core, label: 0, value: () => 160 });
}

/** Smooths along one axis with weights (w, 1 - 2w, w); border values are repeated. */
function blur(data: Float32Array, size: Triple, axis: 0 | 1 | 2, w: number): void {
  const stride = axis === 0 ? 1 : axis === 1 ? size[0] : size[0] * size[1];
  const length = size[axis];
  const line = new Float32Array(length);
  for (let i = 0; i < data.length; i++) {
    if (Math.floor(i / stride) % length !== 0) continue;
    for (let k = 0; k < length; k++) line[k] = data[i + k * stride];
    for (let k = 0; k < length; k++) {
      const before = line[Math.max(0, k - 1)];
      const after = line[Math.min(length - 1, k + 1)];
      data[i + k * stride] = line[k] + w * (before - 2 * line[k] + after);
    }
  }
}

/** Scanner: a blur of less than a voxel, and Gaussian noise that neighbours in the slice partly share. */
function scan(canvas: Canvas, random: Random): void {
  const { hu, size } = canvas;
  const sharpness = random.between(0.05, 0.14);
  for (const axis of [0, 1, 2] as const) blur(hu, size, axis, sharpness);
  const noise = Float32Array.from(hu, () => random.normal());
  const w = 0.16;
  blur(noise, size, 0, w);
  blur(noise, size, 1, w);
  const kept = (1 - 2 * w) ** 2 + 2 * w * w;
  const deviation = random.between(9, 20) / kept;
  for (let i = 0; i < hu.length; i++) {
    hu[i] = Math.min(3071, Math.max(-1024, Math.round(hu[i] + deviation * noise[i])));
  }
}

/**
 * One case of a made-up abdominal CT cohort: trunk, spine, ribs, lung bases, bowel and organs whose size,
 * place, form, intensity and contrast phase vary with (seed, index) and with nothing else. Organs touch and
 * neighbours share intensities, so no threshold separates the liver. Throws UsageError for a size below 16.
 */
export function phantomCase(options: PhantomOptions): PhantomCase {
  const { size, seed, index, classes = 2 } = options;
  if (!size.every((extent) => Number.isInteger(extent) && extent >= 16)) {
    throw new UsageError(`a phantom needs a size of at least 16 x 16 x 16 voxels, found ${size.join(" x ")}`);
  }
  const spacing: Triple = options.spacing ?? [360 / size[0], 360 / size[1], 240 / size[2]];
  const anatomy = new Random(seed, index, 0);
  const canvas: Canvas = {
    size,
    places: size.map((extent) => Float64Array.from({ length: extent }, (_, i) => (2 * i + 1) / extent - 1)),
    hu: new Float32Array(voxelCount(size)).fill(AIR),
    labels: new Uint8Array(voxelCount(size)),
    softness: 2 / Math.cbrt(voxelCount(size)),
  };
  const phase = drawPhase(anatomy);
  const trunk = drawTrunk(anatomy);
  const structures = drawStructures(anatomy, trunk, phase);
  const form = new Random(seed, index, 1);
  const bend = [0, 1, 2].map(() => {
    const coarse = waves(form, 0.035, 1.3, 3);
    const fine = waves(form, 0.012, 0.5, 3);
    return field(canvas, (x, y, z) => coarse(x, y, z) + fine(x, y, z));
  });
  const mottle = field(canvas, waves(form, 1, 0.3, 4));

  paintTrunk(canvas, trunk, 58);
  paintRibs(canvas, trunk, form);
  for (const { shape, hu, texture = 0, organ, soft } of structures) {
    paint(canvas, {
      shape,
      label: labelOf(organ, classes),
      bend: soft ? bend : undefined,
      value: (voxel) => hu + texture * mottle[voxel],
    });
  }
  scan(canvas, new Random(seed, index, 2));
  const geometry = screenGeometry(size, spacing);
  return {
    image: { size, data: canvas.hu, geometry },
    labels: { size, data: canvas.labels, geometry },
    phase,
  };
}

function labelOf(organ: Organ | undefined, classes: 2 | 5): number {
  const label = organ === undefined ? 0 : organs.indexOf(organ) + 1;
  return label < classes ? label : 0;
}

export interface CohortOptions {
  /** Cases in images/. */
  cases: number;
  /** How many of them, the first ones, get a file in labels/. */
  labeled: number;
  /** Further cases in imagesTs/ and labelsTs/. */
  test: number;
  size: Triple;
  spacing?: Triple;
  seed: number;
  classes?: 2 | 5;
}

/**
 * Writes a cohort that `openDataset` reads: `images/phantom-000.nii.gz` (int16 HU) and so on, labels for the
 * first `labeled` cases, and labelled test cases. `onProgress` hears the number of finished cases and their
 * total. Throws UsageError when more labels than cases are asked for, DataError when `dir` holds images
 * already.
 */
export async function writePhantom(
  dir: string,
  { cases, labeled, test, ...options }: CohortOptions,
  onProgress: (done: number, total: number) => void = () => {},
): Promise<void> {
  const counts = [cases, labeled, test];
  if (!counts.every((count) => Number.isInteger(count) && count >= 0) || cases < 1 || labeled > cases) {
    throw new UsageError(
      `a phantom cohort needs at least one case and no more labels than cases; found ${counted(cases, "case")}, ` +
        `${labeled} labelled, ${test} for the test`,
    );
  }
  const folders = test > 0 ? ["images", "labels", "imagesTs", "labelsTs"] : ["images", "labels"];
  for (const folder of folders) {
    const path = join(dir, folder);
    await makeFolder(path);
    if ((await readdir(path)).length > 0) {
      throw new DataError(path, "expected an empty or new folder for a phantom cohort, found files in it");
    }
  }
  const total = cases + test;
  for (let index = 0; index < total; index++) {
    const { image, labels } = phantomCase({ ...options, index });
    const suffix = index < cases ? "" : "Ts";
    const name = `phantom-${String(index).padStart(3, "0")}.nii.gz`;
    await writeImage(join(dir, `images${suffix}`, name), image, { dtype: "int16" });
    if (index < labeled || index >= cases) await writeLabels(join(dir, `labels${suffix}`, name), labels);
    onProgress(index + 1, total);
  }
}
