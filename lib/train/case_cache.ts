import { codeImage, intensityBytes } from "../data/coded_image.ts";
import { checkVoxels, foregroundVoxels, type PatchVolume } from "../data/patch_draws.ts";
import type { SampledVolume } from "../data/sampler.ts";

export interface CaseCacheOptions {
  /** Reads and prepares a case. */
  readonly load: (id: string) => Promise<SampledVolume>;
  /** Bytes that may be kept. */
  readonly budget: number;
  /** The first step from `step` on that needs a case. */
  readonly nextUse: (id: string, step: number) => number;
  /** Whether patches are centred on structures. */
  readonly foreground: boolean;
}

/**
 * Decoded cases, as many as fit. What is needed last goes first (Belády 1966): which steps draw a case is known beforehand, so that
 * no other choice reads less often. A case takes 1 or 2 bytes a voxel where its image has few enough different values, else 4, one
 * for its label, and the lists of voxels to centre patches on.
 */
export class CaseCache {
  private readonly options: CaseCacheOptions;
  private readonly kept = new Map<string, { readonly volume: PatchVolume; readonly bytes: number }>();
  private readonly loading = new Map<string, Promise<PatchVolume>>();
  private held = 0;

  constructor(options: CaseCacheOptions) {
    this.options = options;
  }

  /** Number of cases that are kept. */
  get count(): number {
    return this.kept.size;
  }

  /** Bytes that they take. */
  get bytes(): number {
    return this.held;
  }

  has(id: string): boolean {
    return this.kept.has(id);
  }

  /** A case, decoded now unless it is kept. `step`: the first step that it may be needed in afterwards. */
  async get(id: string, step: number): Promise<PatchVolume> {
    const kept = this.kept.get(id);
    if (kept !== undefined) return kept.volume;
    let loading = this.loading.get(id);
    if (loading === undefined) {
      loading = this.load(id, step).finally(() => this.loading.delete(id));
      this.loading.set(id, loading);
    }
    return loading;
  }

  private async load(id: string, step: number): Promise<PatchVolume> {
    const loaded = await this.options.load(id);
    checkVoxels(`case ${id}`, loaded);
    const { label, size } = loaded;
    const image = codeImage(loaded.image);
    const foreground = label && this.options.foreground ? foregroundVoxels(label) : [];
    const lists = foreground.reduce((total, list) => total + list.byteLength, 0);
    const volume = { image, label, size, foreground };
    const bytes = intensityBytes(image) + (label?.byteLength ?? 0) + lists;
    this.kept.set(id, { volume, bytes });
    this.held += bytes;
    this.makeRoom(step);
    return volume;
  }

  private makeRoom(step: number): void {
    while (this.held > this.options.budget) {
      let last = "";
      let lastUse = -1;
      for (const id of this.kept.keys()) {
        const use = this.options.nextUse(id, step);
        if (use < lastUse) continue;
        last = id;
        lastUse = use;
      }
      this.held -= this.kept.get(last)?.bytes ?? 0;
      this.kept.delete(last);
    }
  }
}
