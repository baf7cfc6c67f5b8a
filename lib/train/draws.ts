import { CaseFile } from "../data/case_file.ts";
import { PatchDraws } from "../data/patch_draws.ts";
import type { CaseCache } from "./case_cache.ts";

/** Cases that are decoded at a time. */
const AT_ONCE = 2;

/** Batches of patches of cases that need not be in memory; the same ones that `PatchSampler` makes of theirs. */
export class CaseDraws {
  readonly ids: readonly string[];
  private readonly draws: PatchDraws;
  private readonly count: number;
  private readonly indices: ReadonlyMap<string, number>;

  /** `count` patches a step. */
  constructor(ids: readonly string[], count: number, options: ConstructorParameters<typeof PatchDraws>[1]) {
    this.ids = ids;
    this.count = count;
    this.draws = new PatchDraws(ids.length, options);
    this.indices = new Map(ids.map((id, index) => [id, index]));
  }

  /** The first step from `step` on that takes a patch of a case; infinity when none ever does. */
  nextUse(id: string, step: number): number {
    const index = this.indices.get(id);
    if (index === undefined) return Infinity;
    return Math.floor(this.draws.nextDraw(index, step * this.count) / this.count);
  }

  /**
   * Fills `image`, and `label` when given, with the patches of a step. Every case is decoded at most once, those in the cache come
   * first, and each is let go as soon as its patches are cut; of stored ones only the slices that a patch needs are read. Stops early, with nothing of use, when `isWanted` says so.
   */
  async sample(
    step: number,
    cases: CaseCache,
    image: Float32Array,
    label?: Uint8Array,
    isWanted: () => boolean = () => true,
  ): Promise<void> {
    this.draws.checkBuffer("image", image.length, this.count);
    if (label) this.draws.checkBuffer("label", label.length, this.count);
    const wanted = new Map<string, number[]>();
    for (let i = 0; i < this.count; i++) {
      const id = this.ids[this.draws.volumeOf(step * this.count + i)];
      wanted.set(id, [...(wanted.get(id) ?? []), i]);
    }
    const cut = async ([id, places]: readonly [string, number[]]) => {
      const found = await cases.get(id, step + 1);
      for (const i of places) {
        const draw = step * this.count + i;
        const stored = found instanceof CaseFile;
        const volume = stored ? await found.slices(...this.draws.slicesOf(draw, found)) : found;
        this.draws.cut(draw, volume, i, image, label);
      }
    };
    const queue = [...wanted].sort(([a], [b]) => Number(cases.has(b)) - Number(cases.has(a)));
    const work = async () => {
      for (let each = queue.shift(); each !== undefined && isWanted(); each = queue.shift()) await cut(each);
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
  }
}
