/**
 * Three numbers in the axis order of the file, (x, y, z): x runs fastest in memory, so a volume is the tensor
 * [z, y, x].
 */
export type Triple = readonly [number, number, number];

export type VolumeData = Float32Array | Uint8Array | Int32Array;

/**
 * The header fields by which a NIfTI file places its voxels, as stored: written back, they give the same
 * bytes again.
 */
export interface NiftiPlacement {
  version: 1 | 2;
  qformCode: number;
  sformCode: number;
  /** All eight values; `pixdim[0]` is the handedness of the qform. */
  pixdim: readonly number[];
  /** quatern_b, quatern_c, quatern_d. */
  quatern: readonly number[];
  qoffset: readonly number[];
  /** The three sform rows, one after the other (12 values). */
  srow: readonly number[];
  xyztUnits: number;
}

/** Where voxels lie in the patient. */
export interface Geometry {
  /** Distance between neighbouring voxels in mm, along x, y and z of the file. */
  spacing: Triple;
  /** 4x4, row-major: voxel index (x, y, z, 1) to millimetres in RAS (right, anterior, superior grow). */
  affine: readonly number[];
  /** Present when the volume was read from NIfTI. Drop it when spacing or affine are changed. */
  nifti?: NiftiPlacement;
}

/** One scalar per voxel; `data.length` is x * y * z. */
export interface Volume<T extends VolumeData = Float32Array> {
  size: Triple;
  data: T;
  geometry: Geometry;
}

/** Number of voxels of a size. */
export function voxelCount(size: Triple): number {
  return size[0] * size[1] * size[2];
}

/** Length of the affine's columns: the voxel spacing that it implies, in mm. */
export function affineSpacing(affine: readonly number[]): Triple {
  const column = (j: number) => Math.hypot(affine[j], affine[4 + j], affine[8 + j]);
  return [column(0), column(1), column(2)];
}

/**
 * A geometry of the given spacing (mm) whose axes are those of a CT slice on a screen: x to the patient's
 * left, y to the back, z to the head ("LPS"), with the centre of the volume at the origin.
 */
export function screenGeometry(size: Triple, spacing: Triple): Geometry {
  const [sx, sy, sz] = spacing;
  const half = size.map((extent, axis) => ((extent - 1) / 2) * spacing[axis]);
  const affine = [-sx, 0, 0, half[0], 0, -sy, 0, half[1], 0, 0, sz, -half[2], 0, 0, 0, 1];
  return { spacing, affine };
}
