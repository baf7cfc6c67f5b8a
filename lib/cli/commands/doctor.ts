import { arch, availableParallelism, platform, release, totalmem } from "node:os";
import { compile } from "../../compile/compile.ts";
import { State } from "../../graph/state.ts";
import { conv3d } from "../../ops/conv.ts";
import { Random } from "../../random.ts";
import { type Device, openDevice, whyNot } from "../../runtime/device.ts";
import { type Context, defineCommand } from "../arguments.ts";
import { describeCudnnGraphs } from "../cudnn_graphs.ts";
import { paint } from "../style.ts";
import { formatBytes } from "../table.ts";

export const doctor = defineCommand({
  name: "doctor",
  summary: "Say what voxgrad finds on this machine, and test that it computes rightly.",
  usage: "",
  options: {},
  positionals: [],
  notes: [
    "VOXGRAD_THREADS, VOXGRAD_ISA, VOXGRAD_MEMORY (bytes) and VOXGRAD_ADDON (path) override what is found. The status is 1 when something that is needed does not work.",
  ],
  examples: ["voxgrad doctor"],
  async run(_, context) {
    const { stdout, version } = context;
    const checks = [checkNode(), checkDevice("cpu")];
    const reason = whyNot("cuda");
    if (reason === undefined) checks.push(checkDevice("cuda"));
    print(context, "voxgrad", `${version} on ${platform()} ${release()} ${arch()}`);
    print(
      context,
      "threads",
      `${availableParallelism()} available${overriddenBy("VOXGRAD_THREADS")}${overriddenBy("VOXGRAD_ISA")}`,
    );
    print(context, "memory", `${formatBytes(totalmem())} in all${overriddenBy("VOXGRAD_MEMORY")}`);
    for (const { device } of checks.slice(1)) {
      if (device === undefined) continue;
      print(context, "free", `${formatBytes(device.availableMemory())} on ${device.name}`);
      checks.push(await selfTest(device));
      const graphs = describeCudnnGraphs(device);
      if (graphs.length > 0) print(context, "cudnn", `computes, around batch norms:\n${graphs.join("\n")}`);
    }
    if (reason !== undefined) print(context, "cuda", `not used: ${reason.replace(/^device cuda: /, "")}`);
    for (const { name, good, text } of checks) {
      const verdict = good ? paint(stdout, "green", "ok    ") : paint(stdout, "red", "BROKEN");
      print(context, name, `${verdict} ${text}`);
    }
    return checks.every(({ good }) => good) ? 0 : 1;
  },
});

interface Check {
  readonly name: string;
  readonly good: boolean;
  readonly text: string;
  readonly device?: Device;
}

function print({ stdout }: Context, name: string, text: string): void {
  stdout.write(`${name.padEnd(9)} ${text.replaceAll("\n", `\n${" ".repeat(10)}`)}\n`);
}

function overriddenBy(variable: string): string {
  const value = process.env[variable];
  return value === undefined ? "" : `, ${variable}=${value}`;
}

function checkNode(): Check {
  const good = Number(process.versions.node.split(".")[0]) >= 20;
  return { name: "node", good, text: `${process.version}${good ? "" : "; voxgrad needs Node 20 or later"}` };
}

function checkDevice(which: "cpu" | "cuda"): Check {
  const name = which === "cpu" ? "addon" : which;
  try {
    const device = openDevice(which);
    return {
      name,
      good: true,
      text: `${device.describe()}, ${device.native.kernels().length} kernels`,
      device,
    };
  } catch (error) {
    return { name, good: false, text: (error as Error).message };
  }
}

/** One convolution held against a plain loop, then a larger one timed for about a second. */
async function selfTest(device: Device): Promise<Check> {
  const name = device.name === "cpu" ? "self-test" : "cuda test";
  try {
    const { worst, largest } = await compareWithLoop(device);
    if (!(worst <= 1e-4 * largest))
      return {
        name,
        good: false,
        text: `convolution is off by ${worst.toExponential(2)} of ${largest.toFixed(2)}`,
      };
    const rate = await measure(device);
    return {
      name,
      good: true,
      text: `convolution agrees with a plain loop (largest difference ${worst.toExponential(1)}); 3x3x3 over 32 channels: ${rate.toPrecision(3)} GFLOP/s`,
    };
  } catch (error) {
    return { name, good: false, text: (error as Error).message };
  }
}

const EXTENT = 6;
const INPUTS = 5;
const OUTPUTS = 7;

async function compareWithLoop(device: Device): Promise<{ worst: number; largest: number }> {
  const random = new Random(1, 0);
  const normals = (count: number) => Float32Array.from({ length: count }, () => random.normal());
  const image = normals(EXTENT ** 3 * INPUTS);
  const kernel = normals(OUTPUTS * 27 * INPUTS);
  using plan = await compile(
    (graph) => {
      const x = graph.input("x", [1, EXTENT, EXTENT, EXTENT, INPUTS]);
      return { y: conv3d(x, graph.input("w", [OUTPUTS, 3, 3, 3, INPUTS]), { padding: 1 }) };
    },
    { device },
  );
  const { y } = await plan.run({ x: image, w: kernel });
  const expected = convolveByLoop(image, kernel);
  const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const worst = expected.reduce((most, value, i) => Math.max(most, Math.abs(value - y[i])), 0);
  return { worst: y.length === expected.length ? worst : Number.NaN, largest };
}

function convolveByLoop(image: Float32Array, kernel: Float32Array): Float64Array {
  const result = new Float64Array(EXTENT ** 3 * OUTPUTS);
  const inside = (at: number) => at >= 0 && at < EXTENT;
  const range = Array.from({ length: EXTENT }, (_, i) => i);
  for (const z of range)
    for (const y of range)
      for (const x of range) {
        for (let tap = 0; tap < 27; tap++) {
          const [k, j, i] = [
            z + Math.floor(tap / 9) - 1,
            y + (Math.floor(tap / 3) % 3) - 1,
            x + (tap % 3) - 1,
          ];
          if (!inside(k) || !inside(j) || !inside(i)) continue;
          const from = ((k * EXTENT + j) * EXTENT + i) * INPUTS;
          const to = ((z * EXTENT + y) * EXTENT + x) * OUTPUTS;
          for (let o = 0; o < OUTPUTS; o++)
            for (let c = 0; c < INPUTS; c++)
              result[to + o] += image[from + c] * kernel[(o * 27 + tap) * INPUTS + c];
        }
      }
  return result;
}

/** GFLOP/s of a convolution with the shape of a network's inner layers. */
async function measure(device: Device): Promise<number> {
  const image = new Float32Array(32 ** 4).fill(0.5);
  const weight = new State("weight", [32, 3, 3, 3, 32], { initial: 0.01 });
  using plan = await compile(
    (graph) => {
      let x = graph.input("x", [1, 32, 32, 32, 32]);
      for (let layer = 0; layer < 4; layer++) x = conv3d(x, weight, { padding: 1 });
      return { y: x };
    },
    { device },
  );
  await plan.run({ x: image });
  let best = Number.POSITIVE_INFINITY;
  const end = performance.now() + 1000;
  do {
    const began = performance.now();
    await plan.run({ x: image });
    best = Math.min(best, performance.now() - began);
  } while (performance.now() < end);
  return plan.flops / (best * 1e6);
}
