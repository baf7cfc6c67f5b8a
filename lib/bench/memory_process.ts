/** Started by `measureMemory`: runs the step in its argument and prints `StepMemory` as JSON. */
import { readFileSync } from "node:fs";
import { openDevice } from "../runtime/device.ts";
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
  const device = openDevice("cpu");
  native().threads();
  const idle = process.memoryUsage.rss();
  using step = await prepareStep(shape, { device, precision: "f32" }, new AbortController().signal);
  await step.run(STEPS);
  const result: StepMemory = { planned: step.plan.peakBytes, idle, peak: peakBytes() };
  process.stdout.write(JSON.stringify(result));
}

try {
  await main();
} catch (error) {
  // The process that asked says what it was doing.
  process.stderr.write((error as Error).message);
  process.exitCode = 1;
}
