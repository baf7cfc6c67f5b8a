import { setImmediate } from "node:timers/promises";
import { type Triple, voxelCount } from "../data/volume.ts";
import { ShapeError, UsageError } from "../errors.ts";
import { type Box, ComponentRuns, type Connectivity } from "./component_runs.ts";

export interface ComponentOptions {
  /** Where components are sought: in each slice of constant z by itself, or in the volume. */
  readonly within: "slice" | "volume";
  /** 4 or 8 in slices, 6, 18 or 26 in the volume; default 8 and 26. */
  readonly connectivity?: Connectivity;
  /** Components of fewer voxels become background; default 1, which keeps all. */
  readonly minimum?: number;
  /** Keeps only the largest component of each class (within "slice": of each class in each slice); default false. */
  readonly largest?: boolean;
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number) => void;
}

/** What was taken from a class. */
export interface RemovedComponents {
  readonly class: number;
  readonly components: number;
  readonly voxels: number;
}

/**
 * Makes background of small connected components, or of all but the largest, class by class. A component is a set of
 * connected voxels of one label; those of other labels neither join nor count. `labels` is `[z, y, x]` of `size` (x, y, z) and is
 * changed in place. Resolves to what was removed, by class from 1, only classes that lost something; the event loop runs between
 * classes. Takes time linear in the voxels of the classes' bounding boxes and, for one class at a time, 16 bytes per run of voxels
 * along x: at most 8 per voxel of the box. Throws ShapeError when labels and size differ, UsageError on a connectivity that
 * does not fit and a minimum below 1.
 */
export async function removeComponents(
  labels: Uint8Array,
  size: Triple,
  options: ComponentOptions,
): Promise<RemovedComponents[]> {
  const { within, minimum = 1, largest = false, signal, onProgress } = options;
  const connectivity = chooseConnectivity(within, options.connectivity);
  if (labels.length !== voxelCount(size))
    throw new ShapeError(
      `removeComponents: ${size.join(" x ")} voxels need as many labels, found ${labels.length}`,
    );
  if (!(minimum >= 1)) throw new UsageError(`the smallest component must be 1 or more, found ${minimum}`);
  const removed: RemovedComponents[] = [];
  const extents = classExtents(labels, size);
  for (const [done, extent] of extents.entries()) {
    await setImmediate();
    signal?.throwIfAborted();
    const boxes = within === "slice" ? slicesOf(extent) : [extent];
    const [width, height, depth] = boxes[0].to.map((end, axis) => end - boxes[0].from[axis]);
    const rows = height * depth;
    const runs = new ComponentRuns(Math.min(extent.runs, Math.ceil(width / 2) * rows), rows);
    const total = { class: extent.label, components: 0, voxels: 0 };
    for (const box of boxes) {
      const part = runs.remove(labels, size, extent.label, box, { minimum, largest, connectivity });
      total.components += part.components;
      total.voxels += part.voxels;
    }
    if (total.components > 0) removed.push(total);
    onProgress?.(done + 1, extents.length);
  }
  return removed;
}

/** `given`, or 8 within a slice and 26 within a volume; throws UsageError on one of the other kind. */
export function chooseConnectivity(within: "slice" | "volume", given?: number): Connectivity {
  const possible: readonly Connectivity[] = within === "slice" ? [4, 8] : [6, 18, 26];
  if (given === undefined) return within === "slice" ? 8 : 26;
  const chosen = possible.find((each) => each === given);
  if (chosen === undefined)
    throw new UsageError(
      `the connectivity within a ${within} is one of ${possible.join(", ")}; found ${given}`,
    );
  return chosen;
}

interface Extent extends Box {
  readonly label: number;
  /** Runs of the label along x, in the whole volume. */
  readonly runs: number;
}

/** The bounding boxes of the labels from 1 that occur, in their order. */
function classExtents(labels: Uint8Array, size: Triple): Extent[] {
  const found = new Map<number, { from: number[]; to: number[]; runs: number }>();
  let at = 0;
  for (let z = 0; z < size[2]; z++) {
    for (let y = 0; y < size[1]; y++) {
      const origin = at;
      const behind = at + size[0];
      while (at < behind) {
        const label = labels[at];
        const first = at - origin;
        do at++;
        while (at < behind && labels[at] === label);
        if (label === 0) continue;
        let extent = found.get(label);
        if (extent === undefined)
          found.set(label, (extent = { from: [first, y, z], to: [first, y, z], runs: 0 }));
        const { from, to } = extent;
        from[0] = Math.min(from[0], first);
        from[1] = Math.min(from[1], y);
        to[0] = Math.max(to[0], at - origin);
        to[1] = Math.max(to[1], y + 1);
        to[2] = z + 1;
        extent.runs++;
      }
    }
  }
  return [...found]
    .sort(([a], [b]) => a - b)
    .map(([label, { from, to, runs }]) => ({ label, from: triple(from), to: triple(to), runs }));
}

function slicesOf({ from: [x0, y0, z0], to: [x1, y1, z1] }: Box): Box[] {
  return Array.from({ length: z1 - z0 }, (_, i) => ({
    from: [x0, y0, z0 + i],
    to: [x1, y1, z0 + i + 1],
  }));
}

const triple = ([x, y, z]: readonly number[]): Triple => [x, y, z];
