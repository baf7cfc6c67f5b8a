import { ShapeError } from "../errors.ts";
import type { Value } from "../graph/value.ts";
import { type Mode, Module } from "../nn/module.ts";

export interface NetworkOptions {
  /** Channels of the image; default 1. */
  readonly inputChannels?: number;
  /** Classes, background included; default 2. */
  readonly classes?: number;
  /** Channels at full resolution, doubled at every level; default 16. DeepLabv3+ has multiples of them. */
  readonly baseChannels?: number;
  /** Share of channels dropped in training; default 0.5, for DeepLabv3+ 0. */
  readonly dropout?: number;
  /** Decides the initial weights; default 0. */
  readonly seed?: number;
}

/** A segmentation network: `[N, D, H, W, inputChannels]` to logits `[N, D, H, W, classes]`. */
export abstract class Network extends Module {
  readonly inputChannels: number;
  readonly classes: number;
  /** What D, H and W must be multiples of. */
  abstract readonly divisor: readonly [number, number, number];
  /** Whether every slice (of constant D) is segmented by itself. */
  readonly slices: boolean = false;

  constructor(options: NetworkOptions) {
    super();
    this.inputChannels = options.inputChannels ?? 1;
    this.classes = options.classes ?? 2;
  }

  protected abstract logits(x: Value, mode: Mode): Value;

  forward(x: Value, mode: Mode): Value {
    if (
      x.shape.length !== 5 ||
      x.shape[4] !== this.inputChannels ||
      x.shape.slice(1, 4).some((n, axis) => n % this.divisor[axis] !== 0)
    )
      throw new ShapeError(
        `${this.path || "network"}: expected [N, D, H, W, ${this.inputChannels}] with D, H, W multiples of ` +
          `${this.divisor.join(", ")}, found [${x.shape.join(",")}]`,
      );
    return this.logits(x, mode);
  }
}
