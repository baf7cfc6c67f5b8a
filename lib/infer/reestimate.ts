import { compile } from "../compile/compile.ts";
import type { Network } from "../models/network.ts";
import type { Device } from "../runtime/device.ts";

/**
 * Estimates the running statistics of every batch norm anew, as the plain mean over `batches` batches of images
 * (Li et al. 2018, "adaptive batch normalization"). Weights stay as they are and no label is used.
 * `batch(i)` gives the i-th batch, `[count, z, y, x, channels]` of `shape`.
 */
export async function reestimateStatistics(
  networks: readonly Network[],
  device: Device,
  shape: readonly number[],
  batches: number,
  batch: (index: number) => Float32Array | Promise<Float32Array>,
): Promise<void> {
  const plan = await compile(
    (graph) => {
      const image = graph.input("image", shape);
      const kept = graph.input("kept", []);
      for (const network of networks)
        network.apply(image, { training: true, statistics: kept, dropout: false });
      return {};
    },
    { device },
  );
  for (let index = 0; index < batches; index++)
    await plan.run({ image: await batch(index), kept: index / (index + 1) });
  plan.dispose();
}
