import { classColour, type Rgb } from "./palette.ts";
import { dataUri } from "./png.ts";

export type Triple = readonly [x: number, y: number, z: number];

export interface SliceSource {
  /** Grey values, x fastest, `size[0] * size[1] * size[2]` of them. */
  image: Float32Array;
  size: Triple;
  /** Voxel edges in mm; default 1, 1, 1. */
  spacing?: Triple;
  /** Voxel to RAS+ mm, row-major 4 x 4 (or its upper 3 x 4); default: the voxel axes point right, anterior, superior. */
  affine?: ArrayLike<number>;
  /** Class of each voxel, in the order of `image`; 0 is background. */
  truth?: Uint8Array;
  prediction?: Uint8Array;
  /** Grey values shown as black and white; default: the 0.5 and 99.5 percentile of the image. */
  window?: readonly [black: number, white: number];
  /** Least width of the picture in pixels; default 240. */
  minWidth?: number;
}

/** PNG data URIs of one axial slice, seen from the feet: anterior is up, the patient's right is on the left. */
export interface Triptych {
  image: string;
  truth?: string;
  /** With the outline of the truth as a white dashed line, where there is a truth. */
  prediction?: string;
  /** Pixels. */
  width: number;
  height: number;
  /** Index of the slice along the voxel axis that runs head to feet. */
  slice: number;
  axis: number;
}

const MAX_EDGE = 800;
const FILL = 0.35;
const WHITE: Rgb = [255, 255, 255];
const DARK: Rgb = [20, 20, 20];

/**
 * Draws the slice with most foreground in the truth (else in the prediction, else the middle one) as plain image, truth
 * and prediction. Throws RangeError when an array does not have the size of the volume.
 */
export function sliceTriptych(source: SliceSource): Triptych {
  const { image, size, truth, prediction } = source;
  const voxels = size[0] * size[1] * size[2];
  for (const [name, array] of Object.entries({ image, truth, prediction })) {
    if (array !== undefined && array.length !== voxels) {
      throw new RangeError(`${name} has ${array.length} voxels, expected ${size.join(" x ")} = ${voxels}`);
    }
  }
  const axes = displayAxes(source.affine);
  const slice = pickSlice([truth, prediction], size, axes.normal.axis);
  const grid = pixelGrid(source, axes, slice);
  const grey = drawGrey(image, grid, source.window ?? percentileWindow(image));
  const truthLabels = truth && sample(truth, grid);
  const predictionLabels = prediction && sample(prediction, grid);
  const { width, height } = grid;
  const uri = (data: Uint8Array, channels: 1 | 3) => dataUri({ width, height, channels, data });
  return {
    image: uri(grey, 1),
    ...(truthLabels && { truth: uri(overlay(grey, truthLabels, grid), 3) }),
    ...(predictionLabels && { prediction: uri(overlay(grey, predictionLabels, grid, truthLabels), 3) }),
    width,
    height,
    slice,
    axis: axes.normal.axis,
  };
}

interface DisplayAxis {
  /** Voxel axis: 0, 1 or 2. */
  axis: number;
  /** True when the voxel index falls along the screen (to the right, or down). */
  reversed: boolean;
}

interface DisplayAxes {
  column: DisplayAxis;
  row: DisplayAxis;
  normal: DisplayAxis;
}

/** Which voxel axis runs closest to right-left, front-back and head-feet, and which way round. */
function displayAxes(affine: ArrayLike<number> = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0]): DisplayAxes {
  const entry = (world: number, axis: number) => affine[world * 4 + axis];
  const length = [0, 1, 2].map((axis) => Math.hypot(entry(0, axis), entry(1, axis), entry(2, axis)) || 1);
  const orders = [
    [0, 1, 2],
    [0, 2, 1],
    [1, 0, 2],
    [1, 2, 0],
    [2, 0, 1],
    [2, 1, 0],
  ];
  const alignment = (order: number[]) =>
    order.reduce((sum, axis, world) => sum + Math.abs(entry(world, axis)) / length[axis], 0);
  const best = orders.reduce((a, b) => (alignment(b) > alignment(a) + 1e-9 ? b : a));
  // The screen runs from the patient's right to the left and from front to back: against R and against A.
  const towards = (world: number) => ({ axis: best[world], reversed: entry(world, best[world]) > 0 });
  return { column: towards(0), row: towards(1), normal: towards(2) };
}

function pickSlice(maps: readonly (Uint8Array | undefined)[], size: Triple, axis: number): number {
  const stride = axis === 0 ? 1 : axis === 1 ? size[0] : size[0] * size[1];
  for (const map of maps) {
    if (map === undefined) continue;
    const area = new Float64Array(size[axis]);
    for (let i = 0; i < map.length; i++) if (map[i] !== 0) area[Math.floor(i / stride) % size[axis]]++;
    const largest = area.reduce((best, count, i) => (count > area[best] ? i : best), 0);
    if (area[largest] > 0) return largest;
  }
  return Math.floor(size[axis] / 2);
}

/** The pixels of the picture: for each column and row, the offset of its voxel in the volume. */
interface PixelGrid {
  width: number;
  height: number;
  base: number;
  columnOffsets: Float64Array;
  rowOffsets: Float64Array;
}

function pixelGrid(
  { size, spacing = [1, 1, 1], minWidth = 240 }: SliceSource,
  axes: DisplayAxes,
  slice: number,
): PixelGrid {
  const strides = [1, size[0], size[0] * size[1]];
  const edge = ({ axis }: DisplayAxis) => Math.max(1e-6, Math.abs(spacing[axis]) || 1);
  const extent = (display: DisplayAxis) => size[display.axis] * edge(display);
  const finest = Math.min(edge(axes.column), edge(axes.row));
  // A whole number of pixels for the finer voxel edge, unless the picture would then be huge.
  const zoom = Math.max(1, Math.ceil((minWidth * finest) / extent(axes.column)));
  const longest = Math.max(extent(axes.column), extent(axes.row));
  const pixel = Math.max(finest / zoom, longest / MAX_EDGE);
  const offsets = (display: DisplayAxis) => {
    const voxels = size[display.axis];
    const pixels = Math.max(1, Math.round(extent(display) / pixel));
    return Float64Array.from({ length: pixels }, (_, i) => {
      const index = Math.min(voxels - 1, Math.floor(((i + 0.5) * voxels) / pixels));
      return (display.reversed ? voxels - 1 - index : index) * strides[display.axis];
    });
  };
  const columnOffsets = offsets(axes.column);
  const rowOffsets = offsets(axes.row);
  const base = slice * strides[axes.normal.axis];
  return { width: columnOffsets.length, height: rowOffsets.length, base, columnOffsets, rowOffsets };
}

/** Nearest voxel for each pixel, rows from the top. */
function sample<T extends Uint8Array | Float32Array>(
  volume: T,
  { width, height, base, columnOffsets, rowOffsets }: PixelGrid,
): T {
  const pixels = new (volume.constructor as new (length: number) => T)(width * height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) pixels[y * width + x] = volume[base + rowOffsets[y] + columnOffsets[x]];
  }
  return pixels;
}

function drawGrey(
  image: Float32Array,
  grid: PixelGrid,
  [black, white]: readonly [number, number],
): Uint8Array {
  const scale = white > black ? 255 / (white - black) : 0;
  // Clamped and rounded on assignment; NaN becomes 0.
  const grey = Uint8ClampedArray.from(sample(image, grid), (value) => (value - black) * scale);
  return new Uint8Array(grey.buffer);
}

/** The 0.5 and 99.5 percentile of the finite values, from at most about 200 000 of them spread evenly. */
export function percentileWindow(image: Float32Array): [black: number, white: number] {
  const step = Math.max(1, Math.floor(image.length / 200_000));
  const values: number[] = [];
  for (let i = 0; i < image.length; i += step) if (Number.isFinite(image[i])) values.push(image[i]);
  if (values.length === 0) return [0, 1];
  const sorted = Float64Array.from(values).sort();
  const at = (fraction: number) => sorted[Math.round(fraction * (sorted.length - 1))];
  const [low, high] = [at(0.005), at(0.995)];
  // A nearly empty image (a mask) has equal percentiles: show its whole range.
  return high > low ? [low, high] : [sorted[0], sorted[sorted.length - 1]];
}

/** Grey with a transparent fill and a one-pixel outline for each class; `reference` adds dashed outlines on top. */
function overlay(
  grey: Uint8Array,
  labels: Uint8Array,
  { width, height }: PixelGrid,
  reference?: Uint8Array,
): Uint8Array {
  const rgb = new Uint8Array(grey.length * 3);
  for (let i = 0; i < grey.length; i++) {
    let colour: Rgb = [grey[i], grey[i], grey[i]];
    if (labels[i] !== 0) {
      const tint = classColour(labels[i]);
      const strength = isOutline(labels, i, width, height) ? 1 : FILL;
      colour = [
        blend(grey[i], tint[0], strength),
        blend(grey[i], tint[1], strength),
        blend(grey[i], tint[2], strength),
      ];
    }
    if (reference !== undefined && reference[i] !== 0 && isOutline(reference, i, width, height)) {
      colour = isDash(i % width, Math.floor(i / width)) ? WHITE : DARK;
    }
    rgb.set(colour, i * 3);
  }
  return rgb;
}

/** White dashes with dark gaps show on any grey. Unequal steps along x and y break up diagonals as well. */
function isDash(x: number, y: number): boolean {
  return (x + 2 * y) % 7 < 5;
}

function blend(grey: number, tint: number, strength: number): number {
  return Math.round(grey + (tint - grey) * strength);
}

/** Whether a pixel of a class has a neighbour of another one. The edge of the picture is no outline. */
function isOutline(labels: Uint8Array, i: number, width: number, height: number): boolean {
  const x = i % width;
  const y = (i - x) / width;
  const label = labels[i];
  return (
    (x > 0 && labels[i - 1] !== label) ||
    (x < width - 1 && labels[i + 1] !== label) ||
    (y > 0 && labels[i - width] !== label) ||
    (y < height - 1 && labels[i + width] !== label)
  );
}
