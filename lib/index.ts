/** The public interface: ops, graphs, networks, recipes, data. See docs/ for a tour. */
import { embed } from "./embed.ts";
import type { Value } from "./graph/value.ts";
import * as activation from "./ops/activation.ts";
import * as arg from "./ops/argmax.ts";
import * as atrous from "./ops/aspp.ts";
import * as conv from "./ops/conv.ts";
import * as norm from "./ops/norm.ts";
import * as pool from "./ops/pool.ts";
import * as resizing from "./ops/resize.ts";
import * as soft from "./ops/softmax.ts";

// These take values of a graph, or tensors outside of any; all but argmax yield floats.
const floats = <F extends (...args: never[]) => Value>(op: F) => embed<F, Float32Array>(op);
export const aspp = floats(atrous.aspp);
export const conv3d = floats(conv.conv3d);
export const convTranspose3d = floats(conv.convTranspose3d);
export const maxPool3d = floats(pool.maxPool3d);
export const averagePool3d = floats(pool.averagePool3d);
export const resize = floats(resizing.resize);
export const instanceNorm = floats(norm.instanceNorm);
export const groupNorm = floats(norm.groupNorm);
export const relu = floats(activation.relu);
export const leakyRelu = floats(activation.leakyRelu);
export const prelu = floats(activation.prelu);
export const softmax = floats(soft.softmax);
export const argmax = embed(arg.argmax);

export { gradients } from "./autograd/gradients.ts";
export { type CompileOptions, compile } from "./compile/compile.ts";
export type { Feed, Plan, RunOptions, Tensor, Upload } from "./compile/plan.ts";
export { disposeStates, readState, writeState } from "./compile/states.ts";
export * from "./data/index.ts";
export { type Embedded, embed, ready } from "./embed.ts";
export * from "./errors.ts";
export { Graph } from "./graph/graph.ts";
export { type Initial, State, type TypedArray } from "./graph/state.ts";
export type { DType, Operand, Shape, Value } from "./graph/value.ts";
export type { Connectivity } from "./infer/component_runs.ts";
export { type ComponentOptions, type RemovedComponents, removeComponents } from "./infer/components.ts";
export { type ExportedOnnx, exportOnnx, type ExportOptions } from "./infer/export_onnx.ts";
export { Predictor, type PredictorOptions } from "./infer/predictor.ts";
export { predictSlices, predictVolume, type SlidingOptions } from "./infer/sliding.ts";
export { decodeSafetensors, encodeSafetensors } from "./interchange/safetensors.ts";
export { distanceTransform } from "./metrics/distance_transform.ts";
export { type Flare22Score, flare22Organs, flare22Scores, summarizeFlare22 } from "./metrics/flare22.ts";
export * from "./metrics/overlap.ts";
export * from "./metrics/surface.ts";
export * from "./metrics/surface_distances.ts";
export * from "./metrics/surface_measures.ts";
export {
  type DeepLabOptions,
  deeplabv3plus,
  Network,
  type NetworkOptions,
  resvnet,
  vnet,
} from "./models/index.ts";
export * from "./nn/index.ts";
export * from "./ops/arithmetic.ts";
export { constant } from "./ops/constant.ts";
export type { ConvOptions, ConvTransposeOptions, PerAxis } from "./ops/conv.ts";
export { dropout, gaussianNoise } from "./ops/dropout.ts";
export { randomFlip, randomIntensity, randomRotate } from "./ops/augment.ts";
export { mixWithNext } from "./ops/mix.ts";
export { dice, type DiceOptions } from "./ops/dice.ts";
export * from "./ops/loss.ts";
export { batchNorm, batchNormEval, type NormOptions } from "./ops/norm.ts";
export type { PoolOptions } from "./ops/pool.ts";
export type { ResizeOptions } from "./ops/resize.ts";
export {
  pseudoLabelError,
  pseudoLabelErrorInSteps,
  segmentationLosses,
  type SegmentationLosses,
  segmentationLossesInSteps,
  type SegmentationOptions,
} from "./ops/segmentation.ts";
export { less, select } from "./ops/select.ts";
export { concat, slice } from "./ops/shape.ts";
export { notEqual } from "./ops/argmax.ts";
export { logSoftmax, sharpen } from "./ops/softmax.ts";
export { ema } from "./ops/update.ts";
export { rampUp, polynomial, stepwise, type Schedule, warmUpPolynomial } from "./optim/schedule.ts";
export { Sgd, type SgdOptions } from "./optim/sgd.ts";
export { type Device, openDevice, type Precision, precisions } from "./runtime/device.ts";
export { Random } from "./random.ts";
export { type Config, makeConfig, presets } from "./train/config.ts";
export { type Recipe, recipes, type StepContext, type StepResult } from "./train/recipes/index.ts";
export { type LoadedVolume, loadVolume, type Split, splitCases } from "./train/data.ts";
export { type LoadedRun, loadRun, type WeightsChoice } from "./train/load.ts";
export { type RunDescription, RunFolder } from "./train/run.ts";
export { train, type TrainListener, type TrainOptions, type TrainResult } from "./train/trainer.ts";
