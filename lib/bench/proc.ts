import { readdirSync, readFileSync } from "node:fs";
import { DeviceError } from "../errors.ts";

/** Clock ticks per second in /proc, the same on every Linux. */
const TICKS = 100;

/** Processor time of the machine since it started, in ticks. */
export interface MachineTime {
  readonly busy: number;
  readonly idle: number;
}

/** What a process and its descendants use now. */
export interface TreeUse {
  /** Sum of the resident sets; pages that processes share count for each. */
  readonly rssBytes: number;
  /** Processor seconds so far of the processes that live, by id. */
  readonly cpuSeconds: ReadonlyMap<number, number>;
}

/**
 * Processor time as the evaluation code of FLARE22 counts it: user and system as busy; nice, iowait, irq and steal as
 * neither. Throws DeviceError where there is no /proc.
 */
export function machineTime(): MachineTime {
  const [, user, , system, idle] = read("/proc/stat").split("\n")[0].split(/\s+/).map(Number);
  return { busy: user + system, idle };
}

/** Processors that the kernel counts. */
export function processors(): number {
  return read("/proc/stat")
    .split("\n")
    .filter((line) => /^cpu\d/.test(line)).length;
}

/** What the process `root` and all its descendants use; nothing when they have ended. */
export function treeUse(root: number): TreeUse {
  const parents = new Map<number, { parent: number; ticks: number }>();
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const stat = readIfThere(`/proc/${name}/stat`);
    // The second field, the name in parentheses, may hold anything.
    const fields = stat?.slice(stat.lastIndexOf(")") + 2).split(" ");
    if (fields === undefined) continue;
    parents.set(Number(name), { parent: Number(fields[1]), ticks: Number(fields[11]) + Number(fields[12]) });
  }
  const inTree = (pid: number): boolean => {
    let at: number | undefined = pid;
    while (at !== undefined && at !== root) at = parents.get(at)?.parent;
    return at === root;
  };
  let rssBytes = 0;
  const cpuSeconds = new Map<number, number>();
  for (const [pid, { ticks }] of parents) {
    if (!inTree(pid)) continue;
    cpuSeconds.set(pid, ticks / TICKS);
    const status = readIfThere(`/proc/${pid}/status`) ?? "";
    rssBytes += 1024 * Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1] ?? 0);
  }
  return { rssBytes, cpuSeconds };
}

function read(path: string): string {
  const text = readIfThere(path);
  if (text === undefined) throw new DeviceError(`${path} cannot be read: this needs Linux`);
  return text;
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}
