import { existsSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { makeFolder } from "../../data/folder.ts";
import { counted, UsageError } from "../../errors.ts";
import { exportOnnx } from "../../infer/export_onnx.ts";
import { openDevice } from "../../runtime/device.ts";
import { type LoadedRun, loadRun } from "../../train/load.ts";
import { RunFolder } from "../../train/run.ts";
import { defineCommand } from "../arguments.ts";
import { chooseNetworks } from "../networks.ts";
import { formatBytes } from "../table.ts";

export const exportCommand = defineCommand({
  name: "export",
  summary: "Write the networks of a run as an ONNX model.",
  usage: "--run RUN --out FILE.onnx [options]",
  options: {
    run: { type: "string", placeholder: "RUN", help: "folder of a training run", required: true },
    out: { type: "string", short: "o", placeholder: "FILE", help: "model to write (.onnx)", required: true },
    weights: {
      type: "string",
      choices: ["last", "best", "average"],
      default: "last",
      help: "which checkpoint, or its running average (setting teacherDecay)",
    },
    network: {
      type: "string",
      placeholder: "NAME",
      default: "all",
      help: "all averages the probabilities of the run's networks; vnet or resvnet takes one alone",
    },
    opset: { type: "integer", default: 17, help: "version of ONNX's operators, 15 to 22" },
  },
  positionals: [],
  notes: [
    "The model takes 'image', prepared as its metadata say, and yields 'probabilities', both channels first: [N, C, D, H, W], or [N, C, H, W] of slices where all networks are two-dimensional.",
  ],
  examples: [
    "voxgrad export --run runs/sdnet --out sdnet.onnx",
    "voxgrad export --run runs/sdnet --out vnet.onnx --network vnet --weights best",
  ],
  async run({ options: given }, { stdout, version }) {
    const { run: folder, out, opset } = given;
    if (!out.endsWith(".onnx") || (existsSync(out) && statSync(out).isDirectory()))
      throw new UsageError(`--out must be a file whose name ends in .onnx, found ${out}`);
    const device = openDevice("cpu");
    const run = await loadRun(new RunFolder(folder), device, given.weights);
    try {
      const networks = chooseNetworks(run.networks, given.network);
      const metadata = describe(run);
      await makeFolder(dirname(out));
      const { bytes, layout } = await exportOnnx(out, networks, {
        device,
        opset,
        metadata,
        producerVersion: version,
      });
      stdout.write(
        `networks  ${networks.map(({ path }) => path).join(" and ")} after ${counted(run.step, "step")}\n`,
      );
      stdout.write(`image     [${layout}], prepared as the file's metadata say\n`);
      stdout.write(`${out}  ${formatBytes(bytes)}, opset ${opset}\n`);
    } finally {
      run.dispose();
    }
  },
});

/** What a user of the model must do to its images. */
function describe({ recipe, config, step }: LoadedRun): Record<string, string> {
  const { patch, window, normalize, orientation } = config;
  return {
    "voxgrad.recipe": recipe,
    "voxgrad.steps": String(step),
    "voxgrad.patch": JSON.stringify(patch),
    "voxgrad.window": JSON.stringify(window),
    "voxgrad.normalize": normalize,
    "voxgrad.orientation": orientation,
  };
}
