import { endianness } from "node:os";
import { bytesPerVoxel, type NiftiHeader, type NiftiType } from "./nifti_header.ts";
import { type VolumeData, voxelCount } from "./volume.ts";

/** Bytes that are read or written at a time. */
export const CHUNK = 1 << 18;

const hostLittleEndian = endianness() === "LE";

type Numbers = ArrayLike<number>;

/** Takes `count` stored values (before scaling), the first of which is voxel `start`. */
export type Consume = (values: Numbers, count: number, start: number) => void;

/** Turns bytes that come in pieces of any length into numbers of the file's type. */
export class Decoder {
  readonly header: NiftiHeader;
  readonly #scratch = new Uint8Array(CHUNK);
  readonly #numbers: (count: number) => Numbers;
  readonly #step: number;
  readonly #swap: boolean;
  readonly #voxels: number;
  readonly #consume: Consume;
  #filled = 0;
  #done = 0;

  constructor(header: NiftiHeader, consume: Consume) {
    this.header = header;
    this.#step = bytesPerVoxel[header.type];
    this.#swap = header.littleEndian !== hostLittleEndian && this.#step > 1;
    this.#voxels = voxelCount(header.size);
    this.#consume = consume;
    this.#numbers = viewOf(header.type, this.#scratch.buffer);
  }

  get voxelsRead(): number {
    return this.#done;
  }

  push(bytes: Uint8Array): void {
    let at = 0;
    while (at < bytes.length && this.#done < this.#voxels) {
      const room = Math.min(CHUNK - this.#filled, bytes.length - at);
      this.#scratch.set(bytes.subarray(at, at + room), this.#filled);
      at += room;
      this.#filled += room;
      this.#flush();
    }
  }

  #flush(): void {
    const count = Math.min(Math.floor(this.#filled / this.#step), this.#voxels - this.#done);
    const used = count * this.#step;
    if (this.#swap) {
      const whole = Buffer.from(this.#scratch.buffer, 0, used);
      if (this.#step === 2) whole.swap16();
      else if (this.#step === 4) whole.swap32();
      else whole.swap64();
    }
    this.#consume(this.#numbers(count), count, this.#done);
    this.#scratch.copyWithin(0, used, this.#filled);
    this.#filled -= used;
    this.#done += count;
  }
}

function viewOf(type: NiftiType, buffer: ArrayBuffer): (count: number) => Numbers {
  const fixed = (view: Numbers) => () => view;
  switch (type) {
    case "uint8":
      return fixed(new Uint8Array(buffer));
    case "int8":
      return fixed(new Int8Array(buffer));
    case "uint16":
      return fixed(new Uint16Array(buffer));
    case "int16":
      return fixed(new Int16Array(buffer));
    case "uint32":
      return fixed(new Uint32Array(buffer));
    case "int32":
      return fixed(new Int32Array(buffer));
    case "float32":
      return fixed(new Float32Array(buffer));
    case "float64":
      return fixed(new Float64Array(buffer));
    case "uint64":
    case "int64": {
      const low = new Uint32Array(buffer);
      const high = type === "int64" ? new Int32Array(buffer) : low;
      const [lowAt, highAt] = hostLittleEndian ? [0, 1] : [1, 0];
      const values = new Float64Array(CHUNK / 8);
      return (count) => {
        for (let i = 0; i < count; i++) values[i] = high[2 * i + highAt] * 2 ** 32 + low[2 * i + lowAt];
        return values;
      };
    }
  }
}

/** The little-endian bytes of the voxels, a chunk at a time; `int16` needs values that fit it. */
export function* encodeVoxels(data: VolumeData, type: NiftiType): Generator<Uint8Array> {
  const step = CHUNK / bytesPerVoxel[type];
  for (let start = 0; start < data.length; start += step) {
    const values = data.subarray(start, start + step);
    const stored = type === "int16" ? Int16Array.from(values) : values.slice();
    const bytes = Buffer.from(stored.buffer, stored.byteOffset, stored.byteLength);
    if (!hostLittleEndian && stored.BYTES_PER_ELEMENT === 2) bytes.swap16();
    if (!hostLittleEndian && stored.BYTES_PER_ELEMENT === 4) bytes.swap32();
    yield bytes;
  }
}
