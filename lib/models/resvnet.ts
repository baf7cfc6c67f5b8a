import type { Value } from "../graph/value.ts";
import { Seeds } from "../nn/initial.ts";
import { Conv3d, ConvNormRelu, Sequential } from "../nn/layers.ts";
import { type Mode, nameStates } from "../nn/module.ts";
import { VNetDecoder } from "./decoder.ts";
import { Network, type NetworkOptions } from "./network.ts";
import { BasicBlock, inVolumes } from "./residual.ts";

class ResVNet extends Network {
  readonly divisor = [16, 16, 16] as const;
  readonly stem: ConvNormRelu;
  readonly stages: Sequential[];
  readonly decoder: VNetDecoder;

  constructor(options: NetworkOptions) {
    super(options);
    const { baseChannels = 16, dropout = 0.5, seed = 0 } = options;
    const seeds = new Seeds(seed);
    const stem = new Conv3d(this.inputChannels, baseChannels, { ...inVolumes(7), seeds });
    this.stem = new ConvNormRelu(stem, baseChannels);
    this.stages = [3, 4, 6, 3].map((blocks, stage) => {
      const inputs = baseChannels << stage;
      const options = { window: inVolumes, seeds };
      const rest = Array.from({ length: blocks - 1 }, () => new BasicBlock(2 * inputs, 2 * inputs, options));
      return new Sequential([new BasicBlock(inputs, 2 * inputs, { ...options, stride: 2 }), ...rest]);
    });
    this.decoder = new VNetDecoder(baseChannels, this.classes, dropout, seeds);
  }

  protected logits(x: Value, mode: Mode): Value {
    const maps = [this.stem.apply(x, mode)];
    for (const stage of this.stages) maps.push(stage.apply(maps[maps.length - 1], mode));
    return this.decoder.decode(maps[4], maps.slice(0, 4), mode);
  }
}

/**
 * 3D-ResVNet: a 3-D ResNet-34 encoder (He et al. 2016) with a 7x7x7 stem at full resolution and no pooling, and
 * the V-Net's decoder. 17,930,354 parameters at the defaults.
 */
export function resvnet(options: NetworkOptions = {}): Network {
  return nameStates(new ResVNet(options), "resvnet");
}
