import { readState } from "../compile/states.ts";
import { writeAtomically } from "../data/atomic.ts";
import { UsageError } from "../errors.ts";
import { encodeOnnx } from "../interchange/onnx.ts";
import { wireLength } from "../interchange/onnx_wire.ts";
import { commonDivisor, type Network } from "../models/index.ts";
import { type Device, openDevice } from "../runtime/device.ts";
import { meanProbabilities } from "./mean_probabilities.ts";

export interface ExportOptions {
  /** Where the weights are; default that of `openDevice`. */
  readonly device?: Device;
  /** Version of ONNX's operators, 15 to 22; default 17. */
  readonly opset?: number;
  /** Kept in the file's `metadata_props`, beside what the networks say of themselves. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** Says which voxgrad wrote the file. */
  readonly producerVersion?: string;
}

/** What was written. */
export interface ExportedOnnx {
  readonly bytes: number;
  /** Axes of the model's input and output: `N, C, D, H, W`, or `N, C, H, W` of networks that work within slices. */
  readonly layout: string;
}

/**
 * Writes networks as an ONNX model, whole or not at all: input `image`, float32 `[N, C, D, H, W]`, prepared as for training;
 * output `probabilities` of the classes, averaged over the networks, by their running statistics. Networks that all work
 * within slices make a 2-D model `[N, C, H, W]`. All extents but the channels may vary from run to run, depth, height and width
 * in multiples of the networks' `divisor`.
 *
 * Throws UsageError for networks that do not belong together, an opset that is not to be had, an op that has no ONNX form, and weights
 * of 2 GiB or more, and DataError when the file cannot be written.
 */
export async function exportOnnx(
  path: string,
  networks: readonly Network[],
  options: ExportOptions = {},
): Promise<ExportedOnnx> {
  const { device = openDevice(), opset, metadata, producerVersion } = options;
  if (networks.length === 0) throw new UsageError("ONNX export: expected one network or more, found none");
  const [{ classes, inputChannels: channels }] = networks;
  if (networks.some((other) => other.classes !== classes || other.inputChannels !== channels))
    throw new UsageError("ONNX export: networks to average must have the same classes and input channels");
  const [x, y, z] = commonDivisor(networks);
  const { bytes, flat } = await encodeOnnx(
    { trace: (image) => meanProbabilities(networks, image), channels, divisor: [z, y, x] },
    async (state) => (await readState(device, state)) as Float32Array,
    {
      opset,
      producerVersion,
      metadata: {
        "voxgrad.networks": JSON.stringify(networks.map(({ path: name }) => name)),
        "voxgrad.classes": String(classes),
        "voxgrad.divisor": JSON.stringify([x, y, z]),
        ...metadata,
      },
    },
  );
  await writeAtomically(path, bytes);
  return { bytes: wireLength(bytes), layout: flat ? "N, C, H, W" : "N, C, D, H, W" };
}
