/** Builds NIfTI files field by field, independently of the writer under test, so that tests can bend every field. */
export interface Spec {
  version?: 1 | 2;
  le?: boolean;
  code?: number;
  bits?: number;
  dims?: number[];
  offset?: number;
  slope?: number;
  inter?: number;
  qform?: number;
  sform?: number;
  pixdim?: number[];
  quatern?: number[];
  qoffset?: number[];
  srow?: number[];
  units?: number;
  magic?: string;
  /** Bytes of voxels, already in the file's byte order. */
  body?: Uint8Array;
  /** Extension bytes between header and voxels. */
  extension?: Uint8Array;
}

export function niftiBytes(spec: Spec): Buffer {
  const {
    version = 1,
    le = true,
    code = 2,
    bits = 8,
    dims = [3, 2, 3, 4, 1, 1, 1, 1],
    slope = 1,
    inter = 0,
  } = spec;
  const extension = spec.extension ?? new Uint8Array(0);
  const headerSize = version === 1 ? 352 : 544;
  const offset = spec.offset ?? headerSize + extension.length;
  const pixdim = spec.pixdim ?? [1, 1, 1, 1, 1, 1, 1, 1];
  const floats = [
    ...(spec.quatern ?? [0, 0, 0]),
    ...(spec.qoffset ?? [0, 0, 0]),
    ...(spec.srow ?? [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0]),
  ];
  const header = Buffer.alloc(headerSize);
  const view = new DataView(header.buffer, header.byteOffset, headerSize);
  const magic = spec.magic ?? (version === 1 ? "n+1\0" : "n+2\0\r\n\x1a\n");
  if (version === 1) {
    view.setInt32(0, 348, le);
    dims.forEach((d, i) => view.setInt16(40 + 2 * i, d, le));
    view.setInt16(70, code, le);
    view.setInt16(72, bits, le);
    pixdim.forEach((p, i) => view.setFloat32(76 + 4 * i, p, le));
    [offset, slope, inter].forEach((v, i) => view.setFloat32(108 + 4 * i, v, le));
    view.setUint8(123, spec.units ?? 2);
    view.setInt16(252, spec.qform ?? 0, le);
    view.setInt16(254, spec.sform ?? 0, le);
    floats.forEach((v, i) => view.setFloat32(256 + 4 * i, v, le));
    header.write(magic, 344, "latin1");
    header[348] = extension.length > 0 ? 1 : 0;
  } else {
    view.setInt32(0, 540, le);
    header.write(magic, 4, "latin1");
    view.setInt16(12, code, le);
    view.setInt16(14, bits, le);
    dims.forEach((d, i) => view.setBigInt64(16 + 8 * i, BigInt(d), le));
    pixdim.forEach((p, i) => view.setFloat64(104 + 8 * i, p, le));
    view.setBigInt64(168, BigInt(offset), le);
    [slope, inter].forEach((v, i) => view.setFloat64(176 + 8 * i, v, le));
    view.setInt32(344, spec.qform ?? 0, le);
    view.setInt32(348, spec.sform ?? 0, le);
    floats.forEach((v, i) => view.setFloat64(352 + 8 * i, v, le));
    view.setInt32(500, spec.units ?? 2, le);
    header[540] = extension.length > 0 ? 1 : 0;
  }
  return Buffer.concat([header, extension, spec.body ?? new Uint8Array(24)]);
}
