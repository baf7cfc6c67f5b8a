import { availableParallelism, cpus, freemem } from "node:os";
import { counted, DeviceError, nearest } from "../errors.ts";
import { backendLibrary, type NativeDevice, native } from "./native.ts";

export { version } from "./native.ts";

/**
 * How closely convolutions multiply: as float32 does, with operands of 10 bits of mantissa, or with activations stored as
 * bfloat16. Weights, statistics, losses and all sums are float32 in each.
 */
export const precisions = ["f32", "tf32", "bf16"] as const;
export type Precision = (typeof precisions)[number];

/** Where plans run. */
export interface Device {
  readonly name: string;
  /** Those that it has kernels for. */
  readonly precisions: readonly Precision[];
  readonly native: NativeDevice;
  /** One line for people: what it is and how it is used. */
  describe(): string;
  /** Bytes that a new plan may take now. */
  availableMemory(): number;
}

/** What `--device` takes: the machine's processors, an NVIDIA GPU, the GPU's kernels run on the processors for tests. */
export const deviceNames = ["auto", "cpu", "cuda", "emulator"] as const;

const opened = new Map<string, Device>();

/**
 * Opens a device. `auto` takes what `VOXGRAD_DEVICE` names, or else an NVIDIA GPU where one can be used, or else the CPU.
 * Throws `DeviceError` with the reason when a device cannot be had.
 */
export function openDevice(name = "auto"): Device {
  if (!(deviceNames as readonly string[]).includes(name)) {
    const hint = nearest(name, deviceNames);
    throw new DeviceError(
      `no device is called "${name}"${hint ? `, did you mean "${hint}"?` : ""}; there are ${deviceNames.join(", ")}`,
    );
  }
  let device = opened.get(name);
  if (device === undefined) {
    device = open(name);
    opened.set(name, device);
  }
  return device;
}

function open(name: string): Device {
  if (name === "cpu") return openCpu();
  if (name !== "auto") return openLibrary(name as "cuda" | "emulator");
  const wanted = process.env.VOXGRAD_DEVICE;
  if (wanted !== undefined && wanted !== "auto") return openDevice(wanted);
  return whyNot("cuda") === undefined ? openDevice("cuda") : openDevice("cpu");
}

/** Why a device cannot be used; undefined when it can. */
export function whyNot(name: "cuda" | "emulator"): string | undefined {
  try {
    openDevice(name);
  } catch (error) {
    return (error as Error).message;
  }
}

/** The error of a device that has failed, with its name. */
export function deviceError({ name }: Device, error: Error): DeviceError {
  return new DeviceError(`device ${name}: ${error.message}`, { cause: error });
}

function openCpu(): Device {
  const addon = native();
  const device = addon.open();
  return {
    name: "cpu",
    precisions: ["f32"],
    native: device,
    describe: () =>
      `cpu: ${cpus()[0]?.model.trim() ?? process.arch}, ${device.describe()}, ${addon.threads()} of ${counted(availableParallelism(), "thread")}`,
    availableMemory: hostMemory,
  };
}

function openLibrary(name: "cuda" | "emulator"): Device {
  const build = `npm run build:${name}`;
  const path = backendLibrary(name);
  if (path === undefined)
    throw new DeviceError(
      `device ${name}: its library is not built; build it with ${build}, or use --device cpu`,
    );
  let device: NativeDevice;
  try {
    device = native().open(path);
  } catch (error) {
    throw new DeviceError(`device ${name}: ${(error as Error).message}`, { cause: error });
  }
  return {
    name,
    precisions,
    native: device,
    describe: () => `${name}: ${device.describe()}`,
    availableMemory: () => override() ?? (device.freeMemory() || hostMemory()),
  };
}

/** `VOXGRAD_MEMORY` (bytes) stands for the memory that is free. */
function override(): number | undefined {
  const bytes = Number(process.env.VOXGRAD_MEMORY ?? Number.NaN);
  return bytes > 0 ? bytes : undefined;
}

/** Free memory of the machine in bytes, and of the container when one limits us. */
export function hostMemory(): number {
  // Node 20.13 and later know about container limits and reclaimable caches.
  const measure = (process as { availableMemory?: () => number }).availableMemory;
  return override() ?? (measure === undefined ? freemem() : measure.call(process));
}
