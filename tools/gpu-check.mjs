// What a first session on a GPU is for, in one command: gpu-check.mjs [--minutes N] [FOLDER [PART...]].
// Each part has a time limit, and leaves FOLDER/PART.log beside the figures that it measures; one that fails does not keep the
// next from running. FOLDER/summary.txt says how each ended. Without parts, all of them, which take 30 minutes at most.
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  appendFileSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join, resolve } from "node:path";

const root = join(import.meta.dirname, "..");
const [minutes, folder, chosen] = parse(process.argv.slice(2));

const program = (...args) => [process.execPath, "--import", "tsx", ...args];
const voxgrad = (...args) => program("lib/cli/main.ts", ...args);
const tests = (...filters) => program("test/run.ts", ...filters);
const bench = (mode, precision, name, ...more) =>
  voxgrad(
    ...["bench", mode, "--device", "cuda", "--precision", precision, "--json", join(folder, `${name}.json`)],
    ...["--min-time", "0.3", ...more],
  );
const sanitizer = (tool, ...command) => [
  existsSync("/usr/local/cuda/bin/compute-sanitizer")
    ? "/usr/local/cuda/bin/compute-sanitizer"
    : "compute-sanitizer",
  ...[
    "--tool",
    tool,
    "--target-processes",
    "all",
    "--error-exitcode",
    "9",
    "--print-limit",
    "30",
    ...command,
  ],
];
const kernels = ["aspp", "averages", "bf16", "conv", "every_op", "recording", "segmentation", "sgd_packed"];
const cohort = join(folder, "cohort");
const trained = (number) => join(folder, `run-${number}`);
const train = (number) =>
  voxgrad(
    ...["train", "sdnet", "--data", cohort, "--out", trained(number), "--device", "cuda", "--steps", "20"],
    ...["--precision", "bf16", "--set", "patch=48x48x32", "--set", "baseChannels=8"],
  );

/** Name, seconds at most, commands one after the other; what has to be done behind them. */
const parts = [
  ["machine", 60, [["nvidia-smi"], voxgrad("doctor")]],
  ["ops", 180, [tests("cuda/op_tests")]],
  ["kernels", 240, [tests(...kernels.map((name) => `cuda/${name}`))]],
  ["training", 90, [tests("cuda/trajectory")]],
  [
    "repeat",
    90,
    [
      voxgrad("phantom", "--out", cohort, "--cases", "4", "--labeled", "2", "--test", "0"),
      train(1),
      train(2),
    ],
    compareRuns,
  ],
  ["step-bf16", 150, [bench("step", "bf16", "step-bf16", "--peers", "torch")]],
  ["step-f32", 120, [bench("step", "f32", "step-f32", "--peers", "torch")]],
  ["conv-bf16", 150, [bench("conv", "bf16", "conv-bf16", "--peers", "torch")]],
  ["memcheck", 180, [sanitizer("memcheck", ...tests("cuda/every_op", "cuda/conv_", "cuda/segm"))]],
  ["racecheck", 150, [sanitizer("racecheck", ...tests("cuda/every_op", "cuda/conv_warp", "cuda/segm"))]],
  ["conv-tf32", 120, [bench("conv", "tf32", "conv-tf32", "--peers", "torch")]],
  ["aspp", 60, [bench("aspp", "bf16", "aspp", "--peers", "torch")]],
  ["loss", 60, [bench("loss", "f32", "loss", "--peers", "torch")]],
  ["profile", 30, [bench("profile", "bf16", "profile", "--filter", "vnet_96")]],
  ["tuned", 120, [bench("step", "bf16", "tuned")]],
];

function parse(args) {
  const at = args.indexOf("--minutes");
  const minutes = at < 0 ? 30 : Number(args.splice(at, 2)[1]);
  const [folder = "gpu-check", ...chosen] = args;
  if (!(minutes > 0) || folder.startsWith("-")) fail("gpu-check: expected [--minutes N] [FOLDER [PART...]]");
  return [minutes, resolve(folder), chosen];
}

function fail(message) {
  console.error(message);
  process.exit(2);
}

/** Weights of two runs alike are to be the same to the last bit. */
function compareRuns(log) {
  const [first, second] = [1, 2].map((number) =>
    createHash("sha256")
      .update(readFileSync(join(trained(number), "last.safetensors")))
      .digest("hex"),
  );
  appendFileSync(log, `weights of both runs: ${first} and ${second}\n`);
  for (const each of [cohort, trained(1), trained(2)]) rmSync(each, { recursive: true, force: true });
  return first === second ? "ok" : "the second run ends with other weights than the first";
}

/** PyTorch's cuDNN, where python3 has it and nobody names another one. */
function findCudnn() {
  const text = "import nvidia.cudnn; print(list(nvidia.cudnn.__path__)[0])";
  const { stdout } = spawnSync("python3", ["-c", text], { encoding: "utf8" });
  return stdout ? { VOXGRAD_CUDNN: join(stdout.trim(), "lib") } : {};
}

/** Runs a command, its output at the end of a file; "ok", or what it ended in. What takes too long is interrupted, then ended. */
function run([command, ...args], env, log, seconds) {
  appendFileSync(log, `$ ${[command, ...args].join(" ")}\n`);
  const output = openSync(log, "a");
  return new Promise((finish) => {
    // In a group of its own: a benchmark starts other processes, and so does a runner of tests.
    const child = spawn(command, args, { cwd: root, env, detached: true, stdio: ["ignore", output, output] });
    const kill = (signal) => {
      try {
        process.kill(-child.pid, signal);
      } catch {
        // It has ended meanwhile.
      }
    };
    let late = false;
    const end = setTimeout(() => {
      late = true;
      kill("SIGINT");
    }, seconds * 1000);
    const killing = setTimeout(() => kill("SIGKILL"), (seconds + 10) * 1000);
    const settle = (result) => {
      clearTimeout(end);
      clearTimeout(killing);
      closeSync(output);
      finish(result);
    };
    child.on("error", ({ code, message }) => settle(code === "ENOENT" ? `there is no ${command}` : message));
    child.on("exit", (status, signal) => {
      kill("SIGKILL");
      if (late) settle(`stopped after ${Math.round(seconds)} s`);
      else settle(status === 0 ? "ok" : `ended with ${signal ?? `status ${status}`}`);
    });
  });
}

const unknown = chosen.filter((name) => parts.every(([each]) => each !== name));
if (unknown.length > 0)
  fail(
    `gpu-check: no part is called ${unknown.join(", ")}; there are ${parts.map(([name]) => name).join(", ")}`,
  );
mkdirSync(folder, { recursive: true });
const common = {
  ...process.env,
  VOXGRAD_TEST_DEVICE: "cuda",
  VOXGRAD_TUNING: join(folder, "tuning.json"),
  ...(process.env.VOXGRAD_CUDNN === undefined && findCudnn()),
};
const deadline = performance.now() + minutes * 60_000;
const summary = join(folder, "summary.txt");
const say = (line) => {
  console.log(line);
  appendFileSync(summary, `${line}\n`);
};
let bad = 0;
for (const [name, limit, commands, behind] of parts) {
  if (chosen.length > 0 && !chosen.includes(name)) continue;
  const log = join(folder, `${name}.log`);
  writeFileSync(log, "");
  const began = performance.now();
  const end = Math.min(deadline, began + limit * 1000);
  const env = name === "tuned" ? { ...common, VOXGRAD_TUNE: "on" } : common;
  const results = [];
  for (const command of commands) {
    const left = (end - performance.now()) / 1000;
    results.push(left > 5 ? await run(command, env, log, left) : "not begun: no time is left");
  }
  if (behind !== undefined && results.every((result) => result === "ok")) results.push(behind(log));
  const wrong = results.filter((result) => result !== "ok");
  if (wrong.length > 0) bad++;
  const seconds = ((performance.now() - began) / 1000).toFixed(0);
  const counted = /^\d+ passed, \d+ failed$/m.exec(readFileSync(log, "utf8"))?.[0];
  const words = [...wrong, ...(counted === undefined ? [] : [counted])].join("; ");
  say(`${wrong.length === 0 ? "ok  " : "FAIL"} ${name.padEnd(10)} ${seconds.padStart(4)} s  ${words}`);
}
say(
  bad === 0
    ? "all parts are well"
    : `${bad} ${bad === 1 ? "part" : "parts"} failed; the logs in ${folder} say why`,
);
process.exitCode = bad === 0 ? 0 : 1;
