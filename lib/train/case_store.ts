import { createHash } from "node:crypto";
import { stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { CaseFile } from "../data/case_file.ts";
import type { Case } from "../data/dataset.ts";
import { makeFolder } from "../data/folder.ts";
import type { PatchVolume } from "../data/patch_draws.ts";
import { UsageError } from "../errors.ts";
import type { Config } from "./config.ts";

/**
 * A folder of decoded cases (setting `cacheFolder`), which runs may share: a file is found again where image and label are the same
 * files, unchanged since, and the settings that shape what is read of them are the same.
 */
export class CaseStore {
  private readonly folder: string;
  private readonly settings: readonly unknown[];
  private readonly caseOf: (id: string) => Case;

  private constructor(folder: string, config: Config, caseOf: (id: string) => Case) {
    const { window, normalize, classes, labelMap, orientation, foreground } = config;
    this.folder = folder;
    this.settings = [window, normalize, classes, labelMap, orientation, foreground > 0];
    this.caseOf = caseOf;
  }

  /** Makes the folder where it is missing. Throws UsageError when it cannot be had. */
  static async open(folder: string, config: Config, caseOf: (id: string) => Case): Promise<CaseStore> {
    await makeFolder(folder).catch((error: unknown) => {
      throw new UsageError(`setting "cacheFolder": ${(error as Error).message}`);
    });
    return new CaseStore(folder, config, caseOf);
  }

  /** The file of a case; undefined where it has not been written. */
  async find(id: string): Promise<CaseFile | undefined> {
    return CaseFile.open(await this.pathOf(id));
  }

  async write(id: string, volume: PatchVolume): Promise<void> {
    await CaseFile.write(await this.pathOf(id), volume);
  }

  private async pathOf(id: string): Promise<string> {
    const { image, label } = this.caseOf(id);
    const files = [image, ...(label === undefined ? [] : [label])];
    const states = files.map(async (path) => {
      const { size, mtimeMs } = await stat(path);
      return [resolve(path), size, mtimeMs];
    });
    const key = JSON.stringify([await Promise.all(states), this.settings]);
    const digest = createHash("sha256").update(key).digest("hex").slice(0, 16);
    return join(this.folder, `${id}.${digest}.case`);
  }
}
