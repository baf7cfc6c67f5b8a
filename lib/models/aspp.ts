import type { Value } from "../graph/value.ts";
import type { Seeds } from "../nn/initial.ts";
import { BatchNorm3d, Conv3d } from "../nn/layers.ts";
import { type Mode, Module } from "../nn/module.ts";
import { leakyRelu, relu } from "../ops/activation.ts";
import { add } from "../ops/arithmetic.ts";
import { aspp } from "../ops/aspp.ts";
import { averagePool3d } from "../ops/pool.ts";
import { resize } from "../ops/resize.ts";
import { concat } from "../ops/shape.ts";
import { inSlices } from "./residual.ts";

export interface AsppOptions {
  /** Dilations of the three 3x3 branches. */
  readonly rates: readonly number[];
  /** Whether the pooled branch is added behind the projection of the others, or concatenated before it. */
  readonly pooled: "added" | "concatenated";
  readonly seeds: Seeds;
}

/**
 * Atrous spatial pyramid pooling within slices: a pointwise and dilated 3x3 convolutions side by side, and the mean of the
 * whole slice, joined and projected to `outputs` channels.
 *
 * `concatenated` is the form of DeepLabv3 (Chen et al. 2017): every branch has batch norm and ReLU, the mean is one of them.
 * `added` is the form of the code published with cross pseudo supervision (Chen et al. 2021): LeakyReLU 0.01 throughout; the mean
 * passes through two pointwise convolutions and is added to the projection of the others, then batch norm.
 * Both have as many parameters.
 */
export class Aspp extends Module {
  readonly branches: Conv3d[];
  readonly norm: BatchNorm3d;
  readonly pooledConv: Conv3d;
  readonly pooledNorm: BatchNorm3d;
  readonly pooledProjection: Conv3d | undefined;
  readonly projection: Conv3d;
  readonly projectionNorm: BatchNorm3d;
  private readonly dilations: readonly (readonly [number, number, number])[];

  constructor(inputs: number, outputs: number, { rates, pooled, seeds }: AsppOptions) {
    super();
    const pointwise = (from: number) => new Conv3d(from, outputs, { ...inSlices(1), seeds });
    const atrous = rates.map(
      (dilation) => new Conv3d(inputs, outputs, { ...inSlices(3, { dilation }), seeds }),
    );
    this.branches = [pointwise(inputs), ...atrous];
    this.dilations = [1, ...rates].map((rate) => [1, rate, rate]);
    const joined = this.branches.length * outputs;
    this.norm = new BatchNorm3d(joined);
    this.pooledConv = pointwise(inputs);
    this.pooledNorm = new BatchNorm3d(outputs);
    if (pooled === "added") this.pooledProjection = pointwise(outputs);
    this.projection = pointwise(pooled === "added" ? joined : joined + outputs);
    this.projectionNorm = new BatchNorm3d(outputs);
  }

  forward(x: Value, mode: Mode): Value {
    const activate = this.pooledProjection === undefined ? relu : leakyRelu;
    const branches = aspp(
      x,
      this.branches.map(({ weight }) => weight),
      { dilations: this.dilations },
    );
    // One normalisation of all branches is one of each: channels are normalised by themselves.
    const joined = activate(this.norm.apply(branches, mode));
    const [, depth, height, width] = x.shape;
    const mean = averagePool3d(x, { kernel: [1, height, width] });
    const pooled = activate(this.pooledNorm.apply(this.pooledConv.apply(mean, mode), mode));
    const spread = (value: Value) => resize(value, { size: [depth, height, width], mode: "nearest" });
    const projected =
      this.pooledProjection === undefined
        ? this.projection.apply(concat([joined, spread(pooled)], { axis: -1 }), mode)
        : add(this.projection.apply(joined, mode), spread(this.pooledProjection.apply(pooled, mode)));
    return activate(this.projectionNorm.apply(projected, mode));
  }
}
