import { isSlice } from "../data/files.ts";
import { readHeader, readSlices } from "../data/nifti.ts";
import { orientationOf, rearrange, type Rearrangement, rearrangementTo } from "../data/orientation.ts";
import { preparation, type Transform } from "../data/preprocess.ts";
import { type Geometry, type Triple, voxelCount } from "../data/volume.ts";
import { counted, DataError } from "../errors.ts";
import type { Config } from "./config.ts";

/** An image that is read slice by slice, intensities and axes as the networks see them: those of `loadVolume`, bit for bit. */
export interface SlicedImage {
  readonly size: Triple;
  readonly geometry: Geometry;
  /** Where the file has the voxels, and how their axes were put in another order: never z. */
  readonly file: { readonly size: Triple; readonly geometry: Geometry; readonly rearranged: Rearrangement };
  /** The slices `[y, x]` along z; may be asked for once. */
  readonly slices: AsyncIterable<Float32Array>;
}

/**
 * Opens an image to be read slice by slice; undefined where its slices along z do not follow each other in the file: PNG, and
 * volumes whose z the setting `orientation` moves or mirrors. The file is read once, and once more for each pass that the setting
 * `normalize` needs to know the intensities (`zscore` two, `unit` without a window one). Throws DataError as `loadVolume` does.
 */
export async function openSlices(path: string, config: Config): Promise<SlicedImage | undefined> {
  if (isSlice(path)) return undefined;
  const { size, geometry } = await readHeader(path);
  const { affine } = geometry;
  const orientation = config.orientation === "file" ? orientationOf(affine) : config.orientation;
  const rearranged = rearrangementTo(affine, orientation);
  if (rearranged.axes[2] !== 2 || rearranged.mirrored[2]) return undefined;
  const slice: Triple = [size[0], size[1], 1];
  // One slice without voxels of its own says how large the turned one is, and where it lies.
  const turned = rearrange({ size: slice, data: new Float32Array(voxelCount(slice)), geometry }, rearranged);
  async function* slices() {
    const transform = await look(path, config, voxelCount(size));
    for await (const data of finiteSlices(path)) {
      const prepared = transform(data, data);
      yield rearrange({ size: slice, data: prepared, geometry }, rearranged).data;
    }
  }
  return {
    size: [turned.size[0], turned.size[1], size[2]],
    geometry: turned.geometry,
    file: { size, geometry, rearranged },
    slices: slices(),
  };
}

async function look(path: string, config: Config, voxels: number): Promise<Transform> {
  const { window, normalize } = config;
  const passes = preparation({ window: window ?? undefined, normalize }, voxels);
  for (;;) {
    const { done, value } = passes.next();
    if (done) return value;
    for await (const data of finiteSlices(path)) value(data);
  }
}

async function* finiteSlices(path: string): AsyncGenerator<Float32Array> {
  let z = 0;
  for await (const data of readSlices(path)) {
    let strange = 0;
    for (let i = 0; i < data.length; i++) if (!Number.isFinite(data[i])) strange++;
    if (strange > 0)
      throw new DataError(
        path,
        `expected finite intensities, found ${counted(strange, "voxel")} with NaN or infinity in slice ${z}`,
      );
    yield data;
    z++;
  }
}
