/// <reference lib="esnext.disposable" preserve="true" />
import { NotFiniteError, OutOfMemoryError, ShapeError, VoxgradError } from "../errors.ts";
import type { Graph } from "../graph/graph.ts";
import type { State, TypedArray } from "../graph/state.ts";
import { byteLength, elements, formatType, type TensorType } from "../graph/value.ts";
import { type Device, deviceError } from "../runtime/device.ts";
import type {
  NativeBuffer,
  NativeInputs,
  NativePlan,
  NativeUpload,
  Pending,
  StepSpec,
} from "../runtime/native.ts";
import type { PlanLayout } from "./compile.ts";
import { printPlan } from "./print.ts";
import { arrayOf } from "./states.ts";

export interface PlannedStep {
  readonly spec: StepSpec;
  readonly flops: number;
  /** How the kernel computes this step, where it knows several ways. */
  readonly algorithm?: string;
}

/** How long a step took, run by run. */
export interface StepTimes {
  readonly step: PlannedStep;
  readonly milliseconds: readonly number[];
}

/** A piece of the arena: who lies where, from which step to which. */
export interface PlannedTensor {
  readonly label: string;
  readonly type: TensorType;
  readonly bytes: number;
  readonly offset: number;
  readonly first: number;
  readonly last: number;
}

/** A typed array with its extents; scalars are plain numbers. */
export interface Tensor<T extends TypedArray = TypedArray> {
  readonly data: T;
  readonly shape: readonly number[];
}

export type Feed = Readonly<Record<string, TypedArray | number>>;

/** The inputs of one run of a plan, on their way to the device. */
export class Upload {
  readonly native: NativeUpload;

  constructor(native: NativeUpload) {
    this.native = native;
  }
}

export interface RunOptions {
  /** Stops between steps, or behind those that a GPU has recorded, before any state has changed; the Promise then rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

/** A compiled computation. Each run is one asynchronous call on the device's thread; runs are done in order. */
export class Plan<Names extends string = string> {
  readonly graph: Graph;
  readonly layout: PlanLayout;
  private readonly device: Device;
  private native: NativePlan | undefined;

  constructor(graph: Graph, device: Device, layout: PlanLayout) {
    this.graph = graph;
    this.device = device;
    this.layout = layout;
  }

  /** Floating-point operations of one run. */
  get flops(): number {
    return this.layout.steps.reduce((total, step) => total + step.flops, 0);
  }

  /** Bytes of all states this plan uses. */
  get stateBytes(): number {
    return this.layout.states.reduce((total, state) => total + byteLength(state), 0);
  }

  /** Most bytes of device memory in use at a time: states and arena. */
  get peakBytes(): number {
    return this.stateBytes + this.layout.arenaBytes;
  }

  /** Takes the device memory; called once by `compile`. */
  async load(memoryOf: (state: State) => Promise<NativeBuffer>): Promise<void> {
    const available = this.device.availableMemory();
    if (this.peakBytes > available)
      throw new OutOfMemoryError(this.explainSize(`${formatMebibytes(available)} are free`));
    try {
      await this.take(memoryOf);
    } catch (error) {
      const { code, message } = error as { code?: string; message: string };
      if (code !== "ERR_OUT_OF_MEMORY") throw translate(error as Error, this.device);
      throw new OutOfMemoryError(this.explainSize(message), { cause: error });
    }
  }

  private async take(memoryOf: (state: State) => Promise<NativeBuffer>): Promise<void> {
    const { layout } = this;
    // One by one: drawing the initial weights of a large network takes seconds, and timers fire in between.
    const states: NativeBuffer[] = [];
    for (const state of layout.states) states.push(await memoryOf(state));
    const { arenaBytes, inputs, outputs, prologue, firstUpdate, paranoid, record } = layout;
    this.native = new this.device.native.Plan({
      arenaBytes,
      states,
      steps: layout.steps.map(({ spec }) => spec),
      inputs: [...inputs],
      outputs: [...outputs],
      prologue,
      firstUpdate,
      paranoid,
      record,
    });
  }

  /**
   * Takes a copy of the inputs of one run and begins to bring them to the device, while it may still be busy with runs that
   * were started before.
   */
  upload(feed: Feed): Upload {
    return new Upload(this.loaded().upload(this.collect(feed)));
  }

  /**
   * Runs the plan. `feed` holds every input by name: a typed array of its dtype and size, or a number for a
   * scalar; or it is what `upload` made of those, for one run. Resolves to the outputs by name, scalars being arrays of one element.
   *
   * @throws {NotFiniteError} when an output of a plan with updates is not finite; no state has changed then.
   */
  async run(feed: Feed | Upload = {}, options: RunOptions = {}): Promise<Record<Names, TypedArray>> {
    return this.unpack(await this.submit(feed, options, (native, inputs) => native.start(inputs)));
  }

  /**
   * Milliseconds of each of `runs` executions of all steps, updates included, without the copies of inputs and outputs
   * that `run` makes. States change as they would in `run`; nothing checks that they stay finite.
   */
  async time(feed: Feed, runs: number, options: RunOptions = {}): Promise<number[]> {
    return this.submit(feed, options, (native, inputs) => native.time(inputs, runs));
  }

  /** Milliseconds of each step of `runs` runs, as `time` makes them: one list per step, those that are kept left out. */
  async profile(feed: Feed, runs: number, options: RunOptions = {}): Promise<StepTimes[]> {
    const all = await this.submit(feed, options, (native, inputs) => native.profile(inputs, runs));
    const { steps, prologue } = this.layout;
    const timed = steps.slice(prologue);
    return timed.map((step, index) => ({
      step,
      milliseconds: Array.from({ length: runs }, (_, run) => all[run * timed.length + index]),
    }));
  }

  private async submit<T>(
    feed: Feed | Upload,
    { signal }: RunOptions,
    start: (native: NativePlan, inputs: NativeInputs) => Pending<T>,
  ): Promise<T> {
    const native = this.loaded();
    signal?.throwIfAborted();
    const inputs = feed instanceof Upload ? feed.native : this.collect(feed);
    let cancel: (() => void) | undefined;
    try {
      const pending = start(native, inputs);
      cancel = pending.cancel;
      signal?.addEventListener("abort", cancel, { once: true });
      return await pending.promise;
    } catch (error) {
      throw translate(error as Error, this.device, signal);
    } finally {
      if (cancel !== undefined) signal?.removeEventListener("abort", cancel);
    }
  }

  /** `recorded` once runs replay what a GPU was told before, or why their steps are run one by one. */
  get recordingState(): string {
    return this.loaded().recordingState();
  }

  private loaded(): NativePlan {
    if (this.native === undefined) throw new VoxgradError("ERR_DISPOSED", "the plan has been disposed of");
    return this.native;
  }

  /** Gives the arena back; states keep their contents. */
  dispose(): void {
    this.native?.dispose();
    this.native = undefined;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** Steps, shapes, offsets, peak memory and operations, for people. */
  toString(): string {
    return printPlan(this);
  }

  private collect(feed: Feed): TypedArray[] {
    for (const name of Object.keys(feed))
      if (!this.graph.inputs.has(name))
        throw new ShapeError(
          `the plan has no input "${name}"; it has ${[...this.graph.inputs.keys()].join(", ")}`,
        );
    return [...this.graph.inputs].map(([name, type]) => {
      const given = feed[name];
      const Array = arrayOf[type.dtype];
      const data = typeof given === "number" ? Array.of(given) : given;
      if (!(data instanceof Array) || data.length !== elements(type.shape)) {
        const found = data === undefined ? "nothing" : `${data.constructor.name} of ${data.length}`;
        throw new ShapeError(`plan input "${name}": expected ${formatType(type)}, found ${found}`);
      }
      return data;
    });
  }

  private unpack(buffers: readonly ArrayBuffer[]): Record<Names, TypedArray> {
    const entries = [...this.graph.outputs].map(
      ([name, type], index) => [name, new arrayOf[type.dtype](buffers[index])] as const,
    );
    return Object.fromEntries(entries) as Record<Names, TypedArray>;
  }

  private explainSize(obstacle: string): string {
    const largest = [...this.layout.arena].sort((a, b) => b.bytes - a.bytes).slice(0, 5);
    const lines = largest.map(
      ({ bytes, type, label }) => `  ${formatMebibytes(bytes)}  ${formatType(type)}  ${label}`,
    );
    return (
      `the plan needs ${formatMebibytes(this.peakBytes)} and ${obstacle}; its largest tensors:\n` +
      `${lines.join("\n")}\nUse a smaller patch, batch or network.`
    );
  }
}

const formatMebibytes = (bytes: number) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;

function translate(error: Error & { code?: string }, device: Device, signal?: AbortSignal): unknown {
  if (error instanceof VoxgradError) return error;
  if (error.code === "ERR_ABORTED" && signal?.aborted === true) return signal.reason;
  if (error.code === "ERR_NOT_FINITE")
    return new NotFiniteError(
      error.message,
      `a result is not finite; the first bad tensor is ${error.message}`,
    );
  if (error.code === undefined) return error;
  if (error.code === "ERR_DEVICE") return deviceError(device, error);
  if (error.code === "ERR_OUT_OF_MEMORY") return new OutOfMemoryError(error.message, { cause: error });
  return new VoxgradError(error.code, error.message, { cause: error });
}
