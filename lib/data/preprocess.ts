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

function checkWindow(low: number, high: number): void {
  if (!Number.isFinite(low) || !Number.isFinite(high) || low >= high) {
    throw new UsageError(`an intensity window needs two finite numbers, low < high; found [${low}, ${high}]`);
  }
}

/** `value(v)` of every voxel, into `into`, which may be `data` itself. */
function map(data: Float32Array, into: Float32Array, value: (stored: number) => number): Float32Array {
  for (let i = 0; i < data.length; i++) into[i] = value(data[i]);
  return into;
}

function clip(data: Float32Array, low: number, high: number, into: Float32Array): Float32Array {
  return map(data, into, (value) => Math.min(high, Math.max(low, value)));
}

function scaleToUnit(data: Float32Array, low: number, high: number, into: Float32Array): Float32Array {
  const scale = high > low ? 1 / (high - low) : 0;
  return map(data, into, (value) => (value - low) * scale);
}

/** Clips to [low, high], then scales that range to [0, 1]. Throws UsageError unless low < high. */
export function window(data: Float32Array, low: number, high: number): Float32Array {
  checkWindow(low, high);
  const into = new Float32Array(data.length);
  return scaleToUnit(clip(data, low, high, into), low, high, into);
}

/**
 * (v - mean) / (s + 1e-6), with the population deviation s over all voxels; a constant image becomes zeros. `into` takes the
 * result, and may be `data` itself.
 */
export function zScore(data: Float32Array, into: Float32Array = new Float32Array(data.length)): Float32Array {
  let sum = 0;
  for (const value of data) sum += value;
  const mean = sum / data.length;
  let squares = 0;
  for (const value of data) squares += (value - mean) ** 2;
  const scale = 1 / (Math.sqrt(squares / data.length) + 1e-6);
  return map(data, into, (value) => (value - mean) * scale);
}

function unitRange(data: Float32Array, into: Float32Array): Float32Array {
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  for (const value of data) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return scaleToUnit(data, low, high, into);
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
  if (config.window) checkWindow(...config.window);
  const data = config.window ? clip(volume.data, ...config.window, into) : volume.data;
  const normalize = (): Float32Array => {
    switch (config.normalize) {
      case "zscore":
        return zScore(data, into);
      case "unit":
        return config.window ? scaleToUnit(data, ...config.window, into) : unitRange(data, into);
      case "none":
        return map(data, into, (value) => value);
    }
  };
  return { ...volume, data: normalize() };
}
