import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";

/** What was measured of one step: its fastest way, by name, and for whoever reads the file the milliseconds of all that there were. */
export interface Measured {
  readonly way: string;
  readonly milliseconds: number;
  readonly ways?: Readonly<Record<string, number>>;
}

const format = "voxgrad tuning 1";

/**
 * The fastest ways of computing steps, kept from process to process. A file that cannot be read is warned of and replaced, and
 * one that cannot be written is warned of: both cost time only.
 */
export class TuningFile {
  readonly path: string;
  private readonly entries: Map<string, Measured>;

  constructor(path: string = tuningPath()) {
    this.path = path;
    this.entries = read(path);
  }

  get(key: string): string | undefined {
    return this.entries.get(key)?.way;
  }

  /** By the fastest way. */
  milliseconds(key: string): number | undefined {
    return this.entries.get(key)?.milliseconds;
  }

  /** Adds what was measured to the file, beside what other processes have put there meanwhile. */
  add(measured: ReadonlyMap<string, Measured>): void {
    const all = new Map([...read(this.path), ...this.entries, ...measured]);
    for (const [key, entry] of all) this.entries.set(key, entry);
    const temporary = `${this.path}.${process.pid}.tmp`;
    try {
      mkdirSync(dirname(this.path), { recursive: true });
      writeFileSync(temporary, `${JSON.stringify({ format, entries: Object.fromEntries(all) }, null, 1)}\n`);
      renameSync(temporary, this.path);
    } catch (error) {
      warn(`${this.path} could not be written: ${(error as Error).message}`);
    }
  }
}

/** `VOXGRAD_TUNING`, or a file in the user's cache folder. */
function tuningPath(): string {
  const folder = process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache");
  return process.env.VOXGRAD_TUNING ?? join(folder, "voxgrad", "tuning.json");
}

function read(path: string): Map<string, Measured> {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT")
      warn(`${path} could not be read: ${(error as Error).message}`);
    return new Map();
  }
  try {
    const found = JSON.parse(text) as { format?: unknown; entries?: Record<string, Partial<Measured>> };
    if (found.format !== format) throw new Error(`it does not say "${format}"`);
    const entries = Object.entries(found.entries ?? {});
    for (const [key, { way, milliseconds }] of entries)
      if (typeof way !== "string" || typeof milliseconds !== "number")
        throw new Error(`"${key}" is no entry`);
    return new Map(entries as [string, Measured][]);
  } catch (error) {
    warn(`${path} is ignored: ${(error as Error).message}`);
    return new Map();
  }
}

function warn(text: string): void {
  process.emitWarning(text, { code: "VOXGRAD_TUNING" });
}
