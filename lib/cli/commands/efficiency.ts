import { watch } from "../../bench/watch.ts";
import { writeAtomically } from "../../data/atomic.ts";
import { counted, UsageError } from "../../errors.ts";
import { efficiency as summarize } from "../../metrics/efficiency.ts";
import { writeEfficiencyReport } from "../../report/efficiency_report.ts";
import { defineCommand } from "../arguments.ts";
import { atLeast, shellCommand } from "../options.ts";
import { paint } from "../style.ts";
import { formatTable } from "../table.ts";

export const efficiency = defineCommand({
  name: "efficiency",
  summary: "Measure time, memory and CPU of a command as FLARE22 does.",
  usage: "[options] -- COMMAND...",
  options: {
    html: { type: "string", placeholder: "FILE", help: "write a page with the measures and both curves" },
    json: { type: "string", placeholder: "FILE", help: "write the measures and all samples as JSON" },
    gpu: {
      type: "integer",
      placeholder: "INDEX",
      help: "watch the memory of this NVIDIA card (nvidia-smi) instead of the resident memory of the command's processes",
    },
  },
  positionals: [],
  rest: {
    name: "-- COMMAND...",
    help: "what to run, such as voxgrad predict with its options; it need not be voxgrad's",
  },
  notes: [
    "Every 0.1 s this process looks at what the command and its children take; the measures are printed to stderr when it has ended, and its exit status is passed on.",
    "Maximum memory is the largest value, in whole MiB, that more than 2 % of the samples have; areas are sums of the samples times 0.1 s. As in the challenge, the CPU is that of the whole machine, other programs included (user and system against idle), and so is the memory of a card; a second line gives the CPU of the command alone. FLARE22 runs one case at a time.",
    "Without --gpu the memory is host memory: on the CPU the planned arena that predict prints is a part of it.",
  ],
  examples: [
    "voxgrad efficiency --html efficiency.html -- voxgrad predict --run runs/organs --input case.nii.gz --out organs.nii.gz",
    "voxgrad efficiency --gpu 0 --json efficiency.json -- voxgrad predict --run runs/organs --input case.nii.gz --out organs.nii.gz --device cuda",
  ],
  async run({ options: { html, json, gpu }, rest: command }, { stderr, version }) {
    if (command.length === 0)
      throw new UsageError("-- COMMAND is missing: what to run, behind two dashes of its own");
    if (gpu !== undefined) atLeast("--gpu", gpu, 0);
    const { seconds, samples, status } = await watch(command, gpu);
    const measures = summarize(seconds, samples);
    const memoryOf = gpu === undefined ? "resident, the command's processes" : `card ${gpu}, total less free`;
    const { memory, cpu, ownCpu } = measures;
    stderr.write(
      `${paint(stderr, "bold", "Efficiency")}  ${seconds.toFixed(2)} s, ${counted(samples.length, "sample")}, status ${status}\n${formatTable(
        ["", { header: "maximum", align: "right" }, { header: "area (x s)", align: "right" }],
        [
          [`memory, MiB: ${memoryOf}`, memory.maximum.toFixed(0), memory.area.toFixed(0)],
          ["CPU, %: the machine", cpu.peak.toFixed(1), cpu.area.toFixed(2)],
          ["CPU, %: the command", ownCpu.peak.toFixed(1), ownCpu.area.toFixed(2)],
        ],
      )}`,
    );
    const line = shellCommand(command);
    if (json !== undefined) {
      const text = JSON.stringify(
        { command: line, status, memoryOf, ...measures, series: samples },
        undefined,
        1,
      );
      await writeAtomically(json, [Buffer.from(`${text}\n`)]);
    }
    if (html !== undefined) {
      const footer = `voxgrad ${version}`;
      await writeEfficiencyReport(html, { command: line, memoryOf, efficiency: measures, samples, footer });
    }
    return status;
  },
});
