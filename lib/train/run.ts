import { existsSync } from "node:fs";
import { appendFile, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { writeAtomically } from "../data/atomic.ts";
import { makeFolder } from "../data/folder.ts";
import { DataError, UsageError } from "../errors.ts";
import { type Config, makeConfig } from "./config.ts";
import type { Split } from "./data.ts";
import { lockFile } from "./run_lock.ts";
import { checkSplit } from "./split.ts";

/** What a run folder says about itself in `config.json`. */
export interface RunDescription {
  readonly recipe: string;
  readonly preset: string;
  /** The dataset's folder. */
  readonly data: string;
  readonly config: Config;
}

export type Metrics = Readonly<Record<string, number>> & { readonly step: number };

/**
 * The folder of one training run: `config.json`, `split.json`, `metrics.jsonl`, `last.safetensors`,
 * `best.safetensors` and `report.html`.
 */
export class RunFolder {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  file(
    name:
      | "config.json"
      | "split.json"
      | "metrics.jsonl"
      | "last.safetensors"
      | "best.safetensors"
      | "report.html",
  ): string {
    return join(this.path, name);
  }

  /** Throws `UsageError` when the folder exists and holds something. */
  async checkNew(): Promise<void> {
    const held = existsSync(this.path) ? await readdir(this.path) : [];
    if (held.length > 0)
      throw new UsageError(
        `${this.path} is not empty (${held[0]}, …): continue that run with --resume, or choose another folder`,
      );
  }

  /** Makes the folder for a new run; one that already holds something is refused. */
  async create(description: RunDescription, split: Split): Promise<void> {
    await this.checkNew();
    await makeFolder(this.path);
    await this.writeJson("split.json", split);
    await this.writeJson("config.json", description);
  }

  /**
   * Keeps other processes from training in the folder, until the function that this resolves to is called. Throws `DataError` when
   * one does already.
   */
  lock(): Promise<() => Promise<void>> {
    return lockFile(join(this.path, "lock.json"));
  }

  /** Reads the description of an existing run. Throws `DataError` when there is none or it cannot be used. */
  async describe(): Promise<RunDescription> {
    const parsed = (await this.readJson("config.json")) as Partial<RunDescription> | null;
    if (typeof parsed?.recipe !== "string" || typeof parsed.data !== "string" || !parsed.config)
      throw new DataError(
        this.file("config.json"),
        'expected what train wrote, { "recipe": …, "preset": …, "data": …, "config": {…} }; found something else',
      );
    const description = parsed as RunDescription;
    try {
      return { ...description, config: makeConfig("recommended", description.config) };
    } catch (error) {
      throw new DataError(this.file("config.json"), (error as Error).message, { cause: error });
    }
  }

  /** Reads who played which part. Throws `DataError` when that cannot be read. */
  async split(): Promise<Split> {
    return checkSplit(this.file("split.json"), await this.readJson("split.json"));
  }

  /** Adds one line to the metrics. */
  async log(metrics: Metrics): Promise<void> {
    const path = this.file("metrics.jsonl");
    try {
      await appendFile(path, `${JSON.stringify(metrics)}\n`);
    } catch (error) {
      throw new DataError(path, `could not be written: ${(error as Error).message}`, { cause: error });
    }
  }

  /** All metrics so far; a line cut short by a crash is left out. */
  async metrics(): Promise<Metrics[]> {
    if (!existsSync(this.file("metrics.jsonl"))) return [];
    const text = await readFile(this.file("metrics.jsonl"), "utf8");
    return text.split("\n").flatMap((line) => {
      try {
        return [JSON.parse(line) as Metrics];
      } catch {
        return [];
      }
    });
  }

  /** Drops the metrics behind `step`, which a resumed run will write again. */
  async rewindMetrics(step: number): Promise<void> {
    const kept = (await this.metrics()).filter((line) => line.step <= step);
    const text = kept.map((line) => `${JSON.stringify(line)}\n`).join("");
    await writeAtomically(this.file("metrics.jsonl"), [Buffer.from(text)]);
  }

  private async writeJson(name: "config.json" | "split.json", value: unknown): Promise<void> {
    await writeAtomically(this.file(name), [Buffer.from(`${JSON.stringify(value, undefined, 2)}\n`)]);
  }

  private async readJson(name: "config.json" | "split.json"): Promise<unknown> {
    const path = this.file(name);
    let text: string;
    try {
      text = await readFile(path, "utf8");
    } catch (error) {
      throw new DataError(
        path,
        `there is no run in this folder (${(error as NodeJS.ErrnoException).code ?? "unreadable"})`,
        { cause: error },
      );
    }
    try {
      return JSON.parse(text) as unknown;
    } catch (error) {
      throw new DataError(path, `not JSON: ${(error as Error).message}`, { cause: error });
    }
  }
}
