import { counted, DataError, UsageError } from "../errors.ts";

const LISTED = 8;
/** Largest value that a label map may name: more than any atlas in use numbers. */
const LARGEST_VALUE = 65_535;

/**
 * The class that each value of a label file becomes: `{ "5": 1, "2": 2, "*": 0 }`. 0 is background unless it is named;
 * `"*"` names the class of every other value, and without it such a value is an error.
 */
export type LabelMapping = Readonly<Record<string, number>>;

/** What `isLabelMapping` holds to be one, for messages. */
export const labelMappingForm = `an object from label values (0 to ${LARGEST_VALUE}, or "*" for all others) to classes (0 to 254), such as {"5": 1, "2": 2, "*": 0}`;

export function isLabelMapping(map: unknown): map is LabelMapping {
  if (typeof map !== "object" || map === null || Array.isArray(map)) return false;
  const entries = Object.entries(map);
  const isValue = (key: string) =>
    key === "*" || (/^(0|[1-9]\d*)$/.test(key) && Number(key) <= LARGEST_VALUE);
  const isClass = (label: unknown) => Number.isInteger(label) && Number(label) >= 0 && Number(label) < 255;
  return entries.length > 0 && entries.every(([key, label]) => isValue(key) && isClass(label));
}

/** Classes that a label map leads to, background included: its largest class + 1, at least 2. */
export function classesOf(mapping: LabelMapping): number {
  return Math.max(1, ...Object.values(mapping)) + 1;
}

/** Class by value, -1 where a value has none; throws UsageError when `mapping` is not of `labelMappingForm`. */
function classTable(mapping: LabelMapping): { table: Int16Array; others: number } {
  if (!isLabelMapping(mapping))
    throw new UsageError(`a label map must be ${labelMappingForm}; found ${JSON.stringify(mapping)}`);
  const { "*": others = -1, ...named } = mapping;
  const table = new Int16Array(LARGEST_VALUE + 1).fill(others);
  table[0] = 0;
  for (const [value, label] of Object.entries(named)) table[Number(value)] = label;
  return { table, others };
}

/** Labels as they are read, one byte per voxel; remembers the values that are none. */
export class LabelMap {
  readonly #data: Uint8Array<ArrayBuffer>;
  readonly #classes: number;
  readonly #mapped: ReturnType<typeof classTable> | undefined;
  readonly #strange = new Map<number, number>();
  #strangeVoxels = 0;

  /** `classes` counts the background. Throws UsageError when `mapping` is none. */
  constructor(voxels: number, classes: number, mapping?: LabelMapping) {
    this.#data = new Uint8Array(voxels);
    this.#classes = classes;
    this.#mapped = mapping && classTable(mapping);
  }

  /** Values within 1e-3 of a whole number are rounded to it. */
  set(voxel: number, value: number): void {
    const whole = Math.round(value);
    const label = this.#mapped === undefined ? whole : (this.#mapped.table[whole] ?? this.#mapped.others);
    if (Math.abs(value - whole) <= 1e-3 && label >= 0 && label < this.#classes) {
      this.#data[voxel] = label;
      return;
    }
    this.#strangeVoxels++;
    const seen = this.#strange.get(value);
    if (seen !== undefined) this.#strange.set(value, seen + 1);
    else if (this.#strange.size < LISTED) this.#strange.set(value, 1);
  }

  /**
   * The labels. Throws DataError when a value was not whole, lay outside 0 … classes - 1, or had no class in the
   * mapping: the message lists such values and how many voxels have them.
   */
  finish(path: string): Uint8Array<ArrayBuffer> {
    if (this.#strangeVoxels === 0) return this.#data;
    const list = [...this.#strange]
      .sort(([a], [b]) => a - b)
      .map(([value, n]) => `${value} (${counted(n, "voxel")})`);
    const listed = [...this.#strange.values()].reduce((sum, n) => sum + n, 0);
    const further = this.#strangeVoxels - listed;
    const expected =
      this.#mapped === undefined
        ? `whole labels 0 to ${this.#classes - 1}`
        : `values that the label map takes to classes 0 to ${this.#classes - 1} ("*": 0 makes background of all that it does not name)`;
    throw new DataError(
      path,
      `expected ${expected}, found ${counted(this.#strangeVoxels, "voxel")} with others: ${list.join(", ")}` +
        (further > 0 ? `, and ${counted(further, "voxel")} with further values` : ""),
    );
  }
}
