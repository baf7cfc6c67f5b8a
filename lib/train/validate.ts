import { Predictor } from "../infer/predictor.ts";
import { predictVolume } from "../infer/sliding.ts";
import { evaluateCase, summarize } from "../metrics/overlap.ts";
import type { Network } from "../models/index.ts";
import type { Device } from "../runtime/device.ts";
import type { Config } from "./config.ts";
import type { LoadedVolume } from "./data.ts";

/** Mean Dice per case over the foreground classes of labelled volumes, all networks averaged. */
export async function validate(
  networks: readonly Network[],
  device: Device,
  volumes: readonly LoadedVolume[],
  { patch, classes, precision }: Config,
): Promise<number> {
  const predictor = new Predictor(networks, device, precision);
  const counts = [];
  for (const { image, label, size } of volumes) {
    const prediction = await predictVolume(predictor, image, size, { patch });
    counts.push(evaluateCase(label as Uint8Array, prediction, size, classes));
  }
  await predictor.dispose();
  return summarize(counts).whole.mean.perCase.dice;
}
