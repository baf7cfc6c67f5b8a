import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { constants } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { DeviceError, UsageError } from "../errors.ts";
import { SAMPLE_SECONDS, type Sample } from "../metrics/efficiency.ts";
import { machineTime, processors, treeUse } from "./proc.ts";

export interface Watched {
  /** From the start of the command to its end. */
  readonly seconds: number;
  readonly samples: readonly Sample[];
  /** Exit status; 128 and the signal's number where one ended the command. */
  readonly status: number;
}

/**
 * Runs a command with this process's streams and looks every 0.1 s at the memory and the processor time that it takes. It
 * runs in processes of its own, so that no work of the command delays a look. With `gpu`, the index of an NVIDIA card, memory is
 * that card's total less what is free, whoever uses it, as `nvidia-smi` reports it; without, it is the resident memory of the
 * command's processes. Throws UsageError when the command cannot be run, DeviceError when `nvidia-smi` cannot or there is no /proc.
 */
export async function watch(command: readonly string[], gpu?: number): Promise<Watched> {
  const cores = processors();
  const card = gpu === undefined ? undefined : await Card.open(gpu);
  let machine = machineTime();
  const began = performance.now();
  const child = spawn(command[0], command.slice(1), { stdio: "inherit" });
  const ended = ending(child, notRun);
  let running = true;
  // A failure to start is met where `ended` is awaited.
  ended.catch(() => undefined).finally(() => (running = false));
  const samples: Sample[] = [];
  let own = new Map<number, number>() as ReadonlyMap<number, number>;
  let last = began;
  try {
    for (let tick = 0; running && child.pid !== undefined; tick++) {
      const due = began + 1000 * SAMPLE_SECONDS * tick;
      await Promise.race([sleep(Math.max(0, due - performance.now())), ended.catch(() => undefined)]);
      const now = performance.now();
      const { rssBytes, cpuSeconds } = treeUse(child.pid);
      if (!running || cpuSeconds.size === 0) break;
      const time = machineTime();
      const busy = time.busy - machine.busy;
      const all = busy + time.idle - machine.idle;
      const used = [...cpuSeconds].reduce((sum, [pid, spent]) => sum + spent - (own.get(pid) ?? 0), 0);
      const available = (cores * (now - last)) / 1000;
      samples.push({
        seconds: (now - began) / 1000,
        memory: card === undefined ? rssBytes / 2 ** 20 : card.usedMiB,
        cpu: all > 0 ? (100 * busy) / all : 0,
        ownCpu: tick > 0 ? Math.min(100, (100 * used) / available) : 0,
      });
      [machine, own, last] = [time, cpuSeconds, now];
    }
    const status = await ended;
    return { seconds: (performance.now() - began) / 1000, samples, status };
  } finally {
    card?.close();
  }
}

function notRun(error: NodeJS.ErrnoException, program: string): UsageError {
  const reasons: Record<string, string> = {
    ENOENT: "there is no such program",
    EACCES: "it is no program that may be run",
  };
  return new UsageError(
    `-- COMMAND: ${program} cannot be run: ${reasons[error.code ?? ""] ?? error.message}`,
  );
}

function noCard(error: Error, program: string): DeviceError {
  return new DeviceError(`${program} cannot be run: ${error.message}`, { cause: error });
}

function ending(
  child: ChildProcess,
  failure: (error: NodeJS.ErrnoException, program: string) => Error,
): Promise<number> {
  return new Promise((resolve, reject) => {
    child.on("error", (error) => reject(failure(error, child.spawnfile)));
    child.on("exit", (status, signal) =>
      resolve(status ?? 128 + constants.signals[signal as NodeJS.Signals]),
    );
  });
}

/** The memory of an NVIDIA card, from an `nvidia-smi` that repeats itself. */
class Card {
  private last = 0;
  private readonly child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.child = child;
  }

  /** Resolves when the first number is there. */
  static async open(index: number): Promise<Card> {
    const query = ["--query-gpu=memory.total,memory.free", "--format=csv,noheader,nounits"];
    const child = spawn("nvidia-smi", [...query, `--id=${index}`, "--loop-ms=50"], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const card = new Card(child);
    await new Promise<void>((resolve, reject) => {
      ending(child, noCard).then(
        () => reject(new DeviceError(`nvidia-smi does not know a card ${index}`)),
        reject,
      );
      createInterface({ input: child.stdout }).on("line", (line) => {
        const [total, free] = line.split(",").map(Number);
        if (!Number.isFinite(total - free)) return;
        card.last = total - free;
        resolve();
      });
    });
    return card;
  }

  get usedMiB(): number {
    if (this.child.exitCode !== null)
      throw new DeviceError("nvidia-smi has ended: memory is no longer known");
    return this.last;
  }

  close(): void {
    this.child.kill();
  }
}
