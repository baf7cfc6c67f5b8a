// Compiles the kernels for 64-bit ARM, where they all take the portable path, and runs the native tests there under
// an emulator of the processor. Debian: apt-get install g++-aarch64-linux-gnu qemu-user-static.
import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync } from "node:fs";
import { availableParallelism } from "node:os";
import { basename, dirname, join } from "node:path";

const root = join(import.meta.dirname, "..");
const folder = join(root, "build-arm64");
const compiler = process.env.CXX_ARM64 ?? "aarch64-linux-gnu-g++";
const emulator = process.env.QEMU_ARM64 ?? "qemu-aarch64-static";
const flags = [
  "-std=c++17",
  "-O2",
  "-Wall",
  "-Wextra",
  "-Wno-unused-parameter",
  "-Werror",
  "-ffp-contract=fast",
];

function run(command, args, env = {}) {
  const { status, error } = spawnSync(command, args, {
    cwd: root,
    stdio: "inherit",
    env: { ...process.env, ...env },
  });
  if (error?.code === "ENOENT") {
    console.error(
      `${command} is not installed (Debian: apt-get install g++-aarch64-linux-gnu qemu-user-static)`,
    );
    process.exit(1);
  }
  if (status !== 0) process.exit(status ?? 1);
}

mkdirSync(folder, { recursive: true });
const sources = ["core", "cpu"].flatMap((room) =>
  readdirSync(join(root, "native", room))
    .filter((file) => file.endsWith(".cc"))
    .map((file) => join("native", room, file)),
);
const objects = sources.map((source) =>
  join(folder, `${basename(dirname(source))}_${basename(source, ".cc")}.o`),
);
const rules = sources.map((source, index) => {
  const isa = source.endsWith("_kernels.cc") ? " -DVOXGRAD_ISA_NAME=portable" : "";
  return `${objects[index]}: ; ${compiler} ${flags.join(" ")}${isa} -c ${source} -o $@`;
});
const tests = ["conv3d_test", "thread_pool_test", "task_shares_test"];
const programs = tests.map((test) => join(folder, test));
const links = tests.map(
  (test, index) =>
    `${programs[index]}: ${objects.join(" ")} ; ` +
    `${compiler} ${flags.join(" ")} -static -pthread test/native/${test}.cc ${objects.join(" ")} -o $@`,
);
const makefile = [...links, ...rules].join("\n");
run("make", ["-B", "-s", `-j${availableParallelism()}`, `--eval=${makefile}`, ...programs]);
console.log(`${sources.length} sources compile for 64-bit ARM`);
for (const program of programs) run(emulator, [program], { VOXGRAD_THREADS: "2" });
