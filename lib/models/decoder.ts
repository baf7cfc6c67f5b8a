import type { Value } from "../graph/value.ts";
import type { Seeds } from "../nn/initial.ts";
import { ChannelDropout, Conv3d, ConvNormRelu, ConvTranspose3d, Sequential } from "../nn/layers.ts";
import { type Mode, Module } from "../nn/module.ts";
import { add } from "../ops/arithmetic.ts";

/** `count` times 3x3x3 convolution, norm, ReLU; the first may change the number of channels. */
export function convBlock(count: number, inputs: number, outputs: number, seeds: Seeds): Sequential {
  const layers = Array.from({ length: count }, (_, index) => {
    const conv = new Conv3d(index === 0 ? inputs : outputs, outputs, { kernel: 3, padding: 1, seeds });
    return new ConvNormRelu(conv, outputs);
  });
  return new Sequential(layers);
}

class UpLevel extends Module {
  readonly up: ConvNormRelu;
  readonly block: Sequential;

  constructor(convs: number, inputs: number, outputs: number, seeds: Seeds) {
    super();
    this.up = new ConvNormRelu(
      new ConvTranspose3d(inputs, outputs, { kernel: 2, stride: 2, seeds }),
      outputs,
    );
    this.block = convBlock(convs, outputs, outputs, seeds);
  }

  forward(x: Value, mode: Mode): Value {
    return this.up.apply(x, mode);
  }
}

/**
 * The decoder that both networks of SD-Net share: four times up by 2, each adding the encoder's map of that
 * level and refining by 3, 3, 2, 1 convolutions; then channel dropout and a 1x1x1 head.
 */
export class VNetDecoder extends Module {
  readonly levels: UpLevel[];
  readonly dropout: ChannelDropout;
  readonly head: Conv3d;

  constructor(baseChannels: number, classes: number, dropout: number, seeds: Seeds) {
    super();
    this.levels = [3, 3, 2, 1].map(
      (convs, index) => new UpLevel(convs, baseChannels << (4 - index), baseChannels << (3 - index), seeds),
    );
    this.dropout = new ChannelDropout(dropout, seeds);
    this.head = new Conv3d(baseChannels, classes, { kernel: 1, seeds });
  }

  /** `skips`: the encoder's maps from full resolution to 1/8. */
  decode(bottom: Value, skips: readonly Value[], mode: Mode): Value {
    let x = bottom;
    for (const [index, level] of this.levels.entries())
      x = level.block.apply(add(level.apply(x, mode), skips[3 - index]), mode);
    return this.head.apply(this.dropout.apply(x, mode), mode);
  }

  forward(): Value {
    throw new Error("the decoder needs the encoder's maps: call decode");
  }
}
