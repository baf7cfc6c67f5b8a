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

/** `[N, D, H, W, inputs]` to `[N, D', H', W', outputs]`; Kaiming-normal weights, uniform biases. */
export class Conv3d extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter | undefined;
  private readonly options: ConvOptions;

  constructor(inputs: number, outputs: number, options: ConvLayerOptions) {
    super();
    const { kernel, bias = true, seeds, ...window } = options;
    const shape = [outputs, ...perAxis(kernel), inputs / (window.groups ?? 1)];
    const fanIn = (shape[1] * shape[2] * shape[3] * inputs) / (window.groups ?? 1);
    this.weight = new Parameter("weight", shape, { initial: kaimingNormal(shape, fanIn, seeds.stream()) });
    this.bias = bias
      ? new Parameter("bias", [outputs], { initial: uniformBias([outputs], fanIn, seeds.stream()) })
      : undefined;
    this.options = window;
  }

  forward(x: Value): Value {
    return conv3d(x, this.weight, { ...this.options, bias: this.bias });
  }
}

/** Transposed convolution; the Kaiming fan-in counts the output channels, as PyTorch does for these layers. */
export class ConvTranspose3d extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter | undefined;
  private readonly options: ConvOptions;

  constructor(inputs: number, outputs: number, options: ConvLayerOptions) {
    super();
    const { kernel, bias = true, seeds, ...window } = options;
    const shape = [inputs, ...perAxis(kernel), outputs];
    const fanIn = shape[1] * shape[2] * shape[3] * outputs;
    this.weight = new Parameter("weight", shape, { initial: kaimingNormal(shape, fanIn, seeds.stream()) });
    this.bias = bias
      ? new Parameter("bias", [outputs], { initial: uniformBias([outputs], fanIn, seeds.stream()) })
      : undefined;
    this.options = window;
  }

  forward(x: Value): Value {
    return convTranspose3d(x, this.weight, { ...this.options, bias: this.bias });
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
