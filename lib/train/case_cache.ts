import { caseBytes, CaseFile } from "../data/case_file.ts";
import { codeImage } from "../data/coded_image.ts";
import { checkVoxels, foregroundVoxels, type PatchVolume } from "../data/patch_draws.ts";
import type { SampledVolume } from "../data/sampler.ts";
import type { CaseStore } from "./case_store.ts";

export interface CaseCacheOptions {
  /** Reads and prepares a case. */
  readonly load: (id: string) => Promise<SampledVolume>;
  /** Where cases go that there is no room for; without it they are read again. */
  readonly store?: Pick<CaseStore, "find" | "write">;
  /** Bytes that may be kept. */
  readonly budget: number;
  /** The first step from `step` on that needs a case. */
  readonly nextUse: (id: string, step: number) => number;
  /** Whether patches are centred on structures. */
  readonly foreground: boolean;
}

/**
 * Decoded cases, as many as fit. What is needed last goes first (Belády 1966): which steps draw a case is known beforehand, so that
 * no other choice reads less often. With a store it goes there, and what is there is read slice by slice. A case takes 1 or 2 bytes a voxel where its image has few enough different values, else 4, one
 * for its label, and the lists of voxels to centre patches on.
 */
export class CaseCache {
  private readonly options: CaseCacheOptions;
  private readonly kept = new Map<string, { readonly volume: PatchVolume; readonly bytes: number }>();
  private readonly loading = new Map<string, Promise<PatchVolume | CaseFile>>();
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

  /** A case, decoded now unless it is kept or stored. `step`: the first step that it may be needed in afterwards. */
  async get(id: string, step: number): Promise<PatchVolume | CaseFile> {
    const kept = this.kept.get(id);
    if (kept !== undefined) return kept.volume;
    let loading = this.loading.get(id);
    if (loading === undefined) {
      loading = this.load(id, step).finally(() => this.loading.delete(id));
      this.loading.set(id, loading);
    }
    return loading;
  }

  /** The same with all its slices in memory. */
  async whole(id: string, step: number): Promise<PatchVolume> {
    return wholeOf(await this.get(id, step));
  }

  private async load(id: string, step: number): Promise<PatchVolume | CaseFile> {
    const { store, budget } = this.options;
    const file = await store?.find(id);
    if (file !== undefined && this.held + file.bytes > budget) return file;
    const volume = file === undefined ? await this.decode(id) : await wholeOf(file);
    const bytes = caseBytes(volume);
    this.kept.set(id, { volume, bytes });
    this.held += bytes;
    for (const [other, gone] of this.makeRoom(step))
      if (store !== undefined && (await store.find(other)) === undefined) await store.write(other, gone);
    return volume;
  }

  private async decode(id: string): Promise<PatchVolume> {
    const loaded = await this.options.load(id);
    checkVoxels(`case ${id}`, loaded);
    const { label, size } = loaded;
    const foreground = label && this.options.foreground ? foregroundVoxels(label) : [];
    return { image: codeImage(loaded.image), label, size, foreground };
  }

  /** Lets go of cases until the rest fits; gives those back. */
  private makeRoom(step: number): [id: string, volume: PatchVolume][] {
    const gone: [string, PatchVolume][] = [];
    while (this.held > this.options.budget) {
      let last = "";
      let lastUse = -1;
      for (const id of this.kept.keys()) {
        const use = this.options.nextUse(id, step);
        if (use < lastUse) continue;
        last = id;
        lastUse = use;
      }
      const { volume, bytes } = this.kept.get(last) as { volume: PatchVolume; bytes: number };
      this.held -= bytes;
      this.kept.delete(last);
      gone.push([last, volume]);
    }
    return gone;
  }
}

async function wholeOf(volume: PatchVolume | CaseFile): Promise<PatchVolume> {
  return volume instanceof CaseFile ? volume.slices(0, volume.size[2]) : volume;
}
