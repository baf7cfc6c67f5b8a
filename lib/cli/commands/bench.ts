import { arch, platform } from "node:os";
import {
  type Case,
  casesOf,
  findLists,
  type Mode,
  modes,
  stepsOf,
  type TimedMode,
} from "../../bench/cases.ts";
import { totalsByKernel } from "../../bench/profile.ts";
import { prepareStep } from "../../bench/step.ts";
import type { Target } from "../../bench/target.ts";
import { busyElsewhere, type Machine, measureMachine, roof } from "../../bench/machine.ts";
import { measureMemory } from "../../bench/memory.ts";
import { parsePeers, type PeerKind, Peers } from "../../bench/peers.ts";
import { ROUNDS, takeTurns } from "../../bench/turns.ts";
import { checkPrecision } from "../../compile/precision.ts";
import { writeAtomically } from "../../data/atomic.ts";
import { counted, DeviceError, UsageError, VoxgradError } from "../../errors.ts";
import { type Device, openDevice } from "../../runtime/device.ts";
import { native } from "../../runtime/native.ts";
import { type Context, defineCommand } from "../arguments.ts";
import {
  failures,
  type MemoryRow,
  memoryTable,
  profileTable,
  type Row,
  rowAsJson,
  rowTable,
  totals,
} from "../bench_tables.ts";
import { atLeast, deviceOption, precisionOption } from "../options.ts";
import { Progress } from "../progress.ts";
import { STOPPED } from "../run.ts";
import { paint } from "../style.ts";

export const bench = defineCommand({
  name: "bench",
  summary:
    "Measure convolutions, ASPP, losses, training steps and memory beside the machine's limits and other libraries.",
  usage: "conv|aspp|loss|step|memory|profile [options]",
  options: {
    shapes: {
      type: "string",
      placeholder: "FILE",
      multiple: true,
      help: "what to measure: a text file, or the name of a list of the package (vnet, resvnet, deeplab2d, aspp, loss, steps)",
    },
    filter: { type: "string", placeholder: "REGEX", help: "only rows whose `list name pass` matches" },
    peers: {
      type: "string",
      placeholder: "NAMES",
      help: "compare with torch, onednn, onnxruntime; NAME=COMMAND is a program of yours",
    },
    precision: precisionOption,
    device: deviceOption,
    threads: {
      type: "integer",
      help: "threads for everyone; default: as VOXGRAD_THREADS or the machine says",
    },
    "min-time": {
      type: "number",
      placeholder: "S",
      default: 0.6,
      help: "seconds of measuring for everyone in every row",
    },
    json: { type: "string", placeholder: "FILE", help: "write all rows and where they were taken to FILE" },
  },
  positionals: [{ name: "mode", help: "what to measure", required: true, choices: modes }],
  notes: [
    "The roof of a row is the time that its arithmetic or its least memory traffic takes at the measured limits, whichever is longer. A ratio is the other library's median time over voxgrad's: above 1, voxgrad is faster. Everyone works in turns.",
    "bench/README.md describes the text files, how the peers are installed and how figures are taken.",
  ],
  examples: [
    "voxgrad bench conv --shapes vnet --peers torch,onednn,onnxruntime --json conv.json",
    "voxgrad bench conv --filter 'aspp.* forward'",
    "voxgrad bench aspp --filter os16 --peers torch,onednn,onnxruntime",
    "voxgrad bench step --threads 2 --peers torch",
    "voxgrad bench memory",
    "voxgrad bench conv --shapes vnet --device cuda --peers torch",
  ],
  async run({ options, positionals: { mode } }, context) {
    const filter = parseFilter(options.filter);
    const seconds = options.minTime;
    if (!(seconds > 0)) throw new UsageError(`--min-time must be above 0, found ${seconds}`);
    const kinds = options.peers === undefined ? [] : parsePeers(options.peers);
    const files = findLists(mode, options.shapes);
    const device = openWith(options.device, options.threads);
    if (device.name === "emulator")
      throw new UsageError(
        "--device emulator: what the emulation of a GPU takes says nothing; use cpu or cuda",
      );
    if (mode === "memory" && device.name !== "cpu")
      throw new UsageError("bench memory measures resident memory of processes: use --device cpu");
    const target: Target = { device, precision: options.precision ?? "f32" };
    checkPrecision(target.precision, device);
    const setting: Setting = { mode, files, filter, kinds, seconds, target, context };
    const outcome = await measure(setting);
    if (options.json !== undefined)
      await writeAtomically(options.json, [Buffer.from(asJson(setting, outcome))]);
    if (context.signal.aborted) return STOPPED;
    return outcome.failed === undefined ? 0 : 1;
  },
});

function measure(setting: Setting): Promise<Outcome> {
  const { mode } = setting;
  if (mode === "memory") return measureSteps(setting);
  if (mode === "profile") return profileSteps(setting);
  return measureCases(setting, mode);
}

interface Setting {
  readonly mode: Mode;
  readonly files: readonly string[];
  readonly filter: RegExp;
  readonly kinds: readonly PeerKind[];
  readonly seconds: number;
  readonly target: Target;
  readonly context: Context;
}

/** What stands in the JSON besides the setting. */
interface Outcome {
  readonly machine: Machine;
  readonly busyElsewhere: number;
  readonly peers: readonly { label: string; version: string; threads: number }[];
  readonly leftOut: readonly string[];
  readonly rows: readonly unknown[];
  /** Why rows are missing. */
  readonly failed?: readonly string[];
}

function parseFilter(text: string | undefined): RegExp {
  try {
    return new RegExp(text ?? "");
  } catch (error) {
    throw new UsageError(`--filter takes a regular expression: ${(error as Error).message}`);
  }
}

/** The pool of threads is as large as it is told when it is first used. */
function openWith(name: string, threads: number | undefined): Device {
  if (threads !== undefined) process.env.VOXGRAD_THREADS = String(atLeast("--threads", threads, 1));
  const device = openDevice(name);
  const found = native().threads();
  if (threads !== undefined && found !== threads)
    throw new DeviceError(`--threads ${threads}: the threads of this process already run, ${found} of them`);
  return device;
}

/** Those that match, at least one. */
function filtered<T>(all: readonly T[], filter: RegExp, label: (each: T) => string): T[] {
  const chosen = all.filter((each) => filter.test(label(each)));
  if (chosen.length > 0) return chosen;
  const first = all.slice(0, 3).map((each) => `'${label(each)}'`);
  throw new UsageError(
    `--filter: none of ${counted(all.length, "row")} matches ${String(filter)}; they are ${first.join(", ")}${all.length > 3 ? ", ..." : ""}`,
  );
}

async function lookAround(
  { target, context }: Setting,
  progress: Progress,
): Promise<Pick<Outcome, "machine" | "busyElsewhere">> {
  const { stdout, signal } = context;
  progress.update(0, "measuring the machine");
  const busy = await busyElsewhere();
  const machine = await measureMachine(target.device, signal);
  progress.done();
  const { processor, isa, threads, peakGflops, copyGBs } = machine;
  stdout.write(
    `machine   ${processor}, ${isa}, ${counted(threads, "thread")}: ${peakGflops.toFixed(0)} GFLOP/s of multiply-adds, ${copyGBs.toFixed(1)} GB/s of copying\n`,
  );
  if (busy > 0.15)
    stdout.write(
      `${paint(stdout, "yellow", "warning:")} other processes keep ${busy.toFixed(1)} processors busy; times will be too long\n`,
    );
  return { machine, busyElsewhere: busy };
}

async function startPeers({ kinds, mode, target, context }: Setting, progress: Progress): Promise<Peers> {
  const host = { device: target.device.name, precision: target.precision, threads: native().threads() };
  return Peers.start(kinds, mode, host, context.signal, (name) => progress.update(0, `starting ${name}`));
}

function introduce({ running, absent }: Peers, { stdout }: Context): Pick<Outcome, "peers" | "leftOut"> {
  for (const { label, version, threads } of running)
    stdout.write(`peer      ${label}: ${version}, ${counted(threads, "thread")}\n`);
  for (const sentence of absent) stdout.write(`${paint(stdout, "yellow", "warning:")} ${sentence}\n`);
  return {
    peers: running.map(({ label, version, threads }) => ({ label, version, threads })),
    leftOut: absent,
  };
}

async function measureCases(setting: Setting, mode: TimedMode): Promise<Outcome> {
  const { files, filter, context } = setting;
  const { signal, stdout, stderr } = context;
  const all = casesOf(mode, files);
  const cases = filtered(all, filter, ({ list, name, pass }) => `${list} ${name} ${pass}`);
  const progress = new Progress(stderr, { total: cases.length, label: `bench ${mode}`, unit: "row" });
  const surroundings = await lookAround(setting, progress);
  using peers = await startPeers(setting, progress);
  progress.done();
  const present = introduce(peers, context);
  const rows: Row[] = [];
  const failed: string[] = [];
  try {
    for (const [index, each] of cases.entries()) {
      progress.update(index, `${each.name} ${each.pass}`);
      try {
        rows.push(await measureRow(each, peers, setting, surroundings.machine));
      } catch (error) {
        // The other rows may do: a device has little memory, or a kernel fails.
        if (signal.aborted || !(error instanceof VoxgradError) || error instanceof UsageError) throw error;
        failed.push(`${each.name}, ${each.pass}: ${error.message}`);
      }
    }
  } catch (error) {
    if (!signal.aborted) throw error;
    progress.log("stopped; the rows so far:");
  }
  progress.done();
  const labels = [...new Set(rows.flatMap((row) => Object.keys(row.peers)))];
  stdout.write(`\n${rowTable(rows, labels)}`);
  if (mode === "conv") stdout.write(totals(rows, all, labels));
  for (const line of failures(rows)) stdout.write(`${paint(stdout, "yellow", "warning:")} ${line}\n`);
  for (const line of failed) stderr.write(`${paint(stderr, "red", "failed:")} ${line}\n`);
  const measured = { ...surroundings, ...present, rows: rows.map(rowAsJson) };
  return failed.length > 0 ? { ...measured, failed } : measured;
}

async function measureRow(
  each: Case,
  peers: Peers,
  { seconds, target, context: { signal } }: Setting,
  machine: Machine,
): Promise<Row> {
  using prepared = await each.prepare(target, signal);
  const { contender, others = [], work, packing } = prepared;
  const rivals = [...others, ...peers.running.map((peer) => each.rival(peer))];
  const [own, ...scores] = await takeTurns([contender, ...rivals], seconds, signal);
  if ("failure" in own) throw new VoxgradError("ERR_BENCH", own.failure);
  const { list, name, pass, count } = each;
  const byLabel = Object.fromEntries(rivals.map(({ name: label }, index) => [label, scores[index]]));
  const limit = roof(work, machine);
  return { list, name, pass, count, times: own.times, packing, work, roof: limit, peers: byLabel };
}

/** Every step kernel by kernel, by itself. */
async function profileSteps(setting: Setting): Promise<Outcome> {
  const { files, filter, kinds, seconds, target, context } = setting;
  const { signal, stdout, stderr } = context;
  if (kinds.length > 0) throw new UsageError("--peers: profile looks at voxgrad alone");
  const steps = filtered(stepsOf(files), filter, ({ name }) => name);
  const progress = new Progress(stderr, { total: steps.length, label: "bench profile", unit: "step" });
  const surroundings = await lookAround(setting, progress);
  const rows: unknown[] = [];
  for (const [index, shape] of steps.entries()) {
    progress.update(index, shape.name);
    using step = await prepareStep(shape, target, signal);
    const [, second] = await step.run(2);
    const runs = Math.min(100, Math.max(3, Math.ceil((1000 * seconds) / second)));
    const totals = totalsByKernel(await step.profile(runs));
    progress.done();
    stdout.write(`\n${shape.name}\n${profileTable(totals)}`);
    rows.push({ name: shape.name, runs, kernels: totals });
  }
  return { ...surroundings, peers: [], leftOut: [], rows };
}

/** Every step in a process of its own, voxgrad's and the peers'. */
async function measureSteps(setting: Setting): Promise<Outcome> {
  const { files, filter, context } = setting;
  const { signal, stdout, stderr } = context;
  const steps = filtered(stepsOf(files), filter, ({ name }) => name);
  const progress = new Progress(stderr, { total: steps.length, label: "bench memory", unit: "step" });
  const surroundings = await lookAround(setting, progress);
  const rows: MemoryRow[] = [];
  const present = new Map<string, Outcome["peers"][number]>();
  const leftOut = new Set<string>();
  try {
    for (const step of steps) {
      progress.update(rows.length, `${step.name} voxgrad`);
      const own = await measureMemory(step, setting.target, signal);
      using peers = await startPeers(setting, progress);
      for (const sentence of peers.absent) leftOut.add(sentence);
      const above: Record<string, number | undefined> = {};
      for (const peer of peers.running) {
        const { label, version, threads } = peer;
        present.set(label, { label, version, threads });
        progress.update(rows.length, `${step.name} ${label}`);
        try {
          const { memory } = await peer.ask({ mode: "memory", ...step }, 0);
          above[label] = memory && memory.peak - memory.idle;
        } catch (error) {
          signal.throwIfAborted();
          leftOut.add(`${label}, ${step.name}: ${(error as Error).message}`);
        }
      }
      rows.push({ step, own, peers: above });
    }
  } catch (error) {
    if (!signal.aborted) throw error;
    progress.log("stopped; the rows so far:");
  }
  progress.done();
  const labels = [...present.keys()];
  stdout.write(`\n${memoryTable(rows, labels)}`);
  for (const line of leftOut) stdout.write(`${paint(stdout, "yellow", "warning:")} ${line}\n`);
  return {
    ...surroundings,
    peers: [...present.values()],
    leftOut: [...leftOut],
    rows: rows.map(({ step, own, peers }) => ({ step, ...own, aboveIdle: own.peak - own.idle, peers })),
  };
}

function asJson({ mode, files, seconds, target, context }: Setting, outcome: Outcome): string {
  const document = {
    date: new Date().toISOString(),
    voxgrad: context.version,
    node: process.version,
    platform: `${platform()} ${arch()}`,
    mode,
    files,
    precision: target.precision,
    secondsPerRow: seconds,
    rounds: ROUNDS,
    ...outcome,
  };
  return `${JSON.stringify(document, undefined, 2)}\n`;
}
