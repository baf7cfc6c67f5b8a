import type { Value } from "../graph/value.ts";
import { Seeds } from "../nn/initial.ts";
import { BatchNorm3d, Conv3d, ConvNormRelu, Sequential } from "../nn/layers.ts";
import { type Mode, Module, nameStates } from "../nn/module.ts";
import { relu } from "../ops/activation.ts";
import { add } from "../ops/arithmetic.ts";
import { VNetDecoder } from "./decoder.ts";
import { Network, type NetworkOptions } from "./network.ts";

/** Two 3x3x3 convolutions and the identity, which a strided 1x1x1 convolution brings to the new size. */
class BasicBlock extends Module {
  readonly first: ConvNormRelu;
  readonly conv: Conv3d;
  readonly norm: BatchNorm3d;
  readonly shortcut: Conv3d | undefined;
  readonly shortcutNorm: BatchNorm3d | undefined;

  constructor(inputs: number, outputs: number, stride: number, seeds: Seeds) {
    super();
    this.first = new ConvNormRelu(
      new Conv3d(inputs, outputs, { kernel: 3, padding: 1, stride, bias: false, seeds }),
      outputs,
    );
    this.conv = new Conv3d(outputs, outputs, { kernel: 3, padding: 1, bias: false, seeds });
    this.norm = new BatchNorm3d(outputs);
    if (stride === 1 && inputs === outputs) return;
    this.shortcut = new Conv3d(inputs, outputs, { kernel: 1, stride, bias: false, seeds });
    this.shortcutNorm = new BatchNorm3d(outputs);
  }

  forward(x: Value, mode: Mode): Value {
    const y = this.norm.apply(this.conv.apply(this.first.apply(x, mode), mode), mode);
    if (this.shortcut === undefined || this.shortcutNorm === undefined) return relu(add(y, x));
    return relu(add(y, this.shortcutNorm.apply(this.shortcut.apply(x, mode), mode)));
  }
}

class ResVNet extends Network {
  readonly divisor = 16;
  readonly stem: ConvNormRelu;
  readonly stages: Sequential[];
  readonly decoder: VNetDecoder;

  constructor(options: NetworkOptions) {
    super(options);
    const { baseChannels = 16, dropout = 0.5, seed = 0 } = options;
    const seeds = new Seeds(seed);
    const stem = new Conv3d(this.inputChannels, baseChannels, { kernel: 7, padding: 3, bias: false, seeds });
    this.stem = new ConvNormRelu(stem, baseChannels);
    this.stages = [3, 4, 6, 3].map((blocks, stage) => {
      const inputs = baseChannels << stage;
      const rest = Array.from({ length: blocks - 1 }, () => new BasicBlock(2 * inputs, 2 * inputs, 1, seeds));
      return new Sequential([new BasicBlock(inputs, 2 * inputs, 2, seeds), ...rest]);
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
