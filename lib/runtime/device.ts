import { availableParallelism, cpus, freemem } from "node:os";
import { DeviceError, nearest } from "../errors.ts";
import { type Native, native } from "./native.ts";

/** Where plans run. */
export interface Device {
  readonly name: string;
  readonly native: Native;
  /** One line for people: what it is and how it is used. */
  describe(): string;
  /** Bytes that a new plan may take now. */
  availableMemory(): number;
}

const names = ["auto", "cpu"] as const;

let cpu: Device | undefined;

/** Opens a device; `auto` takes the best there is. Throws `DeviceError` when it cannot be had. */
export function openDevice(name = "auto"): Device {
  if (name === "cuda")
    throw new DeviceError("device cuda: this build of voxgrad has no CUDA backend; use --device cpu or auto");
  if (!(names as readonly string[]).includes(name)) {
    const hint = nearest(name, names);
    throw new DeviceError(
      `no device is called "${name}"${hint ? `, did you mean "${hint}"?` : ""}; there are ${names.join(", ")}`,
    );
  }
  cpu ??= openCpu();
  return cpu;
}

function openCpu(): Device {
  const addon = native();
  return {
    name: "cpu",
    native: addon,
    describe: () =>
      `cpu: ${cpus()[0]?.model.trim() ?? process.arch}, ${addon.isa()}, ${addon.threads()} of ${availableParallelism()} threads`,
    availableMemory,
  };
}

/** Free memory of the machine, and of the container when one limits us; `VOXGRAD_MEMORY` (bytes) overrides it. */
function availableMemory(): number {
  const override = Number(process.env.VOXGRAD_MEMORY ?? Number.NaN);
  if (override > 0) return override;
  // Node 20.13 and later know about container limits and reclaimable caches.
  const measure = (process as { availableMemory?: () => number }).availableMemory;
  return measure === undefined ? freemem() : measure.call(process);
}
