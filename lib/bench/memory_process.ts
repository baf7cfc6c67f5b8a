/** Started by `measureMemory`: runs the step in its first argument on a device, in a precision, and prints `StepMemory` as JSON. */
import { readFileSync } from "node:fs";
import { openDevice, type Precision } from "../runtime/device.ts";
import { native } from "../runtime/native.ts";
import type { StepMemory } from "./memory.ts";
import { prepareStep, type StepShape } from "./step.ts";

const STEPS = 3;

/** Linux says what this program alone took; elsewhere there is only what the process ever had. */
function peakBytes(): number {
  try {
    const kibibytes = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1];
    if (kibibytes !== undefined) return Number(kibibytes) * 1024;
  } catch {
    // Not Linux.
  }
  return process.resourceUsage().maxRSS * 1024;
}

async function main(): Promise<void> {
  const shape = JSON.parse(process.argv[2]) as StepShape;
  const device = openDevice(process.argv[3]);
  const precision = process.argv[4] as Precision;
  const addon = native();
  addon.threads();
  const resident = device.name === "cpu";
  const idle = resident ? process.memoryUsage.rss() : addon.memory().bytes;
  using step = await prepareStep(shape, { device, precision }, new AbortController().signal);
  await step.run(STEPS);
  // All that a plan ever takes of a GPU's memory it takes before its first step.
  const peak = resident ? peakBytes() : addon.memory().bytes;
  const result: StepMemory = { planned: step.plan.peakBytes, idle, peak };
  process.stdout.write(JSON.stringify(result));
}

try {
  await main();
} catch (error) {
  // The process that asked says what it was doing.
  process.stderr.write((error as Error).message);
  process.exitCode = 1;
}
