import { PatchSampler } from "../data/sampler.ts";
import { reestimateStatistics } from "../infer/reestimate.ts";
import type { Network } from "../models/index.ts";
import type { Device } from "../runtime/device.ts";
import type { Config } from "./config.ts";
import type { LoadedVolume } from "./data.ts";

/** Batch-norm statistics from `batches` batches of uniform patches of `volumes`, four patches each. */
export async function reestimateFromPatches(
  networks: readonly Network[],
  device: Device,
  config: Config,
  volumes: readonly LoadedVolume[],
  batches: number,
): Promise<void> {
  const [x, y, z] = config.patch;
  const count = 4;
  const sampler = new PatchSampler(
    volumes.map(({ image, size }) => ({ image, size })),
    { patch: config.patch, seed: config.seed, stream: 2, foreground: 0 },
  );
  await reestimateStatistics(networks, device, [count, z, y, x, config.inputChannels], batches, (index) => {
    const image = new Float32Array(count * x * y * z);
    sampler.sample(index, count, image);
    return image;
  });
}
