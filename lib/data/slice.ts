import { readFile } from "node:fs/promises";
import { DataError } from "../errors.ts";
import { LabelMap, type LabelMapping } from "./label_map.ts";
import { decodePng, type GreyPicture } from "./png.ts";
import { type Geometry, screenGeometry, type Triple, type Volume } from "./volume.ts";

async function readPicture(path: string): Promise<GreyPicture> {
  let bytes: Buffer;
  try {
    bytes = await readFile(path);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const problem = code === "ENOENT" ? "expected a PNG file, found none" : `could not be read: ${message}`;
    throw new DataError(path, problem, { cause: error });
  }
  return decodePng(path, bytes);
}

/** A picture says nothing of millimetres: its pixels count as 1 mm apart. */
function placed({ width, height }: GreyPicture): { size: Triple; geometry: Geometry } {
  const size: Triple = [width, height, 1];
  return { size, geometry: screenGeometry(size, [1, 1, 1]) };
}

/**
 * Reads a grey PNG of 8 or 16 bits as a volume of one slice, width x height x 1, with its grey values as they
 * are stored. Throws DataError when the file is missing, damaged, or another kind of PNG.
 */
export async function readSlice(path: string): Promise<Volume<Float32Array>> {
  const picture = await readPicture(path);
  return { ...placed(picture), data: Float32Array.from(picture.data) };
}

/**
 * Reads a label slice whose grey values are the labels; `classes` counts the background. A mask, which has no
 * grey values but 0 and 255, becomes 0 and 1 unless more than two classes are asked for or `mapping` says which class
 * each grey value is. Throws DataError as `readSlice` does, and for values outside 0 … classes - 1 (0 … 255 without
 * `classes`) or without a class in `mapping`.
 */
export async function readSliceLabels(
  path: string,
  classes?: number,
  mapping?: LabelMapping,
): Promise<Volume<Uint8Array>> {
  const picture = await readPicture(path);
  const { data } = picture;
  const isMask = () => data.every((value) => value === 0 || value === 255);
  const mask = mapping === undefined && (classes ?? 2) <= 2 && isMask();
  const labels = new LabelMap(data.length, classes ?? 256, mapping);
  for (let i = 0; i < data.length; i++) labels.set(i, mask ? data[i] / 255 : data[i]);
  return { ...placed(picture), data: labels.finish(path) };
}
