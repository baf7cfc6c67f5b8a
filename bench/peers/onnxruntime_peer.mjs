/**
 * onnxruntime on the CPU as a peer of `voxgrad bench`: forward convolutions, as models of one node. bench/README.md
 * describes the protocol. What is timed is `session.run` from JavaScript, which copies the result out.
 */
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import onnxProto from "onnx-proto";
import * as ort from "onnxruntime-node";

const { onnx } = onnxProto;
const threads = Number(parseArgs({ options: { threads: { type: "string" } } }).values.threads);
const say = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);
const elements = (shape) => shape.reduce((product, extent) => product * extent, 1);

function fill(shape) {
  return Float32Array.from({ length: elements(shape) }, (_, i) => ((i * 7919) % 1009) / 1009 - 0.5);
}

/** A model of one convolution over `dims` axes, its weights a constant, and the shape of its input. */
function modelOf({ input, output, kernel, stride, padding, dilation, groups, transposed }, dims) {
  const cut = (numbers) => numbers.slice(3 - dims);
  const order = transposed ? [input[4], output[4] / groups] : [output[4], input[4] / groups];
  const weights = [...order, ...cut(kernel)];
  const data = fill(weights);
  const { INT, INTS } = onnx.AttributeProto.AttributeType;
  const attribute = (name, ints) => ({ name, type: INTS, ints });
  const float = onnx.TensorProto.DataType.FLOAT;
  const value = (name, shape) => ({
    name,
    type: { tensorType: { elemType: float, shape: { dim: shape.map((dimValue) => ({ dimValue })) } } },
  });
  const shape = [input[0], input[4], ...cut(input.slice(1, 4))];
  const bytes = onnx.ModelProto.encode({
    irVersion: 8,
    opsetImport: [{ domain: "", version: 13 }],
    graph: {
      name: "convolution",
      node: [
        {
          opType: transposed ? "ConvTranspose" : "Conv",
          input: ["x", "w"],
          output: ["y"],
          attribute: [
            attribute("kernel_shape", cut(kernel)),
            attribute("strides", cut(stride)),
            attribute("dilations", cut(dilation)),
            attribute("pads", [...cut(padding), ...cut(padding)]),
            { name: "group", type: INT, i: groups },
          ],
        },
      ],
      input: [value("x", shape)],
      output: [value("y", [output[0], output[4], ...cut(output.slice(1, 4))])],
      initializer: [{ name: "w", dims: weights, dataType: float, rawData: new Uint8Array(data.buffer) }],
    },
  }).finish();
  return { bytes, shape };
}

async function prepare(shape) {
  const flat = shape.input[1] === 1 && shape.kernel[0] === 1;
  const sessions = {};
  for (const dims of flat ? [3, 2] : [3]) {
    const model = modelOf(shape, dims);
    const session = await ort.InferenceSession.create(model.bytes, {
      intraOpNumThreads: threads,
      interOpNumThreads: 1,
      logSeverityLevel: 3,
    });
    const x = new ort.Tensor("float32", fill(model.shape), model.shape);
    sessions[`${dims}-D`] = { session, run: () => session.run({ x }) };
  }
  return sessions;
}

let held = { key: "", sessions: {} };

async function answer({ seconds, ...task }) {
  if (task.mode !== "conv" || task.pass !== "forward")
    return { unsupported: "onnxruntime has no training from JavaScript" };
  const key = JSON.stringify(task);
  if (held.key !== key) {
    for (const { session } of Object.values(held.sessions)) await session.release();
    held = { key: "", sessions: {} };
    held = { key, sessions: await prepare(task.shape) };
  }
  const entries = Object.entries(held.sessions);
  const times = {};
  for (const [name, { run }] of entries) {
    await run();
    times[name] = [];
    const end = performance.now() + (1000 * seconds) / entries.length;
    while (times[name].length < 3 || (performance.now() < end && times[name].length < 500)) {
      const began = performance.now();
      await run();
      times[name].push(performance.now() - began);
    }
  }
  return { times };
}

say({
  name: "onnxruntime",
  version: ort.env.versions?.node ?? ort.env.versions?.common ?? "unknown",
  threads,
});
for await (const line of createInterface({ input: process.stdin })) {
  try {
    say(await answer(JSON.parse(line)));
  } catch (error) {
    say({ error: String(error.message).split("\n")[0] });
  }
}
