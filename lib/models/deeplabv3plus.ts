import type { Value } from "../graph/value.ts";
import { Seeds } from "../nn/initial.ts";
import { ChannelDropout, Conv3d, ConvNormRelu, Sequential } from "../nn/layers.ts";
import { type Mode, nameStates } from "../nn/module.ts";
import { maxPool3d } from "../ops/pool.ts";
import { resize } from "../ops/resize.ts";
import { concat } from "../ops/shape.ts";
import { Aspp, type AsppOptions } from "./aspp.ts";
import { Network, type NetworkOptions } from "./network.ts";
import { BasicBlock, inSlices } from "./residual.ts";

export interface DeepLabOptions extends NetworkOptions {
  /** Extent of a slice over that of the deepest maps; default 16. With 8 the dilations are twice as large. */
  readonly outputStride?: 8 | 16;
  /** How ASPP's pooled branch joins the others; default `added`. */
  readonly aspp?: AsppOptions["pooled"];
  /** 3x3 convolutions of the decoder; default 2. */
  readonly decoderConvs?: 1 | 2;
}

class DeepLabV3Plus extends Network {
  readonly divisor = [1, 16, 16] as const;
  override readonly slices = true;
  readonly stem: ConvNormRelu;
  readonly stages: Sequential[];
  readonly aspp: Aspp;
  readonly low: ConvNormRelu;
  readonly decoder: Sequential;
  readonly dropout: ChannelDropout;
  readonly head: Conv3d;

  constructor(options: DeepLabOptions) {
    super(options);
    const { baseChannels = 16, dropout = 0, seed = 0 } = options;
    const { outputStride = 16, aspp = "added", decoderConvs = 2 } = options;
    const seeds = new Seeds(seed);
    const convNormRelu = (inputs: number, outputs: number, size: number, stride = 1) =>
      new ConvNormRelu(new Conv3d(inputs, outputs, { ...inSlices(size, { stride }), seeds }), outputs);
    const width = 4 * baseChannels;
    this.stem = convNormRelu(this.inputChannels, width, 7, 2);
    let reached = 4;
    let dilation = 1;
    this.stages = [0, 1, 2, 3].map((stage) => {
      const outputs = width << stage;
      const halves = stage > 0 && reached < outputStride;
      // A stage that may not halve dilates instead, its second block by twice the first one's.
      if (stage > 0 && !halves) dilation *= 2;
      if (halves) reached *= 2;
      return new Sequential([
        new BasicBlock(stage === 0 ? width : outputs / 2, outputs, {
          window: inSlices,
          stride: halves ? 2 : 1,
          dilation,
          seeds,
        }),
        new BasicBlock(outputs, outputs, {
          window: inSlices,
          dilation: dilation === 1 ? 1 : 2 * dilation,
          seeds,
        }),
      ]);
    });
    const features = 4 * width;
    const rates = [6, 12, 18].map((rate) => (rate * 16) / outputStride);
    this.aspp = new Aspp(8 * width, features, { rates, pooled: aspp, seeds });
    const lowChannels = 3 * baseChannels;
    this.low = convNormRelu(width, lowChannels, 1);
    this.decoder = new Sequential(
      Array.from({ length: decoderConvs }, (_, index) =>
        convNormRelu(index === 0 ? features + lowChannels : features, features, 3),
      ),
    );
    this.dropout = new ChannelDropout(dropout, seeds);
    this.head = new Conv3d(features, this.classes, { kernel: 1, seeds });
  }

  protected logits(x: Value, mode: Mode): Value {
    const stem = this.stem.apply(x, mode);
    const pooled = maxPool3d(stem, { kernel: [1, 3, 3], stride: [1, 2, 2], padding: [0, 1, 1] });
    const low = this.stages[0].apply(pooled, mode);
    const deep = this.stages.slice(1).reduce((value, stage) => stage.apply(value, mode), low);
    const features = enlarge(this.aspp.apply(deep, mode), low);
    const joined = concat([features, this.low.apply(low, mode)], { axis: -1 });
    const refined = this.dropout.apply(this.decoder.apply(joined, mode), mode);
    return enlarge(this.head.apply(refined, mode), x);
  }
}

/** Bilinear, the centres of the corner pixels on each other. */
function enlarge(x: Value, like: Value): Value {
  const [, depth, height, width] = like.shape;
  return resize(x, { size: [depth, height, width], mode: "linear", alignCorners: true });
}

/**
 * DeepLabv3+ (Chen et al. 2018) on a ResNet-18 without pretraining, as cross pseudo supervision for CT uses it: a 2-D network,
 * each slice of `[N, D, H, W, C]` by itself, so that D may be 1 or anything. 7x7 stem, max pooling, four stages of two
 * basic blocks, atrous spatial pyramid pooling, and a decoder that joins the maps of the first stage.
 * `baseChannels` scales all widths; 16 stands for the 64 of ResNet's stem. 16,600,110 parameters at 14 classes.
 */
export function deeplabv3plus(options: DeepLabOptions = {}): Network {
  return nameStates(new DeepLabV3Plus(options), "deeplabv3plus");
}
