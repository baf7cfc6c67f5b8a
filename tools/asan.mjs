// Builds the addon, and the emulation of CUDA, with AddressSanitizer and UndefinedBehaviorSanitizer into build-asan/ and runs
// tests on them: those whose path holds one of the arguments, or the ops and the runtime. Linux with GCC.
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, symlinkSync } from "node:fs";
import { availableParallelism } from "node:os";
import { isAbsolute, join } from "node:path";

const root = join(import.meta.dirname, "..");
const folder = join(root, "build-asan");
const filters = process.argv.length > 2 ? process.argv.slice(2) : ["test/ops", "test/runtime"];

function run(command, args, options) {
  const { status } = spawnSync(command, args, { stdio: "inherit", ...options });
  if (status !== 0) process.exit(status ?? 1);
}

// The sanitizers' run-time libraries must be in the process before any other code, so node starts with them.
const compiler = process.env.CXX ?? "g++";
const libraries = ["libasan.so", "libubsan.so"].map((name) =>
  execFileSync(compiler, [`-print-file-name=${name}`], { encoding: "utf8" }).trim(),
);
if (!libraries.every(isAbsolute)) {
  console.error(
    `${compiler} has no ${libraries.find((name) => !isAbsolute(name))}: install GCC's sanitizer libraries`,
  );
  process.exit(1);
}

// node-gyp builds into ./build of the folder it works in; a folder of links keeps the ordinary build as it is.
mkdirSync(folder, { recursive: true });
for (const name of ["binding.gyp", "package.json", "native", "tools"])
  if (!existsSync(join(folder, name))) symlinkSync(join("..", name), join(folder, name));
run(process.execPath, [join(root, "tools/build-native.mjs"), folder, "-Dsanitize=true"]);

const emulator = join(folder, "emulator");
const options = ["-DVOXGRAD_EMULATOR=ON", "-DVOXGRAD_SANITIZE=ON"];
run("cmake", ["-S", join(root, "native/cuda"), "-B", emulator, ...options]);
run("cmake", ["--build", emulator, "--parallel", String(availableParallelism())]);

run(process.execPath, ["--import", "tsx", join(root, "test/run.ts"), ...filters], {
  cwd: root,
  env: {
    ...process.env,
    VOXGRAD_ADDON: join(folder, "build/Release/voxgrad.node"),
    VOXGRAD_EMULATOR: join(emulator, "voxgrad_emulator.so"),
    LD_PRELOAD: libraries.join(":"),
    // Node leaks on purpose at exit and has symbols twice. Tests ask for impossible sizes: those must fail, not abort.
    // Emulated threads have stacks of their own.
    ASAN_OPTIONS:
      "detect_leaks=0:detect_stack_use_after_return=0:detect_odr_violation=0:strict_init_order=1:allocator_may_return_null=1",
    UBSAN_OPTIONS: "print_stacktrace=1",
  },
});
