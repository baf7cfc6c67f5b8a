import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { VoxgradError } from "../errors.ts";
import type { StepShape } from "./step.ts";
import type { Target } from "./target.ts";

/** Bytes around a training step: what a process has resident or, on a GPU, what it has taken of the device's memory. */
export interface ProcessMemory {
  /** When everything was loaded and nothing had begun. */
  readonly idle: number;
  /** Most that there ever was. */
  readonly peak: number;
}

export interface StepMemory extends ProcessMemory {
  /** States and arena, as the plan says. */
  readonly planned: number;
}

/** Runs a few steps in a process of its own and says what it took. */
export async function measureMemory(
  shape: StepShape,
  { device, precision }: Target,
  signal: AbortSignal,
): Promise<StepMemory> {
  const script = fileURLToPath(import.meta.url).replace(/memory(\.\w+)$/, "memory_process$1");
  const argv = [...process.execArgv, script, JSON.stringify(shape), device.name, precision];
  const child = spawn(process.execPath, argv, { stdio: ["ignore", "pipe", "pipe"], signal });
  const text = { out: "", err: "" };
  child.stdout.on("data", (chunk) => (text.out += String(chunk)));
  child.stderr.on("data", (chunk) => (text.err += String(chunk)));
  const status = await new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  if (status !== 0)
    throw new VoxgradError("ERR_BENCH", `the process that runs ${shape.name} failed: ${text.err.trim()}`);
  return JSON.parse(text.out) as StepMemory;
}
