import type { Value } from "../graph/value.ts";
import type { Seeds } from "../nn/initial.ts";
import { BatchNorm3d, Conv3d, type ConvLayerOptions, ConvNormRelu } from "../nn/layers.ts";
import { type Mode, Module } from "../nn/module.ts";
import { relu } from "../ops/activation.ts";
import { add } from "../ops/arithmetic.ts";

/**
 * A convolution of odd `size` along the axes it works on, padded so that only its stride changes their extent.
 * Without a bias: batch norm follows.
 */
export type Window = (
  size: number,
  options?: { readonly stride?: number; readonly dilation?: number },
) => Omit<ConvLayerOptions, "seeds">;

/** `size` x `size` x `size`. */
export const inVolumes: Window = (size, { stride = 1, dilation = 1 } = {}) => ({
  kernel: size,
  padding: (dilation * (size - 1)) / 2,
  stride,
  dilation,
  bias: false,
});

/** 1 x `size` x `size`: every slice by itself. */
export const inSlices: Window = (size, { stride = 1, dilation = 1 } = {}) => {
  const padding = (dilation * (size - 1)) / 2;
  return {
    kernel: [1, size, size],
    padding: [0, padding, padding],
    stride: [1, stride, stride],
    dilation: [1, dilation, dilation],
    bias: false,
  };
};

export interface BlockOptions {
  readonly window: Window;
  /** Of the first convolution and the shortcut; default 1. */
  readonly stride?: number;
  /** Of both convolutions; default 1. */
  readonly dilation?: number;
  readonly seeds: Seeds;
}

/** Two convolutions and the identity, which a strided pointwise convolution brings to the new size (He et al. 2016). */
export class BasicBlock extends Module {
  readonly first: ConvNormRelu;
  readonly conv: Conv3d;
  readonly norm: BatchNorm3d;
  readonly shortcut: Conv3d | undefined;
  readonly shortcutNorm: BatchNorm3d | undefined;

  constructor(inputs: number, outputs: number, { window, stride = 1, dilation = 1, seeds }: BlockOptions) {
    super();
    const first = new Conv3d(inputs, outputs, { ...window(3, { stride, dilation }), seeds });
    this.first = new ConvNormRelu(first, outputs);
    this.conv = new Conv3d(outputs, outputs, { ...window(3, { dilation }), seeds });
    this.norm = new BatchNorm3d(outputs);
    if (stride === 1 && inputs === outputs) return;
    this.shortcut = new Conv3d(inputs, outputs, { ...window(1, { stride }), seeds });
    this.shortcutNorm = new BatchNorm3d(outputs);
  }

  forward(x: Value, mode: Mode): Value {
    const y = this.norm.apply(this.conv.apply(this.first.apply(x, mode), mode), mode);
    if (this.shortcut === undefined || this.shortcutNorm === undefined) return relu(add(y, x));
    return relu(add(y, this.shortcutNorm.apply(this.shortcut.apply(x, mode), mode)));
  }
}
