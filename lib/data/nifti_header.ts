import { constants } from "node:buffer";
import { DataError } from "../errors.ts";
import { affineFromPlacement, placementFor } from "./nifti_affine.ts";
import { affineSpacing, type Geometry, type NiftiPlacement, type Triple, voxelCount } from "./volume.ts";

/** Bytes from which `parseHeader` can read either version. */
export const HEADER_BYTES = 540;

export type NiftiType =
  | "uint8"
  | "int8"
  | "uint16"
  | "int16"
  | "uint32"
  | "int32"
  | "uint64"
  | "int64"
  | "float32"
  | "float64";

export const bytesPerVoxel: Record<NiftiType, number> = {
  uint8: 1,
  int8: 1,
  uint16: 2,
  int16: 2,
  uint32: 4,
  int32: 4,
  uint64: 8,
  int64: 8,
  float32: 4,
  float64: 8,
};

const typeCodes: Record<NiftiType, number> = {
  uint8: 2,
  int16: 4,
  int32: 8,
  float32: 16,
  float64: 64,
  int8: 256,
  uint16: 512,
  uint32: 768,
  int64: 1024,
  uint64: 1280,
};
const typeByCode = new Map(Object.entries(typeCodes).map(([name, code]) => [code, name as NiftiType]));

const unsupportedTypes = new Map([
  [1, "binary"],
  [32, "complex64"],
  [128, "RGB24"],
  [1536, "float128"],
  [1792, "complex128"],
  [2048, "complex256"],
  [2304, "RGBA32"],
]);

/** What a NIfTI header says, checked. */
export interface NiftiHeader {
  littleEndian: boolean;
  type: NiftiType;
  size: Triple;
  /** Byte at which the first voxel starts. */
  offset: number;
  /** Stored values become `slope * value + intercept`; 1 and 0 when the file asks for no scaling. */
  slope: number;
  intercept: number;
  geometry: Geometry & { nifti: NiftiPlacement };
}

interface Fields {
  magic: string;
  dims: number[];
  typeCode: number;
  bits: number;
  offset: number;
  slope: number;
  intercept: number;
  placement: NiftiPlacement;
}

function fields1(view: DataView, le: boolean): Fields {
  const i16 = (at: number) => view.getInt16(at, le);
  const f32 = (at: number) => view.getFloat32(at, le);
  const f32s = (at: number, n: number) => Array.from({ length: n }, (_, i) => f32(at + 4 * i));
  return {
    magic: text(view, 344, 3),
    dims: Array.from({ length: 8 }, (_, i) => i16(40 + 2 * i)),
    typeCode: i16(70),
    bits: i16(72),
    offset: f32(108),
    slope: f32(112),
    intercept: f32(116),
    placement: {
      version: 1,
      qformCode: i16(252),
      sformCode: i16(254),
      pixdim: f32s(76, 8),
      quatern: f32s(256, 3),
      qoffset: f32s(268, 3),
      srow: f32s(280, 12),
      xyztUnits: view.getUint8(123),
    },
  };
}

function fields2(view: DataView, le: boolean): Fields {
  const f64 = (at: number) => view.getFloat64(at, le);
  const f64s = (at: number, n: number) => Array.from({ length: n }, (_, i) => f64(at + 8 * i));
  return {
    magic: text(view, 4, 3),
    dims: Array.from({ length: 8 }, (_, i) => Number(view.getBigInt64(16 + 8 * i, le))),
    typeCode: view.getInt16(12, le),
    bits: view.getInt16(14, le),
    offset: Number(view.getBigInt64(168, le)),
    slope: f64(176),
    intercept: f64(184),
    placement: {
      version: 2,
      qformCode: view.getInt32(344, le),
      sformCode: view.getInt32(348, le),
      pixdim: f64s(104, 8),
      quatern: f64s(352, 3),
      qoffset: f64s(376, 3),
      srow: f64s(400, 12),
      xyztUnits: view.getInt32(500, le),
    },
  };
}

function text(view: DataView, at: number, length: number): string {
  return String.fromCharCode(...Array.from({ length }, (_, i) => view.getUint8(at + i)));
}

function fail(path: string, field: string, expected: string, found: string | number): never {
  throw new DataError(path, `NIfTI header, ${field}: expected ${expected}, found ${found}`);
}

/** Reads the dimensions; trailing ones are accepted, a real fourth dimension is not. */
function sizeOf(path: string, dims: readonly number[]): Triple {
  const rank = dims[0];
  if (rank < 1 || rank > 7) fail(path, "dim[0]", "1 to 7 dimensions", rank);
  const extents = dims.slice(1, rank + 1);
  if (extents.some((extent) => extent < 1)) fail(path, "dim", "positive extents", extents.join(" x "));
  if (extents.slice(3).some((extent) => extent !== 1)) {
    fail(path, "dim", "at most three dimensions longer than 1", extents.join(" x "));
  }
  const size: Triple = [extents[0], extents[1] ?? 1, extents[2] ?? 1];
  const most = Math.floor(constants.MAX_LENGTH / 4);
  if (voxelCount(size) > most) fail(path, "dim", `at most ${most} voxels`, size.join(" x "));
  return size;
}

function typeOf(path: string, code: number, bits: number): NiftiType {
  const type = typeByCode.get(code);
  if (type === undefined) {
    const name = unsupportedTypes.get(code);
    fail(
      path,
      "datatype",
      `one number per voxel (${[...typeByCode.values()].join(", ")})`,
      name ? `${name} (code ${code}), which is not supported` : `the unknown code ${code}`,
    );
  }
  if (bits !== 8 * bytesPerVoxel[type]) {
    fail(path, "bitpix", `${8 * bytesPerVoxel[type]} for datatype ${type}`, bits);
  }
  return type;
}

/**
 * Reads and checks the header at the front of `bytes`, of either version and endianness.
 *
 * The affine comes from the sform when its code is above 0 and its rows are invertible, else from the qform,
 * else from pixdim; micrometres and metres become millimetres. Every contradiction is a DataError on `path`.
 */
export function parseHeader(path: string, bytes: Uint8Array): NiftiHeader {
  if (bytes.length < 348) fail(path, "length", "at least 348 bytes", bytes.length);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const stated = view.getInt32(0, true);
  const swapped = view.getInt32(0, false);
  const littleEndian = stated === 348 || stated === 540;
  const headerSize = littleEndian ? stated : swapped;
  if (headerSize !== 348 && headerSize !== 540) {
    fail(path, "sizeof_hdr", "348 (NIfTI-1) or 540 (NIfTI-2) in either byte order", stated);
  }
  if (bytes.length < headerSize) fail(path, "length", `${headerSize} bytes`, bytes.length);
  const fields = headerSize === 348 ? fields1(view, littleEndian) : fields2(view, littleEndian);

  const magic = headerSize === 348 ? "n+1" : "n+2";
  if (fields.magic !== magic) {
    const pair = /^ni[12]$/.test(fields.magic);
    const found = JSON.stringify(fields.magic);
    fail(
      path,
      "magic",
      `"${magic}" (header and voxels in one file)`,
      pair ? `${found}, a .hdr/.img pair: convert it to one .nii file` : found,
    );
  }
  const size = sizeOf(path, fields.dims);
  const type = typeOf(path, fields.typeCode, fields.bits);
  if (!Number.isSafeInteger(fields.offset) || fields.offset < headerSize) {
    fail(path, "vox_offset", `a whole number of bytes, ${headerSize} or more`, fields.offset);
  }
  const scaled = Number.isFinite(fields.slope) && fields.slope !== 0;
  if (scaled && !Number.isFinite(fields.intercept)) {
    fail(path, "scl_inter", "a finite number", fields.intercept);
  }
  const { placement } = fields;
  const pixdim = placement.pixdim.slice(0, 4);
  if (!pixdim.every(Number.isFinite)) fail(path, "pixdim", "finite numbers", pixdim.join(", "));
  const affine = affineFromPlacement(placement);
  const spacing = affineSpacing(affine);
  if (!spacing.every((step) => Number.isFinite(step) && step > 0) || !affine.every(Number.isFinite)) {
    fail(
      path,
      "geometry",
      "finite positions and a positive voxel spacing from sform, qform or pixdim",
      affine.join(", "),
    );
  }
  return {
    littleEndian,
    type,
    size,
    offset: fields.offset,
    slope: scaled ? fields.slope : 1,
    intercept: scaled ? fields.intercept : 0,
    geometry: { spacing, affine, nifti: placement },
  };
}

/**
 * The little-endian header, with its four bytes that announce no extension, of a single-file NIfTI: version 1
 * unless the geometry came from version 2 or an extent exceeds 32,767. The geometry's own NIfTI fields are
 * written back unchanged when it has them.
 */
export function encodeHeader(size: Triple, type: NiftiType, geometry: Geometry): Uint8Array {
  const placement = geometry.nifti ?? placementFor(geometry);
  const version = placement.version === 2 || Math.max(...size) > 32767 ? 2 : 1;
  const bytes = new Uint8Array(version === 1 ? 352 : 544);
  const view = new DataView(bytes.buffer);
  const ascii = (at: number, characters: string) => {
    for (let i = 0; i < characters.length; i++) bytes[at + i] = characters.charCodeAt(i);
  };
  const dims = [3, ...size, 1, 1, 1, 1];
  const bits = 8 * bytesPerVoxel[type];
  if (version === 1) {
    const f32s = (at: number, values: readonly number[]) =>
      values.forEach((value, i) => view.setFloat32(at + 4 * i, value, true));
    view.setInt32(0, 348, true);
    dims.forEach((extent, i) => view.setInt16(40 + 2 * i, extent, true));
    view.setInt16(70, typeCodes[type], true);
    view.setInt16(72, bits, true);
    f32s(76, placement.pixdim);
    f32s(108, [352, 1, 0]);
    view.setUint8(123, placement.xyztUnits);
    ascii(148, "voxgrad");
    view.setInt16(252, placement.qformCode, true);
    view.setInt16(254, placement.sformCode, true);
    f32s(256, [...placement.quatern, ...placement.qoffset, ...placement.srow]);
    ascii(344, "n+1");
  } else {
    const f64s = (at: number, values: readonly number[]) =>
      values.forEach((value, i) => view.setFloat64(at + 8 * i, value, true));
    view.setInt32(0, 540, true);
    ascii(4, "n+2\0\r\n\u001a\n");
    view.setInt16(12, typeCodes[type], true);
    view.setInt16(14, bits, true);
    dims.forEach((extent, i) => view.setBigInt64(16 + 8 * i, BigInt(extent), true));
    f64s(104, placement.pixdim);
    view.setBigInt64(168, 544n, true);
    f64s(176, [1, 0]);
    ascii(240, "voxgrad");
    view.setInt32(344, placement.qformCode, true);
    view.setInt32(348, placement.sformCode, true);
    f64s(352, [...placement.quatern, ...placement.qoffset, ...placement.srow]);
    view.setInt32(500, placement.xyztUnits, true);
  }
  return bytes;
}
