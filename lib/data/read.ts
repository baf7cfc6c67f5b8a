import { isSlice } from "./files.ts";
import type { LabelMapping } from "./label_map.ts";
import * as nifti from "./nifti.ts";
import { readSlice, readSliceLabels } from "./slice.ts";
import type { Volume } from "./volume.ts";

/** Reads intensities from a grey PNG, when the name ends so, as `readSlice` does, or else from NIfTI. */
export function readImage(path: string): Promise<Volume<Float32Array>> {
  return isSlice(path) ? readSlice(path) : nifti.readImage(path);
}

/** Reads a label map from a grey PNG, when the name ends so, as `readSliceLabels` does, or else from NIfTI. */
export function readLabels(
  path: string,
  classes?: number,
  mapping?: LabelMapping,
): Promise<Volume<Uint8Array>> {
  const read = isSlice(path) ? readSliceLabels : nifti.readLabels;
  return read(path, classes, mapping);
}
