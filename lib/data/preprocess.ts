import { UsageError } from "../errors.ts";
import type { Volume } from "./volume.ts";

/**
 * What is done to the intensities of an image before a network sees it.
 *
 * - `window`: intensities are clipped to [low, high] first (Hounsfield units for CT).
 * - `normalize`: `"unit"` scales the window, or without one the image's own range, to [0, 1]; `"zscore"`
 *   makes mean 0 and deviation 1 per image; `"none"` leaves the (clipped) intensities as they are.
 */
export interface Preprocess {
  window?: readonly [low: number, high: number];
  normalize: "zscore" | "unit" | "none";
}

/** Takes the stored intensities of a whole image, or of its parts one after the other. */
type Pass = (data: Float32Array) => void;

/** Writes what becomes of stored intensities to `into`, which may be `data` itself. */
export type Transform = (data: Float32Array, into: Float32Array) => Float32Array;

function checkWindow(low: number, high: number): void {
  if (!Number.isFinite(low) || !Number.isFinite(high) || low >= high) {
    throw new UsageError(`an intensity window needs two finite numbers, low < high; found [${low}, ${high}]`);
  }
}

/**
 * Finds out what to do to the intensities of an image of `voxels` in as many passes over it as that takes: every pass
 * that is yielded is to be given all of the image, in order, before the next is asked for. Whether the image comes whole or
 * in parts makes no difference to any bit. Throws UsageError when a window is none.
 */
export function* preparation(config: Preprocess, voxels: number): Generator<Pass, Transform> {
  if (config.window) checkWindow(...config.window);
  const [low, high] = config.window ?? [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY];
  const clip = (value: number) => Math.fround(Math.min(high, Math.max(low, value)));
  const linear = (offset: number, scale: number): Transform => {
    return (data, into) => {
      for (let i = 0; i < data.length; i++) into[i] = (clip(data[i]) - offset) * scale;
      return into;
    };
  };
  if (config.normalize === "none") return linear(0, 1);
  if (config.normalize === "zscore") {
    let sum = 0;
    yield (data) => {
      for (let i = 0; i < data.length; i++) sum += clip(data[i]);
    };
    const mean = sum / voxels;
    let squares = 0;
    yield (data) => {
      for (let i = 0; i < data.length; i++) squares += (clip(data[i]) - mean) ** 2;
    };
    return linear(mean, 1 / (Math.sqrt(squares / voxels) + 1e-6));
  }
  let [least, most] = [low, high];
  if (config.window === undefined) {
    [least, most] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
    yield (data) => {
      for (let i = 0; i < data.length; i++) {
        if (data[i] < least) least = data[i];
        if (data[i] > most) most = data[i];
      }
    };
  }
  return linear(least, most > least ? 1 / (most - least) : 0);
}

function prepare(data: Float32Array, config: Preprocess, into: Float32Array): Float32Array {
  const passes = preparation(config, data.length);
  for (;;) {
    const { done, value } = passes.next();
    if (done) return value(data, into);
    value(data);
  }
}

/** Clips to [low, high], then scales that range to [0, 1]. Throws UsageError unless low < high. */
export function window(data: Float32Array, low: number, high: number): Float32Array {
  return prepare(data, { window: [low, high], normalize: "unit" }, new Float32Array(data.length));
}

/**
 * (v - mean) / (s + 1e-6), with the population deviation s over all voxels; a constant image becomes zeros.
 */
export function zScore(data: Float32Array): Float32Array {
  return prepare(data, { normalize: "zscore" }, new Float32Array(data.length));
}

/**
 * A volume of the same geometry with the intensities that `config` asks for. They are written to `into`: a new array, or
 * that of the volume itself where nobody needs the stored ones any more; otherwise the input is not changed.
 */
export function preprocess(
  volume: Volume<Float32Array>,
  config: Preprocess,
  into: Float32Array = new Float32Array(volume.data.length),
): Volume<Float32Array> {
  return { ...volume, data: prepare(volume.data, config, into) };
}
