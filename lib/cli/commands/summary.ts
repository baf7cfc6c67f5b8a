import { planOnly } from "../../compile/compile.ts";
import type { Plan } from "../../compile/plan.ts";
import { ShapeError } from "../../errors.ts";
import { Graph } from "../../graph/graph.ts";
import type { Shape } from "../../graph/value.ts";
import { modelNamed, models, type Network } from "../../models/index.ts";
import { Parameter } from "../../nn/module.ts";
import { opOf } from "../../ops/define.ts";
import { softmax } from "../../ops/softmax.ts";
import { Sgd } from "../../optim/sgd.ts";
import { openDevice } from "../../runtime/device.ts";
import { makeConfig } from "../../train/config.ts";
import { supervise } from "../../train/recipes/recipe.ts";
import { defineCommand } from "../arguments.ts";
import { atLeast, jsonOption, parseSize } from "../options.ts";
import { formatBytes, formatCount, formatTable } from "../table.ts";

export const summary = defineCommand({
  name: "summary",
  summary: "List the layers of a network, its parameters, operations and planned memory.",
  usage: "MODEL [options]",
  options: {
    patch: {
      type: "string",
      placeholder: "XxYxZ",
      default: "112x112x80",
      help: "voxels along x, y, z, in the axis order of the files",
    },
    batch: { type: "integer", default: 1, help: "patches at a time" },
    classes: { type: "integer", default: 2, help: "classes, background included" },
    "input-channels": { type: "integer", default: 1, help: "channels of the image" },
    "base-channels": { type: "integer", default: 16, help: "channels at full resolution" },
    json: jsonOption,
  },
  positionals: [{ name: "model", help: "network", required: true, choices: Object.keys(models) }],
  notes: [
    "Memory is planned, not taken: networks larger than this machine can be summed up. Training means one step of SGD with momentum on cross-entropy + Dice. A multiply-add counts as two operations.",
  ],
  examples: ["voxgrad summary vnet", "voxgrad summary resvnet --patch 96x96x64 --classes 5 --json"],
  run({ options, positionals: { model } }, { stdout }) {
    const batch = atLeast("--batch", options.batch, 1);
    const classes = atLeast("--classes", options.classes, 2);
    const inputChannels = atLeast("--input-channels", options.inputChannels, 1);
    const baseChannels = atLeast("--base-channels", options.baseChannels, 1);
    const patch = parseSize("--patch", options.patch);
    const network = modelNamed(model)({ classes, inputChannels, baseChannels });
    const shape = [batch, patch[2], patch[1], patch[0], inputChannels];
    const layers = layersOf(network, shape);
    const inference = planInference(network, shape);
    const training = planTraining(network, shape);
    const isPlan = !(training instanceof ShapeError);
    const totals = {
      parameters: network.parameterCount,
      flops: layers.reduce((sum, layer) => sum + layer.flops, 0),
      peakMemory: inference.peakBytes,
      trainingFlops: isPlan ? training.flops : null,
      trainingPeakMemory: isPlan ? training.peakBytes : null,
    };
    if (options.json) {
      const settings = { model, patch, batch, classes, inputChannels, baseChannels };
      stdout.write(`${JSON.stringify({ ...settings, ...totals, layers }, undefined, 2)}\n`);
      return;
    }
    const rows = layers.map(({ path, op, outputShape, parameters, flops }) => [
      path,
      op,
      outputShape.join(" x "),
      parameters === 0 ? undefined : parameters,
      flops / 1e9,
    ]);
    stdout.write(
      formatTable(["layer", "op", "N x D x H x W x C", "parameters", { header: "GFLOP", digits: 3 }], rows),
    );
    const giga = (flops: number) => `${(flops / 1e9).toPrecision(4)} GFLOP`;
    stdout.write(
      `\nparameters   ${formatCount(totals.parameters)}\n` +
        `inference    ${giga(totals.flops)}, peak memory ${formatBytes(totals.peakMemory)}\n` +
        `training     ${isPlan ? `${giga(training.flops)} a step, peak memory ${formatBytes(training.peakBytes)}` : `not so: ${training.message}`}\n`,
    );
  },
});

interface Layer {
  /** Path of the module in the network. */
  path: string;
  /** What it computes last. */
  op: string;
  /** `[N, D, H, W, C]`. */
  outputShape: Shape;
  parameters: number;
  flops: number;
}

/** Ops that serve under another name than users know: a transposed convolution is the gradient of a plain one. */
const knownAs: Readonly<Record<string, string>> = { conv3dInputGradient: "convTranspose3d" };

/** What each module computes in prediction, in order; work of its submodules counts for them. */
function layersOf(network: Network, shape: Shape): Layer[] {
  const graph = new Graph();
  network.apply(graph.input("image", shape));
  const layers: Layer[] = [];
  const counted = new Set<Parameter>();
  for (const node of graph.nodes) {
    const rules = opOf(node);
    if (rules === undefined) continue;
    const flops = rules.flops(node.inputs, node, node.attributes);
    const states = node.inputs.flatMap((input) => graph.stateOf(input) ?? []);
    const fresh = states.filter((state) => state instanceof Parameter && !counted.has(state));
    for (const state of fresh) counted.add(state);
    const parameters = fresh.reduce((sum, { size }) => sum + size, 0);
    const op = knownAs[node.op] ?? node.op;
    const last = layers[layers.length - 1];
    if (last?.path === node.scope) {
      last.op = `${last.op}, ${op}`;
      last.outputShape = node.shape;
      last.parameters += parameters;
      last.flops += flops;
    } else {
      layers.push({ path: node.scope, op, outputShape: node.shape, parameters, flops });
    }
  }
  return layers;
}

function planInference(network: Network, shape: Shape): Plan {
  return planOnly((graph) => ({ probabilities: softmax(network.apply(graph.input("image", shape))) }), {
    device: openDevice(),
  });
}

/** A step of training, or why there is none: batch norm needs more than one value of each channel. */
function planTraining(network: Network, shape: Shape): Plan | ShapeError {
  try {
    return planStep(network, shape);
  } catch (error) {
    if (error instanceof ShapeError) return error;
    throw error;
  }
}

function planStep(network: Network, shape: Shape): Plan {
  const config = makeConfig("recommended", { classes: network.classes });
  const sgd = new Sgd(network, config);
  return planOnly(
    (graph) => {
      const key = graph.input("key", [2], "i32");
      const labels = graph.input("labels", shape.slice(0, 4), "u8");
      const logits = network.apply(graph.input("image", shape), { training: true, key });
      const { loss } = supervise(logits, labels, config);
      sgd.minimize(loss, graph.input("learningRate", []));
      return { loss };
    },
    { device: openDevice() },
  );
}
