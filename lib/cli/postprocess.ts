import type { Triple, Volume } from "../data/volume.ts";
import { counted, UsageError } from "../errors.ts";
import { biasFactors } from "../infer/class_bias.ts";
import {
  chooseConnectivity,
  type ComponentOptions,
  type RemovedComponents,
  removeComponents,
} from "../infer/components.ts";
import type { OptionSpec } from "./arguments.ts";
import { Progress } from "./progress.ts";
import type { Writer } from "./style.ts";

/** Options of `predict` that change what the networks said. */
export const postprocessOptions = {
  "class-bias": {
    type: "string",
    placeholder: "B|B,B,...",
    help: "added to log probabilities (logits): one number for all classes but background, or one per class; default 0",
  },
  "min-component": {
    type: "string",
    placeholder: "N|Xmm2|Xmm3",
    help: "make background of connected components below N voxels, X mm2 in slices or X mm3 in volumes",
  },
  "largest-component": {
    type: "boolean",
    help: "keep only the largest connected component of each class",
  },
  components: {
    type: "string",
    choices: ["slice", "volume"],
    help: "where components are sought; default slice, with --largest-component volume",
  },
  connectivity: {
    type: "integer",
    choices: ["4", "8", "6", "18", "26"],
    help: "neighbours of a voxel: 4 or 8 (default) in slices, 6, 18 or 26 (default) in volumes",
  },
} as const satisfies Record<string, OptionSpec>;

interface Given {
  readonly classBias?: string;
  readonly minComponent?: string;
  readonly largestComponent: boolean;
  readonly components?: "slice" | "volume";
  readonly connectivity?: number;
}

/** The bias of each of `classes` classes that `--class-bias` names, background first. */
export function parseClassBias(text: string, classes: number): readonly number[] {
  const parts = text.split(",");
  const numbers = parts.map(Number);
  if (parts.some((part, i) => part.trim() === "" || !Number.isFinite(numbers[i])))
    throw new UsageError(
      `--class-bias takes a number or one per class, such as 0.6 or 0,0.6; found '${text}'`,
    );
  const bias =
    numbers.length > 1 ? numbers : Array.from({ length: classes }, (_, k) => (k === 0 ? 0 : numbers[0]));
  biasFactors(classes, bias);
  return bias;
}

/** What is removed from label maps; the smallest size that is kept depends on the image's spacing. */
export interface Cleaning extends Pick<ComponentOptions, "within" | "connectivity" | "largest"> {
  /** Fewest voxels of a component of an image with this spacing (mm). */
  readonly minimum: (spacing: Triple) => number;
  /** As the log says it. */
  readonly description: string;
}

/** Reads the options on components; undefined where nothing is to be removed. */
export function parseCleaning(given: Given): Cleaning | undefined {
  const { minComponent, largestComponent: largest } = given;
  if (minComponent === undefined && !largest) {
    const alone = given.components === undefined ? "--connectivity" : "--components";
    if (given.components === undefined && given.connectivity === undefined) return undefined;
    throw new UsageError(`${alone} needs --min-component N or --largest-component`);
  }
  const within = given.components ?? (largest ? "volume" : "slice");
  const connectivity = chooseConnectivity(within, given.connectivity);
  const minimum = minComponent === undefined ? () => 1 : parseMinimum(minComponent, within);
  const what = [
    ...(minComponent === undefined
      ? []
      : [`below ${/mm/.test(minComponent) ? minComponent : counted(Number(minComponent), "voxel")}`]),
    ...(largest ? ["but the largest of each class"] : []),
  ].join(" and all ");
  const description = `${what} removed, within each ${within}, connectivity ${connectivity}`;
  return { within, connectivity, largest, minimum, description };
}

function parseMinimum(text: string, within: "slice" | "volume"): Cleaning["minimum"] {
  const [, digits, unit] = /^(\d+|\d*\.\d+(?=mm))(mm[23])?$/.exec(text) ?? [];
  const size = Number(digits);
  if (digits === undefined || !(size > 0) || !Number.isSafeInteger(Math.ceil(size)))
    throw new UsageError(
      `--min-component takes a number of voxels, or a size such as 40mm2 or 100mm3, above 0; found '${text}'`,
    );
  if (unit === undefined) return () => size;
  const fits = within === "slice" ? "mm2" : "mm3";
  if (unit !== fits)
    throw new UsageError(
      `--min-component: components within a ${within} are measured in ${fits}, found ${text}`,
    );
  // A component of the size itself stays, whatever the product of spacings is rounded to.
  return ([x, y, z]) => Math.max(1, Math.ceil((size / (x * y * (within === "slice" ? 1 : z))) * (1 - 1e-6)));
}

/** Milliseconds of cleaning after which it shows how far it is. */
const SILENT_MS = 2000;

/** Removes components from a label map in place; resolves to what the log says about that. */
export async function clean(
  { data, size, geometry }: Volume<Uint8Array>,
  { within, connectivity, largest, minimum }: Cleaning,
  label: string,
  stdout: Writer,
  signal: AbortSignal | undefined,
): Promise<string> {
  const began = performance.now();
  let progress: Progress | undefined;
  const onProgress = (done: number, total: number) => {
    if (performance.now() - began < SILENT_MS) return;
    progress ??= new Progress(stdout, { total, label: `${label} components`, unit: "class" });
    progress.update(done);
  };
  const options = { within, connectivity, largest, minimum: minimum(geometry.spacing), signal, onProgress };
  try {
    return describeRemoved(await removeComponents(data, size, options));
  } finally {
    progress?.done();
  }
}

/**
 * The same for slices `[y, x]` of `size`, as they come, each by itself; `removed` gives what the log says of those so far. They are
 * changed in place. Throws UsageError when components are not sought within slices.
 */
export function cleanSlices(
  slices: AsyncIterable<Uint8Array>,
  size: Triple,
  spacing: Triple,
  { within, connectivity, largest, minimum }: Cleaning,
): { slices: AsyncIterable<Uint8Array>; removed: () => string } {
  if (within !== "slice") throw new UsageError("components of a volume cannot be removed slice by slice");
  const totals = new Map<number, RemovedComponents>();
  async function* cleaned() {
    for await (const data of slices) {
      const options = { within, connectivity, largest, minimum: minimum(spacing) } as const;
      for (const each of await removeComponents(data, size, options)) {
        const { components, voxels } = totals.get(each.class) ?? { components: 0, voxels: 0 };
        totals.set(each.class, {
          class: each.class,
          components: components + each.components,
          voxels: voxels + each.voxels,
        });
      }
      yield data;
    }
  }
  const inOrder = () => [...totals.values()].sort((a, b) => a.class - b.class);
  return { slices: cleaned(), removed: () => describeRemoved(inOrder()) };
}

function describeRemoved(removed: readonly RemovedComponents[]): string {
  const parts = removed.map(
    (each) => `class ${each.class} ${each.components} (${counted(each.voxels, "voxel")})`,
  );
  return `  components removed: ${parts.length === 0 ? "none" : parts.join(", ")}`;
}
