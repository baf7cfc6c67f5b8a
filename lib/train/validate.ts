import { floatImage } from "../data/coded_image.ts";
import { Predictor } from "../infer/predictor.ts";
import { predictVolume } from "../infer/sliding.ts";
import { evaluateCase, summarize } from "../metrics/overlap.ts";
import type { Network } from "../models/index.ts";
import type { Device } from "../runtime/device.ts";
import type { CaseCache } from "./case_cache.ts";
import type { Config } from "./config.ts";

/** Mean Dice per case over the foreground classes of labelled cases after `step` steps, all networks averaged. */
export async function validate(
  networks: readonly Network[],
  device: Device,
  { ids, cases, step }: { readonly ids: readonly string[]; readonly cases: CaseCache; readonly step: number },
  { patch, classes, precision }: Config,
): Promise<number> {
  const predictor = new Predictor(networks, device, { precision });
  const counts = [];
  for (const id of ids) {
    const { image, label, size } = await cases.whole(id, step);
    const prediction = await predictVolume(predictor, floatImage(image), size, { patch });
    counts.push(evaluateCase(label as Uint8Array, prediction, size, classes));
  }
  await predictor.dispose();
  return summarize(counts).whole.mean.perCase.dice;
}
