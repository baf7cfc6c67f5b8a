/** Where the tests of CUDA kernels run. */
import { openDevice, whyNot } from "../../lib/runtime/device.ts";

const wanted = process.env.VOXGRAD_TEST_DEVICE;

/** The emulator, and a GPU where there is one. `VOXGRAD_TEST_DEVICE` names one of them alone, which then has to be there. */
export const testDevices: readonly ("emulator" | "cuda")[] = (["emulator", "cuda"] as const).filter(
  (name) => {
    if (wanted !== undefined && wanted !== name) return false;
    const reason = whyNot(name);
    if (reason !== undefined && wanted === name) throw new Error(reason);
    if (reason !== undefined) console.log(`skipped: ${reason}`);
    return reason === undefined;
  },
);

/** A GPU where there is one, else the emulator; the CPU, to which no test of kernels is put, where there is neither. */
export const kernelDevice = openDevice(testDevices.at(-1) ?? "cpu");

/** Whether tests can do what the emulator alone does: have other orders of threads, other limits, and failures. */
export const emulated = kernelDevice.name === "emulator";
