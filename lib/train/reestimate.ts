import { PatchSampler } from "../data/sampler.ts";
import { reestimateStatistics } from "../infer/reestimate.ts";
import type { Network } from "../models/index.ts";
import type { Device } from "../runtime/device.ts";
import type { CaseCache } from "./case_cache.ts";
import type { Config } from "./config.ts";
import type { LoadedVolume } from "./data.ts";
import { CaseDraws } from "./draws.ts";

/** Patches of a batch. */
const count = 4;

const uniform = ({ patch, seed }: Config) => ({ patch, seed, stream: 2, foreground: 0 });

/** Batch-norm statistics from `batches` batches of uniform patches of `volumes`, four patches each. */
export async function reestimateFromPatches(
  networks: readonly Network[],
  device: Device,
  config: Config,
  volumes: readonly LoadedVolume[],
  batches: number,
): Promise<void> {
  const sampler = new PatchSampler(
    volumes.map(({ image, size }) => ({ image, size })),
    uniform(config),
  );
  await estimate(networks, device, config, batches, (index, image) => sampler.sample(index, count, image));
}

/** The same from `reestimateBatches` batches of the cases of a run, which need not be in memory. */
export async function reestimateFromCases(
  networks: readonly Network[],
  device: Device,
  config: Config,
  ids: readonly string[],
  cases: CaseCache,
): Promise<void> {
  const draws = new CaseDraws(ids, count, uniform(config));
  await estimate(networks, device, config, config.reestimateBatches, (index, image) =>
    draws.sample(index, cases, image),
  );
}

async function estimate(
  networks: readonly Network[],
  device: Device,
  { patch: [x, y, z], inputChannels }: Config,
  batches: number,
  fill: (index: number, image: Float32Array) => Promise<void> | void,
): Promise<void> {
  await reestimateStatistics(networks, device, [count, z, y, x, inputChannels], batches, async (index) => {
    const image = new Float32Array(count * x * y * z);
    await fill(index, image);
    return image;
  });
}
