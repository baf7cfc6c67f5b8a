import { UsageError } from "../errors.ts";
import { byteLength } from "../graph/value.ts";
import { type Device, version } from "../runtime/device.ts";
import type { StepSpec, TensorSpec } from "../runtime/native.ts";
import { ask } from "./describe.ts";
import { type Measured, TuningFile } from "./tuning_file.ts";

/**
 * `off`: a table by shape says how a step is computed; `cached`: what was measured before, where it was; `on`: it is measured. To
 * compare ways, `prefer` takes the first whose name begins so, where there is one.
 */
export type Tuning = "off" | "cached" | "on" | { readonly prefer: string };

/** What `VOXGRAD_TUNE` says, or `off`. */
export function usualTuning(): Exclude<Tuning, object> {
  const text = process.env.VOXGRAD_TUNE ?? "off";
  if (text !== "off" && text !== "cached" && text !== "on")
    throw new UsageError(`VOXGRAD_TUNE: expected off, cached or on, found '${text}'`);
  return text;
}

/** The same steps, those of which another way than the table's is known to be faster having that one as attribute `way`. */
export function tuned(specs: readonly StepSpec[], device: Device, tuning: Tuning): readonly StepSpec[] {
  if (tuning === "off") return specs;
  const wanted = typeof tuning === "object" ? startingWith(tuning.prefer) : remembered(device);
  return specs.map((spec) => {
    const ways = waysOf(spec, device);
    const way = wanted(spec, ways);
    return way < 1 ? spec : { ...spec, attributes: { ...spec.attributes, way } };
  });
}

/** The number of one of a step's ways; -1 for none. */
type Choice = (spec: StepSpec, ways: readonly string[]) => number;

const startingWith =
  (start: string): Choice =>
  (_, ways) =>
    ways.findIndex((way) => way.startsWith(start));

function remembered(device: Device): Choice {
  const file = new TuningFile();
  const machine = describeMachine(device);
  return (spec, ways) => ways.indexOf(file.get(keyOf(spec, machine)) ?? "");
}

/** Times every way of every step of which the file knows none, and adds the fastest to it; steps with fewer than `least` ways are left out. */
export async function measureWays(specs: readonly StepSpec[], device: Device, least = 2): Promise<void> {
  const file = new TuningFile();
  const machine = describeMachine(device);
  const measured = new Map<string, Measured>();
  for (const spec of specs) {
    const ways = waysOf(spec, device);
    const key = keyOf(spec, machine);
    if (ways.length < least || measured.has(key) || ways.includes(file.get(key) ?? "")) continue;
    const times = await timesOf(spec, ways, device);
    const [way, milliseconds] = [...times].reduce((best, each) => (each[1] < best[1] ? each : best));
    measured.set(key, { way, milliseconds, ways: ways.length > 0 ? Object.fromEntries(times) : {} });
  }
  if (measured.size > 0) file.add(measured);
}

/** Whether the second of two lists of steps, which do the same, is to be preferred. */
export type Better = (first: readonly StepSpec[], second: readonly StepSpec[]) => boolean;

/**
 * By their times, as far as the file knows them; steps of which it does not are put into `unknown`. With `prefer`, it is the second one
 * if each of its steps that `counts` has such a way. Undefined where tuning is off: the first one always.
 */
export function betterSteps(
  device: Device,
  tuning: Tuning,
  unknown: StepSpec[],
  counts: (spec: StepSpec) => boolean,
): Better | undefined {
  if (tuning === "off") return undefined;
  if (typeof tuning === "object") {
    const choose = startingWith(tuning.prefer);
    return (_, second) => second.filter(counts).every((spec) => choose(spec, waysOf(spec, device)) >= 0);
  }
  const file = new TuningFile();
  const machine = describeMachine(device);
  const total = (specs: readonly StepSpec[]) => {
    const times = specs.map((spec) => file.milliseconds(keyOf(spec, machine)));
    unknown.push(...specs.filter((_, index) => times[index] === undefined));
    return times.reduce<number>((sum, time) => sum + (time ?? Number.NaN), 0);
  };
  return (first, second) => {
    const [apart, together] = [total(first), total(second)];
    return together < apart;
  };
}

export const waysOf = (spec: StepSpec, device: Device) => ask(spec, (step) => device.native.ways(step));

/** What the time of every step depends on. */
const describeMachine = (device: Device) => `voxgrad ${version()}, ${device.describe()}`;

/** Everything that the time of a step depends on. */
function keyOf({ kernel, inputs, output, attributes }: StepSpec, machine: string): string {
  const tensors = [...inputs, output].map(({ dtype, shape }) => `${dtype}[${shape.join()}]`);
  return [machine, kernel, ...tensors, JSON.stringify(attributes)].join("; ");
}

/** A way is run once to warm up and then a few times, or once more where that takes long. */
const timedRuns = 6;
const longMilliseconds = 5;

/**
 * Milliseconds of a step by the names of its ways, or of "" where it has none. Those that the device refuses, which may want too much
 * memory, are warned of and left out; it throws where that is all of them.
 */
async function timesOf(
  spec: StepSpec,
  ways: readonly string[],
  device: Device,
): Promise<Map<string, number>> {
  const times = new Map<string, number>();
  const refusals: Error[] = [];
  for (const [way, name] of (ways.length > 0 ? ways : [""]).entries()) {
    const attributes = ways.length > 0 ? { ...spec.attributes, way } : spec.attributes;
    try {
      times.set(name, await timeOf({ ...spec, attributes }, device));
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      if (code !== "ERR_DEVICE" && code !== "ERR_OUT_OF_MEMORY") throw error;
      refusals.push(error as Error);
      process.emitWarning(`${spec.label}: ${name || spec.kernel} cannot be timed: ${message}`, {
        code: "VOXGRAD_TUNING",
      });
    }
  }
  if (times.size === 0) throw refusals[0];
  return times;
}

/** Milliseconds of a step by itself, over memory of its own that holds zeroes. */
async function timeOf(spec: StepSpec, device: Device): Promise<number> {
  let end = 0;
  const take = (bytes: number) => {
    const offset = end;
    end += Math.ceil(bytes / 256) * 256;
    return offset;
  };
  const place = (tensor: TensorSpec): TensorSpec => ({ ...tensor, offset: take(byteLength(tensor)) });
  const inputs = spec.inputs.map(place);
  const output = place(spec.output);
  const workspaceBytes = ask(spec, (step) => device.native.workspace(step));
  const workspaceOffset = take(workspaceBytes);
  const plan = new device.native.Plan({
    arenaBytes: end,
    states: [],
    steps: [{ ...spec, inputs, output, workspaceBytes, workspaceOffset }],
    inputs: [],
    outputs: [],
    prologue: 0,
    firstUpdate: 1,
    paranoid: false,
  });
  try {
    const [first] = await plan.time([], 1).promise;
    return Math.min(...(await plan.time([], first > longMilliseconds ? 1 : timedRuns).promise));
  } finally {
    plan.dispose();
  }
}
