/** A device that has too little memory, and one that fails. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { compile } from "../../lib/compile/compile.ts";
import { OutOfMemoryError } from "../../lib/errors.ts";
import { relu } from "../../lib/ops/activation.ts";
import { openDevice, whyNot } from "../../lib/runtime/device.ts";
import { withVariable } from "./with_variable.ts";

const reason = whyNot("emulator");
if (reason !== undefined) test(`skipped: ${reason}`, () => console.log(`skipped: ${reason}`));

function emulated(name: string, run: () => Promise<void>): void {
  if (reason === undefined) test(name, run);
}

const withMemory = <T>(bytes: number, work: () => Promise<T>): Promise<T> =>
  withVariable("VOXGRAD_EMULATOR_MEMORY", bytes, work);

const compileLarge = () =>
  compile((graph) => ({ y: relu(graph.input("large", [1000, 250])) }), { device: openDevice("emulator") });

emulated("memory that the device refuses is an error with the largest tensors", async () => {
  const error = await withMemory(500_000, compileLarge).catch((error: unknown) => error);
  assert.instance(error, OutOfMemoryError);
  const { message } = error as Error;
  assert.match(message, /needs 1\.0 MiB and the device refused 1000192 bytes[^]*1\.0 MiB {2}f32\[1000,250\]/);
  (await compileLarge()).dispose();
});

emulated("inputs arrive without memory of their own where the device has none to give", async () => {
  using plan = await compileLarge();
  const large = new Float32Array(250_000).fill(3);
  const { y } = await withMemory(1_100_000, () => plan.run({ large }));
  assert.is(y[249_999], 3);
});

async function attempts(fault: string, runs: number): Promise<Record<string, string>> {
  const script = join(import.meta.dirname, "failing_device.ts");
  const { stdout } = await promisify(execFile)(process.execPath, ["--import", "tsx", script, String(runs)], {
    env: { ...process.env, VOXGRAD_EMULATOR_FAULT: fault },
  });
  return JSON.parse(stdout) as Record<string, string>;
}

const illegal = "an illegal memory access was encountered";

emulated("an error of the first run has its step's name, and every later use refers to it", async () => {
  const { "run 1": first, cpu, ...later } = await attempts("relu:1", 1);
  const cause = `relu #\\d+: kernels: ${illegal}`;
  assert.match(first, new RegExp(`^DeviceError ERR_DEVICE: device emulator: ${cause}; .* the CPU can`));
  assert.equal(Object.keys(later), ["run again", "read", "compile"]);
  for (const found of Object.values(later))
    assert.match(found, new RegExp(`^DeviceError ERR_DEVICE: device emulator: .* any more: ${cause}$`));
  assert.is(cpu, "10");
});

emulated("so it is when the error comes from a recording", async () => {
  const { cpu, ...found } = await attempts("relu:4", 4);
  assert.equal([found["run 1"], found["run 2"], found["run 3"], cpu], ["10", "10", "10", "10"]);
  assert.match(
    found["run 4"],
    new RegExp(`the recorded steps of a plan: kernels: ${illegal}; .*LAUNCH_BLOCKING`),
  );
  assert.match(
    found["run again"],
    new RegExp(`any more: the recorded steps of a plan: kernels: ${illegal}$`),
  );
});

test.run();
