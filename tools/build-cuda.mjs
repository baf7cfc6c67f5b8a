// Builds a library that the addon opens at run time: build-cuda.mjs WHAT [CMake option...].
//   cuda      the CUDA backend; needs the CUDA toolkit
//   emulator  the same kernels for the processor; needs a C++ compiler
//   install   `cuda` where nvcc and an NVIDIA driver are found, nothing elsewhere
//   check     compiles `cuda` for one architecture where nvcc is found; warnings and spilled registers are errors
// All need CMake.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";

const root = join(import.meta.dirname, "..");
const [what, ...options] = process.argv.slice(2);

function fail(message) {
  console.error(message);
  process.exit(1);
}

const answers = (command) => spawnSync(command, ["--version"], { stdio: "ignore" }).status === 0;
const nvcc = answers("nvcc");

if (!["cuda", "emulator", "install", "check"].includes(what))
  fail(`build-cuda.mjs: expected cuda, emulator, install or check, found ${what}`);
if (what === "install" && !(nvcc && existsSync("/proc/driver/nvidia/version"))) process.exit(0);
if (what === "check" && !nvcc) {
  console.log("the CUDA kernels were not compiled: there is no nvcc");
  process.exit(0);
}
if (what !== "emulator" && !nvcc)
  fail("nvcc is not on the PATH: install NVIDIA's CUDA toolkit, or add the folder of its nvcc to PATH");
if (!answers("cmake")) fail("CMake is needed to build this; install it with the system's package manager");

if (what === "emulator") options.unshift("-DVOXGRAD_EMULATOR=ON");
if (what === "check") options.unshift("-DVOXGRAD_STRICT=ON", "-DVOXGRAD_CUDA_ARCHITECTURES=90a-real");
const folder = join(root, "build", { emulator: "emulator", check: "cuda-check" }[what] ?? "cuda");
for (const args of [
  ["-S", join(root, "native/cuda"), "-B", folder, ...options],
  ["--build", folder, "--parallel", String(availableParallelism())],
]) {
  const { status } = spawnSync("cmake", args, { stdio: "inherit" });
  if (status !== 0) process.exit(status ?? 1);
}
