import { type ChildProcess, execFile, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { z } from "zod";
import { nearest, UsageError, VoxgradError } from "../errors.ts";
import type { ProcessMemory } from "./memory.ts";
import type { Contender } from "./turns.ts";

/** The folder of lists and of the peers' programs: part of the package, beside lib/ or dist/. */
export const benchFolder = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "bench");

const greeting = z.object({ name: z.string(), version: z.string(), threads: z.number() });
const reply = z.union([
  z.object({
    times: z.record(z.string(), z.array(z.number().positive())),
    memory: z.object({ idle: z.number(), peak: z.number() }).optional(),
  }),
  z.object({ unsupported: z.string() }),
  z.object({ error: z.string() }),
]);

/** How a peer's process is started. */
interface Launch {
  /** What rows call it. */
  readonly label: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/** Where everyone runs. */
export interface Host {
  /** `cpu` or `cuda`; peers find it in `VOXGRAD_DEVICE`. */
  readonly device: string;
  /** `f32`, `tf32` or `bf16`; peers find it in `VOXGRAD_PRECISION`. */
  readonly precision: string;
  readonly threads: number;
}

/** A program to compare with. */
export interface PeerKind {
  readonly name: string;
  readonly install: string;
  readonly modes: readonly string[];
  readonly devices: readonly string[];
  /** Candidates in the order in which they are tried; of each label the first that starts is taken. */
  launches(workshop: Workshop, signal: AbortSignal, host: Host): Promise<readonly Launch[]>;
}

/** A folder for what is compiled, made when it is first needed and gone at the end. */
class Workshop implements Disposable {
  private path: string | undefined;

  get folder(): string {
    this.path ??= mkdtempSync(join(tmpdir(), "voxgrad-bench-"));
    return this.path;
  }

  [Symbol.dispose](): void {
    if (this.path !== undefined) rmSync(this.path, { recursive: true, force: true });
  }
}

function program(name: string): string {
  const path = join(benchFolder, "peers", name);
  if (!existsSync(path)) throw new VoxgradError("ERR_BENCH", `${path} is not there`);
  return path;
}

/** Keeps freed memory instead of returning it to the system, which otherwise hands every large tensor out anew, page by page. */
const keepMemory = {
  MALLOC_MMAP_MAX_: "0",
  MALLOC_TRIM_THRESHOLD_: String(2 ** 35),
  MALLOC_TOP_PAD_: String(2 ** 29),
};

const torch: PeerKind = {
  name: "torch",
  install: "apt-get install python3-torch (Debian), or pip install torch",
  modes: ["conv", "aspp", "loss", "step", "memory"],
  devices: ["cpu", "cuda"],
  launches(_workshop, _signal, { device }) {
    const args = [program("torch_peer.py")];
    const pythons = ["python3", "/usr/bin/python3"];
    const plain = pythons.map((command) => ({ label: "torch", command, args }));
    const tuned = pythons.map((command) => ({ label: "torch tuned", command, args, env: keepMemory }));
    return Promise.resolve(device === "cpu" ? [...plain, ...tuned] : plain);
  },
};

const onednn: PeerKind = {
  name: "onednn",
  install: "apt-get install libdnnl-dev g++ (Debian)",
  modes: ["conv", "aspp"],
  devices: ["cpu"],
  async launches(workshop, signal) {
    const command = join(workshop.folder, "onednn_peer");
    const compiler = process.env.CXX ?? "g++";
    const args = ["-std=c++17", "-O2", "-fopenmp", program("onednn_peer.cc"), "-o", command, "-ldnnl"];
    try {
      await promisify(execFile)(compiler, args, { signal });
    } catch (error) {
      signal.throwIfAborted();
      const text = (error as Error & { stderr?: string }).stderr ?? "";
      const line = text.split("\n").find((each) => each.includes("error")) ?? (error as Error).message;
      throw new VoxgradError("ERR_BENCH", `it does not compile: ${line.trim()}`, { cause: error });
    }
    return [{ label: "onednn", command, args: [] }];
  },
};

const onnxruntime: PeerKind = {
  name: "onnxruntime",
  install: "npm install onnxruntime-node onnx-proto",
  modes: ["conv", "aspp"],
  devices: ["cpu"],
  launches: () =>
    Promise.resolve([
      { label: "onnxruntime", command: process.execPath, args: [program("onnxruntime_peer.mjs")] },
    ]),
};

const known: readonly PeerKind[] = [torch, onednn, onnxruntime];

/** A kind for any program that speaks the protocol of bench/README.md. */
function custom(name: string, command: string): PeerKind {
  const [first, ...args] = command.split(" ").filter((word) => word !== "");
  return {
    name,
    install: "see whether the command starts",
    modes: ["conv", "aspp", "loss", "step", "memory"],
    devices: ["cpu", "cuda"],
    launches: () => Promise.resolve([{ label: name, command: first, args }]),
  };
}

/**
 * Reads `torch,onednn,onnxruntime`, where `NAME=COMMAND` stands for any other program.
 *
 * @throws {UsageError} for a name that is not known.
 */
export function parsePeers(text: string): PeerKind[] {
  const kinds = text.split(",").map((word) => {
    const [, name, command] = /^([\w-]+)=(.*\S.*)$/.exec(word) ?? [];
    if (name !== undefined) return custom(name, command);
    const kind = known.find((each) => each.name === word.trim());
    if (kind !== undefined) return kind;
    const names = known.map((each) => each.name);
    const hint = nearest(word, names);
    throw new UsageError(
      `--peers: there is no peer '${word}'${hint === undefined ? "" : `, did you mean ${hint}?`}; there are ${names.join(", ")}, and NAME=COMMAND for a program of yours`,
    );
  });
  const twice = kinds.find(({ name }, index) => kinds.findIndex((other) => other.name === name) < index);
  if (twice !== undefined) throw new UsageError(`--peers: ${twice.name} is named twice`);
  return kinds;
}

/** A request without the seconds that it may take. */
export type Task = Readonly<Record<string, unknown>> & { readonly mode: string };

/** A running peer: one process that answers one request at a time, a line of JSON each. */
export class Peer implements Disposable {
  readonly label: string;
  version = "";
  threads = 0;
  private readonly child: ChildProcess;
  private readonly waiting: { resolve: (line: string) => void; reject: (error: Error) => void }[] = [];
  private errors = "";
  private ended: Error | undefined;

  private constructor(
    { label, command, args, env }: Launch,
    { device, precision, threads }: Host,
    signal: AbortSignal,
  ) {
    this.label = label;
    this.child = spawn(command, [...args, "--threads", String(threads)], {
      stdio: ["pipe", "pipe", "pipe"],
      env: {
        ...process.env,
        OMP_NUM_THREADS: String(threads),
        VOXGRAD_DEVICE: device,
        VOXGRAD_PRECISION: precision,
        ...env,
      },
      signal,
    });
    const { stdin, stdout, stderr } = this.child;
    if (stdin === null || stdout === null || stderr === null) throw new Error("a pipe is missing");
    stdin.on("error", () => undefined);
    stderr.on("data", (chunk) => (this.errors = (this.errors + String(chunk)).slice(-2000)));
    createInterface({ input: stdout }).on("line", (line) => this.waiting.shift()?.resolve(line));
    this.child.once("error", (error) => this.end(error.message));
    this.child.once("close", (status, killer) => this.end(`ended with ${killer ?? `status ${status}`}`));
  }

  /** Starts a process and waits for its greeting. */
  static async start(launch: Launch, host: Host, signal: AbortSignal): Promise<Peer> {
    const peer = new Peer(launch, host, signal);
    try {
      const hello = greeting.parse(JSON.parse(await peer.line()));
      peer.version = `${hello.name} ${hello.version}`;
      peer.threads = hello.threads;
      return peer;
    } catch (error) {
      peer[Symbol.dispose]();
      throw error;
    }
  }

  /** Milliseconds by variant, and memory where the peer says it. Throws with the peer's reason when it cannot. */
  async ask(
    task: Task,
    seconds: number,
  ): Promise<{ times: Record<string, number[]>; memory?: ProcessMemory | undefined }> {
    const answer = this.line();
    this.child.stdin?.write(`${JSON.stringify({ ...task, seconds })}\n`);
    const line = await answer;
    const result = reply.safeParse(safeJson(line));
    if (!result.success)
      throw new VoxgradError("ERR_BENCH", `${this.label} answered something else: ${line.slice(0, 200)}`);
    if ("times" in result.data) return result.data;
    const reason = "error" in result.data ? result.data.error : result.data.unsupported;
    throw new VoxgradError("ERR_BENCH", reason);
  }

  /** This peer as a contender for one task. */
  contender(task: Task): Contender {
    return { name: this.label, time: async (seconds) => (await this.ask(task, seconds)).times };
  }

  [Symbol.dispose](): void {
    this.child.kill();
  }

  private line(): Promise<string> {
    if (this.ended !== undefined) return Promise.reject(this.ended);
    return new Promise((resolve, reject) => this.waiting.push({ resolve, reject }));
  }

  private end(why: string): void {
    const last = this.errors.trim().split("\n").pop() ?? "";
    this.ended ??= new VoxgradError("ERR_BENCH", last === "" ? why : `${why}: ${last}`);
    for (const { reject } of this.waiting.splice(0)) reject(this.ended);
  }
}

function safeJson(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

/** The peers that could be started, and a sentence for each that could not. */
export class Peers implements Disposable {
  readonly running: Peer[] = [];
  readonly absent: string[] = [];
  private readonly workshop = new Workshop();

  /** Starts every kind that has something to say in `mode`. */
  static async start(
    kinds: readonly PeerKind[],
    mode: string,
    host: Host,
    signal: AbortSignal,
    onStart: (name: string) => void = () => undefined,
  ): Promise<Peers> {
    const peers = new Peers();
    for (const kind of kinds) {
      if (!kind.modes.includes(mode)) {
        peers.absent.push(`${kind.name} is left out: it has no part in ${mode}`);
        continue;
      }
      if (!kind.devices.includes(host.device)) {
        peers.absent.push(`${kind.name} is left out: it does not run on ${host.device}`);
        continue;
      }
      onStart(kind.name);
      try {
        await peers.startKind(kind, host, signal);
      } catch (error) {
        signal.throwIfAborted();
        peers.absent.push(
          `${kind.name} is left out (${(error as Error).message}); to install it: ${kind.install}`,
        );
      }
    }
    return peers;
  }

  [Symbol.dispose](): void {
    for (const peer of this.running) peer[Symbol.dispose]();
    this.workshop[Symbol.dispose]();
  }

  private async startKind(kind: PeerKind, host: Host, signal: AbortSignal): Promise<void> {
    const reasons = new Map<string, string>();
    for (const launch of await kind.launches(this.workshop, signal, host)) {
      if (this.running.some(({ label }) => label === launch.label)) continue;
      try {
        this.running.push(await Peer.start(launch, host, signal));
        reasons.delete(launch.label);
      } catch (error) {
        signal.throwIfAborted();
        reasons.set(launch.label, (error as Error).message);
      }
    }
    for (const reason of reasons.values()) throw new VoxgradError("ERR_BENCH", reason);
  }
}
