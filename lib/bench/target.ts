import type { Device, Precision } from "../runtime/device.ts";

/** What is measured where. */
export interface Target {
  readonly device: Device;
  /** Of convolutions. */
  readonly precision: Precision;
}
