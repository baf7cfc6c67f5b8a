import { setImmediate } from "node:timers/promises";
import { boxMask } from "../data/boxes.ts";
import { Random } from "../random.ts";
import type { CaseCache } from "./case_cache.ts";
import type { Config } from "./config.ts";
import type { Split } from "./data.ts";
import { CaseDraws } from "./draws.ts";
import { type Recipe, usesMixMask } from "./recipes/index.ts";

/** Labelled patches first, then unlabelled ones; with the masks by which the latter are mixed, where the recipe does. */
export interface Batch {
  readonly image: Float32Array;
  readonly labels: Uint8Array;
  readonly mixMask?: Uint8Array;
}

/** The batches of a run. What a step gets depends on the configuration's seed and the step alone. */
export class Batches {
  private readonly config: Config;
  private readonly mixes: boolean;
  private readonly labeled: CaseDraws;
  private readonly unlabeled: CaseDraws | undefined;
  private next: { readonly step: number; readonly batch: Promise<Batch> } | undefined;
  private closed = false;

  /** Without unlabelled cases labelled ones also serve, without their labels. */
  constructor(config: Config, recipe: Recipe, { labeled, unlabeled }: Split) {
    const { patch, seed, foreground, labeledPerBatch, unlabeledPerBatch } = config;
    this.config = config;
    this.mixes = usesMixMask(recipe, config);
    this.labeled = new CaseDraws(labeled, labeledPerBatch, { patch, seed, stream: 0, foreground });
    if (recipe.unlabeled && unlabeledPerBatch > 0)
      this.unlabeled = new CaseDraws(unlabeled.length > 0 ? unlabeled : labeled, unlabeledPerBatch, {
        patch,
        seed,
        stream: 1,
        foreground: 0,
      });
  }

  /** The first step from `step` on that takes a patch of a case; infinity when none ever does. */
  nextUse(id: string, step: number): number {
    return Math.min(this.labeled.nextUse(id, step), this.unlabeled?.nextUse(id, step) ?? Infinity);
  }

  /** The batch of a step. That of the next step is made ready in the background from then on. */
  async at(step: number, cases: CaseCache): Promise<Batch> {
    const batch = await (this.next?.step === step ? this.next.batch : this.make(step, cases));
    this.next = undefined;
    if (step + 1 < this.config.steps && !this.closed) {
      // What the caller does with this batch starts first.
      const ahead = setImmediate().then(() => this.make(step + 1, cases));
      // An error is that of the step that needs the batch.
      ahead.catch(() => undefined);
      this.next = { step: step + 1, batch: ahead };
    }
    return batch;
  }

  /** Gives up what is being made ready; resolves when no file is read any more. */
  async close(): Promise<void> {
    this.closed = true;
    await this.next?.batch.catch(() => undefined);
  }

  private async make(step: number, cases: CaseCache): Promise<Batch> {
    const { patch, labeledPerBatch, unlabeledPerBatch } = this.config;
    const voxels = patch[0] * patch[1] * patch[2];
    const unlabeled = this.unlabeled === undefined ? 0 : unlabeledPerBatch;
    const image = new Float32Array((labeledPerBatch + unlabeled) * voxels);
    const labels = new Uint8Array(labeledPerBatch * voxels);
    const isWanted = () => !this.closed;
    const known = image.subarray(0, labeledPerBatch * voxels);
    await this.labeled.sample(step, cases, known, labels, isWanted);
    await this.unlabeled?.sample(step, cases, image.subarray(known.length), undefined, isWanted);
    return this.mixes ? { image, labels, mixMask: this.mixMask(step) } : { image, labels };
  }

  private mixMask(step: number): Uint8Array {
    const { patch, seed, unlabeledPerBatch: count, cutMixBoxes } = this.config;
    const voxels = patch[0] * patch[1] * patch[2];
    const masks = new Uint8Array(count * voxels);
    for (let i = 0; i < count; i++) {
      const random = new Random(seed, 3, step * count + i);
      boxMask(masks.subarray(i * voxels, (i + 1) * voxels), patch, cutMixBoxes, random);
    }
    return masks;
  }
}
