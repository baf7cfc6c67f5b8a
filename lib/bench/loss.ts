import { gradients } from "../autograd/gradients.ts";
import { compile } from "../compile/compile.ts";
import { makeConfig } from "../train/config.ts";
import { supervise } from "../train/recipes/recipe.ts";
import { fillUniform } from "./fill.ts";
import { readList } from "./list.ts";
import type { Work } from "./machine.ts";
import type { Target } from "./target.ts";
import { type Contender, repeated } from "./turns.ts";

/** Softmax, cross-entropy and Dice loss of logits `[batch, D, H, W, classes]`. */
export interface LossShape {
  readonly name: string;
  readonly batch: number;
  /** D, H, W. */
  readonly size: readonly number[];
  readonly classes: number;
}

/**
 * Reads a list of losses: `NAME size=DxHxW [batch=2] [classes=2]`.
 *
 * @throws {DataError} naming the line that is not one.
 */
export function readLossShapes(file: string): LossShape[] {
  return readList(file, ["size", "batch", "classes"]).map((entry) => ({
    name: entry.name,
    batch: entry.integer("batch", { fallback: 2 }),
    size: entry.extents("size", 3),
    classes: entry.integer("classes", { fallback: 2, least: 2 }),
  }));
}

export interface PreparedLoss extends Contender, Disposable {
  readonly work: Work;
}

/** The loss and its gradient as a plan. The least traffic reads logits and labels twice and writes the gradient once. */
export async function prepareLoss(
  { batch, size, classes }: LossShape,
  target: Target,
  signal: AbortSignal,
): Promise<PreparedLoss> {
  const shape = [batch, ...size];
  const config = makeConfig("recommended", { classes });
  const plan = await compile((graph) => {
    const logits = graph.input("logits", [...shape, classes]);
    const { loss } = supervise(logits, graph.input("labels", shape, "u8"), config);
    return { loss, gradient: gradients(loss, [logits])[0] };
  }, target);
  const voxels = shape.reduce((product, extent) => product * extent, 1);
  const logits = fillUniform(new Float32Array(voxels * classes));
  const labels = Uint8Array.from({ length: voxels }, (_, i) => (i >>> 4) % classes);
  const work = { flop: plan.flops, validFlop: plan.flops, bytes: (12 * classes + 2) * voxels };
  return {
    ...repeated("voxgrad", (runs) => plan.time({ logits, labels }, runs, { signal })),
    work,
    [Symbol.dispose]: () => plan.dispose(),
  };
}
