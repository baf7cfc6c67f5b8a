import { cpus } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import type { Device } from "../runtime/device.ts";
import { native, type Pending } from "../runtime/native.ts";

/** What the device can do at most, of a CPU on the threads that kernels use, measured in this process. */
export interface Machine {
  readonly processor: string;
  readonly threads: number;
  readonly isa: string;
  /** Multiply-adds in registers, an operation each for multiply and add: float32 of a CPU, TF32 of a GPU. */
  readonly peakGflops: number;
  /** Bytes read and written by a copy too large for caches, ordinary or streaming stores, whichever is faster. */
  readonly copyGBs: number;
}

/** On a CPU less than a time slice, so that among many runs some meet no other process. */
const LOOPS = { cpu: { iterations: 2e5, runs: 300 }, cuda: { iterations: 2e4, runs: 20 } };
const COPY_BYTES = 2 ** 28;

/** Measures for about a second. The best of the runs counts: whatever else the machine does only makes runs longer. */
export async function measureMachine(device: Device, signal: AbortSignal): Promise<Machine> {
  const addon = native();
  const rate = async (kind: "multiplyAdd" | "copy" | "stream", amount: number, runs: number) => {
    const { work, milliseconds } = await unlessAborted(device.native.peak(kind, amount, runs), signal);
    return work / Math.min(...milliseconds) / 1e6;
  };
  const bytes = Math.floor(Math.min(COPY_BYTES, device.availableMemory() / 8));
  const { iterations, runs } = LOOPS[device.name === "cpu" ? "cpu" : "cuda"];
  const peakGflops = await rate("multiplyAdd", iterations, runs);
  const copies = [await rate("copy", bytes, 12), await rate("stream", bytes, 12)];
  return {
    processor: device.name === "cpu" ? (cpus()[0]?.model.trim() ?? process.arch) : device.native.describe(),
    threads: addon.threads(),
    isa: device.name === "cpu" ? addon.isa() : device.name,
    peakGflops,
    copyGBs: Math.max(...copies),
  };
}

/** How many processors are busy with other things than this process, over a third of a second. */
export async function busyElsewhere(): Promise<number> {
  const busy = () =>
    cpus().reduce((sum, { times: { user, nice, sys, irq } }) => sum + user + nice + sys + irq, 0);
  const [before, own, began] = [busy(), process.cpuUsage(), performance.now()];
  await sleep(330);
  const { user, system } = process.cpuUsage(own);
  const elsewhere = busy() - before - (user + system) / 1000;
  return Math.max(0, elsewhere / (performance.now() - began));
}

async function unlessAborted<T>({ promise, cancel }: Pending<T>, signal: AbortSignal): Promise<T> {
  signal.addEventListener("abort", cancel, { once: true });
  try {
    return await promise;
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    signal.removeEventListener("abort", cancel);
  }
}

/** What some work cannot do without: operations, and bytes that must be moved at least once. */
export interface Work {
  /** Operations as is customary, taps in the padding included. */
  readonly flop: number;
  /** Operations on values that exist. */
  readonly validFlop: number;
  readonly bytes: number;
}

/** Milliseconds that `work` takes at the machine's limit: the longer of its arithmetic and its traffic. */
export function roof({ validFlop, bytes }: Work, { peakGflops, copyGBs }: Machine): number {
  return Math.max(validFlop / peakGflops, bytes / copyGBs) / 1e6;
}
