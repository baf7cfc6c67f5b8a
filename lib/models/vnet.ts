import type { Value } from "../graph/value.ts";
import { Seeds } from "../nn/initial.ts";
import { ChannelDropout, Conv3d, ConvNormRelu, type Sequential } from "../nn/layers.ts";
import { type Mode, nameStates } from "../nn/module.ts";
import { convBlock, VNetDecoder } from "./decoder.ts";
import { Network, type NetworkOptions } from "./network.ts";

class VNet extends Network {
  readonly divisor = [16, 16, 16] as const;
  readonly blocks: Sequential[];
  readonly downs: ConvNormRelu[];
  readonly dropout: ChannelDropout;
  readonly decoder: VNetDecoder;

  constructor(options: NetworkOptions) {
    super(options);
    const { baseChannels = 16, dropout = 0.5, seed = 0 } = options;
    const seeds = new Seeds(seed);
    const channels = [0, 1, 2, 3, 4].map((level) => baseChannels << level);
    this.blocks = [1, 2, 3, 3, 3].map((convs, level) =>
      convBlock(convs, level === 0 ? this.inputChannels : channels[level], channels[level], seeds),
    );
    this.downs = [0, 1, 2, 3].map((level) => {
      const conv = new Conv3d(channels[level], channels[level + 1], { kernel: 2, stride: 2, seeds });
      return new ConvNormRelu(conv, channels[level + 1]);
    });
    this.dropout = new ChannelDropout(dropout, seeds);
    this.decoder = new VNetDecoder(baseChannels, this.classes, dropout, seeds);
  }

  protected logits(x: Value, mode: Mode): Value {
    const maps: Value[] = [];
    let value = x;
    for (const [level, block] of this.blocks.entries()) {
      if (level > 0) value = this.downs[level - 1].apply(value, mode);
      value = block.apply(value, mode);
      maps.push(value);
    }
    return this.decoder.decode(this.dropout.apply(value, mode), maps.slice(0, 4), mode);
  }
}

/**
 * V-Net as semi-supervised segmentation uses it: five levels of 1, 2, 3, 3, 3 convolutions 3x3x3 with batch norm and
 * ReLU, strided 2x2x2 convolutions between them, additive skips. 9,448,866 parameters at the defaults.
 * Named after Milletari et al. 2016, whose network has residual blocks, 5x5x5 kernels and PReLU instead.
 */
export function vnet(options: NetworkOptions = {}): Network {
  return nameStates(new VNet(options), "vnet");
}
