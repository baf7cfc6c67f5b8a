import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { VoxgradError } from "../errors.ts";
import type { StepShape } from "./step.ts";

/** Bytes of a process around a training step. */
export interface ProcessMemory {
  /** Resident when everything was loaded and nothing had begun. */
  readonly idle: number;
  /** Most that was ever resident. */
  readonly peak: number;
}

export interface StepMemory extends ProcessMemory {
  /** States and arena, as the plan says. */
  readonly planned: number;
}

/** Runs a few steps in a process of its own and says what it took. */
export async function measureMemory(shape: StepShape, signal: AbortSignal): Promise<StepMemory> {
  const script = fileURLToPath(import.meta.url).replace(/memory(\.\w+)$/, "memory_process$1");
  const argv = [...process.execArgv, script, JSON.stringify(shape)];
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
