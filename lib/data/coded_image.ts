/**
 * The float32 values of an image as whole numbers that point into a list of them. Scanners store integers, so that an image has far fewer
 * values than voxels, whatever was done to them since: it takes half or a quarter of the memory, and every bit comes back.
 */
export interface CodedImage {
  readonly codes: Uint8Array | Uint16Array;
  readonly values: Float32Array;
}

export type Intensities = Float32Array | CodedImage;

const MOST_VALUES = 1 << 16;
const SLOTS_LOG2 = 18;

/** Codes an image, or gives it back as it is when it has too many values for that to take less memory. */
export function codeImage(image: Float32Array): Intensities {
  const bits = new Uint32Array(image.buffer, image.byteOffset, image.length);
  const codes = new Uint16Array(image.length);
  const values = new Uint32Array(MOST_VALUES);
  // A hash table with linear probing, never more than a quarter full: the bits of a value, and its code plus 1.
  const keys = new Uint32Array(1 << SLOTS_LOG2);
  const filled = new Uint32Array(1 << SLOTS_LOG2);
  let count = 0;
  let code = 0;
  for (let i = 0; i < bits.length; i++) {
    const value = bits[i];
    if (i === 0 || value !== bits[i - 1]) {
      let slot = Math.imul(value, 0x9e3779b1) >>> (32 - SLOTS_LOG2);
      while (filled[slot] !== 0 && keys[slot] !== value) slot = (slot + 1) & ((1 << SLOTS_LOG2) - 1);
      if (filled[slot] === 0) {
        if (count === MOST_VALUES) return image;
        keys[slot] = value;
        values[count] = value;
        filled[slot] = ++count;
      }
      code = filled[slot] - 1;
    }
    codes[i] = code;
  }
  const coded = {
    codes: count <= 256 ? Uint8Array.from(codes) : codes,
    values: new Float32Array(values.buffer.slice(0, 4 * count)),
  };
  return intensityBytes(coded) < image.byteLength ? coded : image;
}

/** Memory that the intensities take, in bytes. */
export function intensityBytes(image: Intensities): number {
  return image instanceof Float32Array ? image.byteLength : image.codes.byteLength + image.values.byteLength;
}

/** Number of voxels. */
export function intensityCount(image: Intensities): number {
  return image instanceof Float32Array ? image.length : image.codes.length;
}

/** All voxels as floats; an image that was never coded is given as it is. */
export function floatImage(image: Intensities): Float32Array {
  if (image instanceof Float32Array) return image;
  const floats = new Float32Array(image.codes.length);
  copyIntensities(image, 0, floats.length, floats, 0);
  return floats;
}

/** Writes voxels `from` to below `to` into `target`, the first at `at`. */
export function copyIntensities(
  image: Intensities,
  from: number,
  to: number,
  target: Float32Array,
  at: number,
): void {
  if (image instanceof Float32Array) {
    target.set(image.subarray(from, to), at);
    return;
  }
  const { codes, values } = image;
  for (let i = from; i < to; i++) target[at + i - from] = values[codes[i]];
}
