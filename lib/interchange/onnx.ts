import { UsageError } from "../errors.ts";
import type { State } from "../graph/state.ts";
import { byteLength, type Value } from "../graph/value.ts";
import { OnnxBuilder, refusal } from "./onnx_builder.ts";
import { encodeModel } from "./onnx_model.ts";
import { translations } from "./onnx_ops.ts";
import { type OnnxSource, TwoTraces } from "./onnx_trace.ts";
import { type Wire, wireLength } from "./onnx_wire.ts";

export interface OnnxOptions {
  /** Version of ONNX's operators, 15 to 22; default 17. */
  readonly opset?: number;
  /** Kept in the file as `metadata_props`. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** What the result is called; default `probabilities`. */
  readonly output?: string;
  /** Says which voxgrad wrote the file. */
  readonly producerVersion?: string;
}

const opsets = { least: 15, most: 22, usual: 17 } as const;

/** Protocol buffers know messages below 2 GiB. */
const mostBytes = 2 ** 31 - 1;

/** The pieces of a model file, and whether the model is 2-D. */
export interface EncodedOnnx {
  readonly bytes: Wire;
  readonly flat: boolean;
}

/**
 * An ONNX model of a computation on images, channels first: input `image`, float32 `[N, C, D, H, W]`, of which all but the channels
 * may vary from run to run. A computation that takes every slice by itself becomes a 2-D model `[N, C, H, W]`, N counting slices.
 * `read` gives the contents of the states that are to be stored in it.
 *
 * Throws UsageError for an opset that is not to be had, an op that has no translation, naming it and where it stands, and weights that
 * make the file larger than the format allows.
 */
export async function encodeOnnx(
  source: OnnxSource,
  read: (state: State) => Promise<Float32Array>,
  options: OnnxOptions = {},
): Promise<EncodedOnnx> {
  const { opset = opsets.usual, metadata = {}, output = "probabilities", producerVersion = "" } = options;
  if (!Number.isInteger(opset) || opset < opsets.least || opset > opsets.most)
    throw new UsageError(
      `ONNX export: the opset must be a whole number from ${opsets.least} to ${opsets.most}, found ${opset}`,
    );
  const traces = new TwoTraces(source);
  const computed = traces.values.filter(({ op }) => op !== "input" && op !== "state");
  for (const value of computed)
    if (translations[value.op] === undefined)
      throw refusal(value, `ONNX export knows ${Object.keys(translations).join(", ")}`);
  const states = new Set(traces.values.flatMap((value) => value.graph.stateOf(value) ?? []));
  checkLength([...states].reduce((total, state) => total + byteLength(state), 0));
  const contents = new Map<State, Float32Array>();
  for (const state of states) contents.set(state, await read(state));

  const flat = computed.every((value) => translations[value.op].inSlices?.(value) ?? true);
  const builder = new OnnxBuilder(traces, { flat, opset }, contents);
  builder.name(traces.image, "image");
  for (const value of computed) builder.name(value, translations[value.op].write(value, builder));
  const result = builder.of(traces.output);
  const port = (name: string, { shape }: Value) => ({
    name,
    shape: ["batch", shape[4], ...(flat ? [] : ["depth"]), "height", "width"],
  });
  const bytes = encodeModel({
    opset,
    name: traces.output.scope || "voxgrad",
    producerVersion,
    nodes: [...builder.nodes, { name: output, op: "Identity", inputs: [result], output, attributes: {} }],
    tensors: builder.tensors,
    inputs: [port("image", traces.image)],
    outputs: [port(output, traces.output)],
    metadata,
  });
  checkLength(wireLength(bytes));
  return { bytes, flat };
}

function checkLength(bytes: number): void {
  if (bytes > mostBytes)
    throw new UsageError(
      `ONNX export: a model file holds less than 2 GiB, these weights need ${(bytes / 2 ** 30).toFixed(1)} GiB; ` +
        `export one network of the run at a time, or train smaller ones`,
    );
}
