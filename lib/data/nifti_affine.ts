import type { Geometry, NiftiPlacement } from "./volume.ts";

const METRE = 1;
const MICROMETRE = 3;
const MILLIMETRE = 2;

function determinant(a: readonly number[]): number {
  return (
    a[0] * (a[5] * a[10] - a[6] * a[9]) -
    a[1] * (a[4] * a[10] - a[6] * a[8]) +
    a[2] * (a[4] * a[9] - a[5] * a[8])
  );
}

/** Rotation of a unit quaternion whose real part is implied, and the stored scale (nifti1.h, "METHOD 2"). */
function qformAffine({ pixdim, quatern, qoffset }: NiftiPlacement): number[] {
  let [b, c, d] = quatern;
  const imaginary = b * b + c * c + d * d;
  let a = 0;
  if (imaginary > 1) {
    const norm = 1 / Math.sqrt(imaginary);
    b *= norm;
    c *= norm;
    d *= norm;
  } else {
    a = Math.sqrt(1 - imaginary);
  }
  const [i, j] = [Math.abs(pixdim[1]), Math.abs(pixdim[2])];
  const k = Math.abs(pixdim[3]) * (pixdim[0] < 0 ? -1 : 1);
  return [
    (a * a + b * b - c * c - d * d) * i,
    2 * (b * c - a * d) * j,
    2 * (b * d + a * c) * k,
    qoffset[0],
    2 * (b * c + a * d) * i,
    (a * a + c * c - b * b - d * d) * j,
    2 * (c * d - a * b) * k,
    qoffset[1],
    2 * (b * d - a * c) * i,
    2 * (c * d + a * b) * j,
    (a * a + d * d - c * c - b * b) * k,
    qoffset[2],
  ];
}

/**
 * Voxel to RAS millimetres, 4x4 row-major: the sform when its code is above 0 and it can be inverted, else
 * the qform when its code is above 0, else pixdim along the axes.
 */
export function affineFromPlacement(placement: NiftiPlacement): number[] {
  const { sformCode, qformCode, srow, pixdim, xyztUnits } = placement;
  const [, i, j, k] = pixdim.map(Math.abs);
  let rows: number[];
  if (sformCode > 0 && Math.abs(determinant(srow)) > 0) rows = [...srow];
  else if (qformCode > 0) rows = qformAffine(placement);
  else rows = [i, 0, 0, 0, 0, j, 0, 0, 0, 0, k, 0];
  const unit = xyztUnits & 7;
  const scale = unit === METRE ? 1000 : unit === MICROMETRE ? 1e-3 : 1;
  return [...rows.map((value) => value * scale), 0, 0, 0, 1];
}

/**
 * Imaginary part of the unit quaternion of a rotation matrix (row-major, 9 values), with a real part that is
 * not negative.
 */
function quaternionOf(r: readonly number[]): [number, number, number] {
  const candidates = [
    [1 + r[0] + r[4] + r[8], r[7] - r[5], r[2] - r[6], r[3] - r[1]],
    [r[7] - r[5], 1 + r[0] - r[4] - r[8], r[1] + r[3], r[2] + r[6]],
    [r[2] - r[6], r[1] + r[3], 1 - r[0] + r[4] - r[8], r[5] + r[7]],
    [r[3] - r[1], r[2] + r[6], r[5] + r[7], 1 - r[0] - r[4] + r[8]],
  ];
  // Each row is the quaternion times four times one of its parts: the longest row has the least cancellation.
  const best = candidates.reduce((x, y) => (Math.hypot(...y) > Math.hypot(...x) ? y : x));
  const norm = Math.hypot(...best) * (best[0] < 0 ? -1 : 1);
  return [best[1] / norm, best[2] / norm, best[3] / norm];
}

/**
 * NIfTI-1 fields for a geometry that has none: an sform always, a qform too when the axes are at right
 * angles.
 */
export function placementFor({ affine, spacing }: Geometry): NiftiPlacement {
  const handed = determinant(affine) < 0 ? -1 : 1;
  const rotation = [0, 1, 2].flatMap((row) =>
    [0, 1, 2].map((column) => (affine[4 * row + column] / spacing[column]) * (column === 2 ? handed : 1)),
  );
  const dot = (i: number, j: number) =>
    rotation[i] * rotation[j] + rotation[3 + i] * rotation[3 + j] + rotation[6 + i] * rotation[6 + j];
  const rightAngled = Math.max(Math.abs(dot(0, 1)), Math.abs(dot(0, 2)), Math.abs(dot(1, 2))) < 1e-4;
  return {
    version: 1,
    qformCode: rightAngled ? 1 : 0,
    sformCode: 1,
    pixdim: [handed, ...spacing, 1, 1, 1, 1],
    quatern: rightAngled ? quaternionOf(rotation) : [0, 0, 0],
    qoffset: [affine[3], affine[7], affine[11]],
    srow: affine.slice(0, 12),
    xyztUnits: MILLIMETRE,
  };
}
