/** Training on the CUDA backend: the losses of the CPU, and the same bits every time, recorded or step by step. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Plan } from "../../lib/compile/plan.ts";
import { openDevice, whyNot } from "../../lib/runtime/device.ts";
import { tinyCohort, tinyConfig, tinyRun } from "../train/fixtures.ts";

// Gentle steps without dropout: devices round differently, and a wild run would magnify it.
const config = tinyConfig({ learningRate: 0.001, dropout: 0 });
const data = await tinyCohort();

async function losses(
  device: "cpu" | "emulator" | "cuda",
  steps: number,
  recording?: string,
): Promise<number[]> {
  let plan: Plan | undefined;
  const listener = {
    onPlan: (compiled: Plan) => {
      plan = compiled;
    },
    onStep: ({ step }: { step: number }) => {
      if (recording !== undefined && step === steps) assert.is(plan?.recordingState, recording);
    },
  };
  const run = await tinyRun(data, "sdnet", { ...config, steps }, { device: openDevice(device), listener });
  return (await run.metrics()).flatMap((line) => [line["loss.vnet"], line["loss.resvnet"]] as number[]);
}

for (const [device, steps] of [
  ["emulator", 3],
  ["cuda", 10],
] as const) {
  const reason = whyNot(device);
  if (device === "cuda" && reason !== undefined) {
    console.log(`skipped: ${reason}`);
    continue;
  }
  test(`${steps} steps of SD-Net on ${device} follow those on the CPU, twice alike`, async () => {
    assert.is(reason, undefined);
    const cpu = await losses("cpu", steps);
    const first = await losses(device, steps, "recorded");
    process.env.VOXGRAD_RECORD = "off";
    const second = await losses(device, steps, "recording is switched off");
    delete process.env.VOXGRAD_RECORD;
    assert.is(first.length, 2 * steps);
    assert.equal(second, first);
    for (const [i, loss] of first.entries())
      assert.ok(
        Math.abs(loss - cpu[i]) < 1e-4 * cpu[i],
        `${device} ${first.join(" ")}; cpu ${cpu.join(" ")}`,
      );
  });
}

test.run();
