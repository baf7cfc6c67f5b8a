// Tells binding.gyp whether the C++ runtime can be linked into the addon (`true`), so that it runs on machines with an
// older one; some distributions do not install the static library with the compiler.
import { spawnSync } from "node:child_process";
import { isAbsolute } from "node:path";

const [compiler, ...flags] = (process.env.CXX ?? "g++").split(" ").filter((word) => word !== "");
const { stdout } = spawnSync(compiler, [...flags, "-print-file-name=libstdc++.a"], { encoding: "utf8" });
console.log(process.platform === "linux" && isAbsolute((stdout ?? "").trim()));
