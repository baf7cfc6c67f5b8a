import { ShapeError } from "../errors.ts";
import { State } from "../graph/state.ts";
import type { Value } from "../graph/value.ts";
import { relu } from "../ops/activation.ts";
import { type ConvOptions, conv3d, convTranspose3d, perAxis, type PerAxis } from "../ops/conv.ts";
import { dropout } from "../ops/dropout.ts";
import { batchNorm, batchNormEval, unbiasedMoments } from "../ops/norm.ts";
import { ema } from "../ops/update.ts";
import { kaimingNormal, type Seeds, uniformBias } from "./initial.ts";
import { type Mode, Module, Parameter } from "./module.ts";

export interface ConvLayerOptions extends Omit<ConvOptions, "bias"> {
  readonly kernel: PerAxis;
  /** Default true. */
  readonly bias?: boolean;
  readonly seeds: Seeds;
}

/** Kaiming-normal weights and uniform biases, whose spread follows from how many inputs reach one output. */
abstract class ConvLayer extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter | undefined;
  protected readonly window: ConvOptions;

  /** `first` and `last` are the outer extents of the weight `[first, kD, kH, kW, last]`. */
  constructor(first: number, last: number, outputs: number, fanChannels: number, options: ConvLayerOptions) {
    super();
    const { kernel, bias = true, seeds, ...window } = options;
    const taps = perAxis(kernel);
    const shape = [first, ...taps, last];
    const fanIn = taps[0] * taps[1] * taps[2] * fanChannels;
    this.weight = new Parameter("weight", shape, { initial: kaimingNormal(shape, fanIn, seeds.stream()) });
    if (bias)
      this.bias = new Parameter("bias", [outputs], {
        initial: uniformBias([outputs], fanIn, seeds.stream()),
      });
    this.window = window;
  }
}

/** `[N, D, H, W, inputs]` to `[N, D', H', W', outputs]`. */
export class Conv3d extends ConvLayer {
  constructor(inputs: number, outputs: number, options: ConvLayerOptions) {
    const perGroup = inputs / (options.groups ?? 1);
    super(outputs, perGroup, outputs, perGroup, options);
  }

  forward(x: Value): Value {
    return conv3d(x, this.weight, { ...this.window, bias: this.bias });
  }
}

/** Transposed convolution; the Kaiming fan-in counts the output channels, as PyTorch does for these layers. */
export class ConvTranspose3d extends ConvLayer {
  constructor(inputs: number, outputs: number, options: ConvLayerOptions) {
    const perGroup = outputs / (options.groups ?? 1);
    super(inputs, perGroup, outputs, perGroup, options);
  }

  forward(x: Value): Value {
    return convTranspose3d(x, this.weight, { ...this.window, bias: this.bias });
  }
}

/** Batch normalisation (Ioffe and Szegedy 2015): batch statistics in training, running ones otherwise. */
export class BatchNorm3d extends Module {
  readonly gamma: Parameter;
  readonly beta: Parameter;
  /** `[1, C, 2]`: running mean and unbiased variance. */
  readonly moments: State;

  constructor(channels: number) {
    super();
    this.gamma = new Parameter("gamma", [channels], { initial: 1 });
    this.beta = new Parameter("beta", [channels]);
    this.moments = new State("moments", [1, channels, 2], {
      initial: () => Float32Array.from({ length: 2 * channels }, (_, index) => index % 2),
    });
  }

  forward(x: Value, mode: Mode): Value {
    if (mode.training !== true) return batchNormEval(x, this.moments, this.gamma, this.beta);
    const { y, moments } = batchNorm(x, this.gamma, this.beta);
    const { statistics = 0.9 } = mode;
    if (statistics !== "keep") {
      const count = x.shape.slice(0, -1).reduce((product, extent) => product * extent, 1);
      if (count < 2)
        throw new ShapeError(
          `${this.path}: batch norm in training needs at least two values of each channel, found one, from ` +
            `[${x.shape.join(",")}]; take a larger batch or patch`,
        );
      x.graph.assign(
        this.moments,
        ema(this.moments, unbiasedMoments(moments, { count }), { decay: statistics }),
      );
    }
    return y;
  }
}

/** Drops whole channels in training (Tompson et al. 2015) and scales the others up. */
export class ChannelDropout extends Module {
  private readonly rate: number;
  private readonly stream: number;

  constructor(rate: number, seeds: Seeds) {
    super();
    this.rate = rate;
    this.stream = seeds.stream().uint32() >>> 1;
  }

  forward(x: Value, mode: Mode): Value {
    if (mode.training !== true || mode.dropout === false || this.rate === 0) return x;
    if (mode.key === undefined)
      throw new ShapeError("dropout in training needs the step's random key: mode.key");
    return dropout(x, mode.key, { rate: this.rate, stream: this.stream, channels: true });
  }
}

/** Convolution (or its transpose), batch normalisation, ReLU. */
export class ConvNormRelu extends Module {
  readonly conv: Module;
  readonly norm: BatchNorm3d;

  constructor(conv: Module, channels: number) {
    super();
    this.conv = conv;
    this.norm = new BatchNorm3d(channels);
  }

  forward(x: Value, mode: Mode): Value {
    return relu(this.norm.apply(this.conv.apply(x, mode), mode));
  }
}

/** Modules one after another. */
export class Sequential extends Module {
  readonly layers: readonly Module[];

  constructor(layers: readonly Module[]) {
    super();
    this.layers = layers;
  }

  forward(x: Value, mode: Mode): Value {
    return this.layers.reduce((value, layer) => layer.apply(value, mode), x);
  }
}
