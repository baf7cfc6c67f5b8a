import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { DeviceError } from "../errors.ts";

/** The addon's surface. */
export interface Native {
  /** The device whose backend lies in the library at `path`, or the CPU; throws when it cannot be used. */
  open(path?: string): NativeDevice;
  /** Blocks of device memory alive in the process, and their bytes. */
  memory(): { blocks: number; bytes: number };
  /** Threads that CPU kernels run on. */
  threads(): number;
  /** Instruction set in use: `amx` (AVX-512 and the matrix unit), `avx512`, `avx2` or `portable`. */
  isa(): string;
}

/** A device. Typed arrays are copied at the call; every Promise settles on the thread that made it. */
export interface NativeDevice {
  readonly name: string;
  readonly Buffer: new (bytes: number) => NativeBuffer;
  readonly Plan: new (spec: PlanSpec) => NativePlan;
  /** Names of its kernels. */
  kernels(): string[];
  /** Bytes of workspace that a step needs; throws when its kernel refuses it. */
  workspace(step: StepSpec): number;
  /** Length of what a step that packs weights yields, whatever its output says; throws as `workspace` does. */
  packedWeights(step: StepSpec): number;
  /** The algorithm that a step's kernel chose, empty where it knows but one; throws as `workspace` does. */
  algorithm(step: StepSpec): string;
  /**
   * The names of the ways that a step's kernel may be told to take, by the number of one as attribute `way`; it takes the first
   * otherwise. Empty where it cannot be told. Throws as `workspace` does.
   */
  ways(step: StepSpec): string[];
  /** Whether a step's kernel could normalise its first input as it loads it; throws as `workspace` does. */
  normalizes(step: StepSpec): boolean;
  /** Whether it could sum the moments of its output as it stores it; throws as `workspace` does. */
  sums(step: StepSpec): boolean;
  /** One line for people. */
  describe(): string;
  /** Bytes free on the device; 0 where that is the machine's own memory. */
  freeMemory(): number;
  /**
   * Times loops at the machine's limit of the device. `multiplyAdd`: `amount` iterations in registers, work in
   * floating-point operations. `copy` and `stream` (past the caches): `amount` bytes copied, work in bytes read and written.
   */
  peak(kind: "multiplyAdd" | "copy" | "stream", amount: number, runs: number): Pending<PeakTimes>;
  /** How often each function of the device was launched; empty where the device does not count that. */
  launches(): Record<string, number>;
}

export interface NativeBuffer {
  read(): Promise<ArrayBuffer>;
  write(data: ArrayBufferView): Promise<void>;
  dispose(): void;
}

/** Work on the device thread; `cancel` makes the Promise reject with the code `ERR_ABORTED` where that is still possible. */
export interface Pending<T> {
  promise: Promise<T>;
  cancel: () => void;
}

export interface PeakTimes {
  /** What one run does on all threads together. */
  work: number;
  milliseconds: number[];
}

/** The inputs of one run on their way to the device. */
declare const uploaded: unique symbol;
export interface NativeUpload {
  readonly [uploaded]: true;
}

/** Inputs that `upload` took, which serve one run, or that are taken at the call. */
export type NativeInputs = readonly ArrayBufferView[] | NativeUpload;

export interface NativePlan {
  /** Copies the inputs of one run and begins to bring them to the device, whatever that is doing. */
  upload(inputs: readonly ArrayBufferView[]): NativeUpload;
  start(inputs: NativeInputs): Pending<ArrayBuffer[]>;
  /** Milliseconds of each of `runs` executions of all steps, without the copies of inputs and outputs. */
  time(inputs: NativeInputs, runs: number): Pending<number[]>;
  /** Milliseconds of every step behind the prologue: of the first run, then of the second, ... */
  profile(inputs: NativeInputs, runs: number): Pending<number[]>;
  /** `recorded` once runs replay what the device was told before, or why the steps are run one by one. */
  recordingState(): string;
  dispose(): void;
}

/** A tensor of a plan: in the arena, or in the plan's state number `state`. */
export interface TensorSpec {
  dtype: "f32" | "u8" | "i32" | "bf16";
  shape: readonly number[];
  offset: number;
  state?: number;
}

export interface StepSpec {
  kernel: string;
  /** What messages call this step. */
  label: string;
  inputs: TensorSpec[];
  output: TensorSpec;
  attributes: Readonly<Record<string, unknown>>;
  workspaceOffset?: number;
  workspaceBytes?: number;
}

export interface PlanSpec {
  arenaBytes: number;
  states: NativeBuffer[];
  steps: StepSpec[];
  inputs: TensorSpec[];
  outputs: TensorSpec[];
  /** Steps before this one depend on states alone; they run again only after one of those was written. */
  prologue: number;
  /** Steps from here on write states. */
  firstUpdate: number;
  paranoid: boolean;
  /** Whether the second run may record what the device is told, for later ones to replay. */
  record?: boolean;
}

let loaded: Native | undefined;

/** The addon, loaded once. Throws `DeviceError` that says how to build it where it is missing. */
export function native(): Native {
  loaded ??= load();
  return loaded;
}

function load(): Native {
  const root = packageRoot();
  const platform = `${process.platform}-${process.arch}`;
  // Who names a file wants that one: another in its place would be measured or trusted unnoticed.
  const candidates = named("VOXGRAD_ADDON") ?? [
    join(root, "build", "Release", "voxgrad.node"),
    join(root, "prebuilds", platform, "voxgrad.node"),
  ];
  const require = createRequire(import.meta.url);
  const reasons: string[] = [];
  for (const path of candidates) {
    if (!existsSync(path)) {
      reasons.push(`  ${path}: not there`);
      continue;
    }
    try {
      return require(path) as Native;
    } catch (error) {
      reasons.push(`  ${path}: ${(error as Error).message}`);
    }
  }
  throw new DeviceError(
    `the native addon could not be loaded for ${platform}:\n${reasons.join("\n")}\n` +
      (named("VOXGRAD_ADDON")
        ? "VOXGRAD_ADDON names this file; without it the addon of the package is taken"
        : `Build it (needs a C++17 compiler, make and python3): npm --prefix "${root}" run build:native`),
  );
}

/** Where the library of another backend lies: what `VOXGRAD_CUDA` or `VOXGRAD_EMULATOR` names, or the build; undefined when it is not built. */
export function backendLibrary(name: "cuda" | "emulator"): string | undefined {
  const root = packageRoot();
  const file = `voxgrad_${name}.so`;
  const built = [
    join(root, "build", name, file),
    join(root, "prebuilds", `${process.platform}-${process.arch}`, file),
  ];
  return named(`VOXGRAD_${name.toUpperCase()}`)?.[0] ?? built.find((path) => existsSync(path));
}

/** The file that an environment variable names, as the only candidate. */
function named(variable: string): string[] | undefined {
  const path = process.env[variable];
  return path ? [resolve(path)] : undefined;
}

/** The version of this package. */
export function version(): string {
  const text = readFileSync(join(packageRoot(), "package.json"), "utf8");
  return (JSON.parse(text) as { version: string }).version;
}

/** The folder that holds package.json: two levels up from here, in the sources and in the build alike. */
function packageRoot(): string {
  return join(dirname(fileURLToPath(import.meta.url)), "..", "..");
}
