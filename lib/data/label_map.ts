import { DataError } from "../errors.ts";

const LISTED = 8;

/** Labels as they are read, one byte per voxel; remembers the values that are none. */
export class LabelMap {
  readonly #data: Uint8Array<ArrayBuffer>;
  readonly #classes: number;
  readonly #strange = new Map<number, number>();
  #strangeVoxels = 0;

  /** `classes` counts the background. */
  constructor(voxels: number, classes: number) {
    this.#data = new Uint8Array(voxels);
    this.#classes = classes;
  }

  /** Values within 1e-3 of a whole number are rounded to it. */
  set(voxel: number, value: number): void {
    const whole = Math.round(value);
    if (Math.abs(value - whole) <= 1e-3 && whole >= 0 && whole < this.#classes) {
      this.#data[voxel] = whole;
      return;
    }
    this.#strangeVoxels++;
    const seen = this.#strange.get(value);
    if (seen !== undefined) this.#strange.set(value, seen + 1);
    else if (this.#strange.size < LISTED) this.#strange.set(value, 1);
  }

  /**
   * The labels. Throws DataError when a value was not whole or lay outside 0 … classes - 1: the message lists
   * such values and how many voxels have them.
   */
  finish(path: string): Uint8Array<ArrayBuffer> {
    if (this.#strangeVoxels === 0) return this.#data;
    const list = [...this.#strange].sort(([a], [b]) => a - b).map(([value, n]) => `${value} (${n} voxels)`);
    const listed = [...this.#strange.values()].reduce((sum, n) => sum + n, 0);
    const further = this.#strangeVoxels - listed;
    throw new DataError(
      path,
      `expected whole labels 0 to ${this.#classes - 1}, found ${this.#strangeVoxels} voxels with others: ${list.join(", ")}` +
        (further > 0 ? `, and ${further} voxels with further values` : ""),
    );
  }
}
