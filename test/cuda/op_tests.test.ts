/**
 * The tests of the ops with the CUDA kernels: on the emulated device, in several orders of its threads, and on a GPU where
 * there is one.
 */
import { execFile } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { testDevices } from "./devices.ts";

const ops = join(import.meta.dirname, "../ops");
const families = [
  "activation",
  "argmax",
  "arithmetic",
  "aspp",
  "augment",
  "cast",
  "conv",
  "conv_gradients",
  "conv_normalized",
  "conv_packed",
  "conv_shapes",
  "dropout",
  "loss",
  "mix",
  "norm",
  "norm_fused",
  "pool",
  "reduce",
  "resize",
  "segmentation",
  "select",
  "shape",
  "softmax",
  "update",
];
/** Those about the CPU's algorithms, threads and instruction sets, or about the ops alone. */
const withoutDevice = ["conv_algorithm", "conv_large", "conv_moments", "conv_threads", "coverage", "isa"];
/** Those whose kernels have threads that wait for each other. */
const cooperating = ["arithmetic", "conv", "conv_gradients", "conv_shapes", "loss", "norm", "segmentation"];

const variants: [device: "cuda" | "emulator", schedule: string, families: string[]][] = [
  ["emulator", "0", families],
  ["emulator", "1", cooperating],
  ["emulator", "7", cooperating],
  ["cuda", "0", families],
];

test("every test of an op runs on devices, or is named as one that has no business there", () => {
  const found = readdirSync(ops).flatMap((file) => /^(.+)\.test\.ts$/.exec(file)?.[1] ?? []);
  assert.equal(found.sort(), [...families, ...withoutDevice].sort());
});

for (const [device, schedule, chosen] of variants) {
  if (!testDevices.includes(device)) continue;
  for (const family of chosen)
    test(`${family} on ${device}, its threads in order ${schedule}`, async () => {
      const env = { ...process.env, VOXGRAD_DEVICE: device, VOXGRAD_SCHEDULE: schedule };
      const file = join(ops, `${family}.test.ts`);
      try {
        const run = promisify(execFile)(process.execPath, ["--import", "tsx", file], { env });
        assert.match((await run).stdout, /Passed: +[1-9]/);
      } catch (error) {
        const {
          stdout = "",
          stderr = "",
          message,
        } = error as {
          stdout?: string;
          stderr?: string;
          message: string;
        };
        assert.unreachable(`${message}\n${stdout}${stderr}`);
      }
    });
}

const last = testDevices.at(-1) ?? "cpu";
test(`hundreds of damaged steps over all kernels are refused or run without a stray write on ${last}`, async () => {
  const env = { ...process.env, VOXGRAD_DEVICE: last };
  const script = join(import.meta.dirname, "../runtime/fixtures/hostile_plans.ts");
  const run = promisify(execFile)(process.execPath, ["--import", "tsx", script, "60", "2"], { env });
  const [, refusals, runs] = (/refused (\d+) ran (\d+)/.exec((await run).stdout) ?? []).map(Number);
  assert.ok(refusals > 500 && runs > 500, `refused ${refusals}, ran ${runs}: one sort is hardly tried`);
});

test.run();
