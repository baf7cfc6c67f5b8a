/** Every error that voxgrad raises on purpose. `code` is stable and meant for programs, the message for people. */
export class VoxgradError extends Error {
  readonly code: string;

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
  }
}

/** Shapes, dtypes or attributes of an op do not fit together. The message names the op and every shape. */
export class ShapeError extends VoxgradError {
  constructor(message: string) {
    super("ERR_SHAPE", message);
  }
}

/** A file or folder holds something other than what was expected. `path` says which. */
export class DataError extends VoxgradError {
  readonly path: string;

  constructor(path: string, message: string, options?: ErrorOptions) {
    super("ERR_DATA", `${path}: ${message}`, options);
    this.path = path;
  }
}

/** A command line or configuration that cannot be acted on; the command exits with status 2. */
export class UsageError extends VoxgradError {
  constructor(message: string) {
    super("ERR_USAGE", message);
  }
}

/** The native addon or a device cannot be had; the message says why and what to do. */
export class DeviceError extends VoxgradError {
  constructor(message: string, options?: ErrorOptions) {
    super("ERR_DEVICE", message, options);
  }
}

/** A plan needs more memory than there is; the message lists its largest tensors. */
export class OutOfMemoryError extends VoxgradError {
  constructor(message: string, options?: ErrorOptions) {
    super("ERR_OUT_OF_MEMORY", message, options);
  }
}

/** Training produced a number that is not finite; `tensor` names the first one that did. */
export class NotFiniteError extends VoxgradError {
  readonly tensor: string;

  constructor(tensor: string, message: string) {
    super("ERR_NOT_FINITE", message);
    this.tensor = tensor;
  }
}

/** How many of a thing, for people: `1 step`, `2 steps`, `3 classes`. Digits stand as `written`, where that is given. */
export function counted(count: number, noun: string, written = String(count)): string {
  if (count === 1) return `${written} ${noun}`;
  return `${written} ${noun}${/(?:s|x|ch|sh)$/.test(noun) ? "es" : "s"}`;
}

/** The candidate nearest to `word` in edit distance, for "did you mean"; undefined when none is near. */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(2, Math.floor(word.length / 3)) + 1;
  for (const candidate of candidates) {
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitute = row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(substitute, row[j] + 1, next[j - 1] + 1));
    }
    row = next;
  }
  return row[b.length];
}
