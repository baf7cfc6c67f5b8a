/** Training on the CUDA backend: the losses of the CPU, and the same bits every time, recorded or step by step. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Plan } from "../../lib/compile/plan.ts";
import { openDevice } from "../../lib/runtime/device.ts";
import type { Config } from "../../lib/train/config.ts";
import { tinyCohort, tinyConfig, tinyRun } from "../train/fixtures.ts";
import { testDevices } from "./devices.ts";

// Gentle steps without dropout: devices round differently, and a wild run would magnify it. Ten steps magnify more than three.
const gentle: Record<string, Partial<Config>> = {
  emulator: { learningRate: 0.001, dropout: 0, steps: 3 },
  cuda: { learningRate: 0.0001, dropout: 0, steps: 10, baseChannels: 4 },
};
const data = await tinyCohort();

/** The losses of both networks at every step. `recording` is what the plan says of itself after the last one. */
async function losses(
  device: "cpu" | "emulator" | "cuda",
  settings: Partial<Config>,
  recording?: string,
): Promise<number[]> {
  const config = tinyConfig(settings);
  let plan: Plan | undefined;
  const listener = {
    onPlan: (compiled: Plan) => {
      plan = compiled;
    },
    onStep: ({ step }: { step: number }) => {
      if (recording !== undefined && step === config.steps) assert.is(plan?.recordingState, recording);
    },
  };
  const run = await tinyRun(data, "sdnet", config, { device: openDevice(device), listener });
  return (await run.metrics()).flatMap((line) => [line["loss.vnet"], line["loss.resvnet"]] as number[]);
}

for (const device of testDevices) {
  const settings = gentle[device];
  for (const [precision, bound] of [
    ["f32", 1e-4],
    ["bf16", 0.02],
  ] as const)
    test(`${settings.steps} steps of SD-Net in ${precision} on ${device} follow those on the CPU, twice alike`, async () => {
      const cpu = await losses("cpu", settings);
      const first = await losses(device, { ...settings, precision }, "recorded");
      process.env.VOXGRAD_RECORD = "off";
      const second = await losses(device, { ...settings, precision }, "recording is switched off");
      delete process.env.VOXGRAD_RECORD;
      assert.is(first.length, 2 * (settings.steps as number));
      assert.equal(second, first);
      for (const [i, loss] of first.entries())
        assert.ok(
          Math.abs(loss - cpu[i]) < bound * cpu[i],
          `${device} ${first.join(" ")}; cpu ${cpu.join(" ")}`,
        );
    });
}

test.run();
