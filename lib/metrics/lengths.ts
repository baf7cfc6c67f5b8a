import { type Triple, voxelCount } from "../data/volume.ts";
import { counted, ShapeError } from "../errors.ts";

/** Throws ShapeError unless both label maps have as many voxels as `size` says; `what` begins the message. */
export function checkLengths(what: string, ref: Uint8Array, pred: Uint8Array, size: Triple): void {
  const voxels = voxelCount(size);
  if (ref.length !== voxels || pred.length !== voxels)
    throw new ShapeError(
      `${what} over ${size.join(" x ")} = ${counted(voxels, "voxel")}: found ${ref.length} in the reference and ${pred.length} in the prediction`,
    );
}
