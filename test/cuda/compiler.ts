/** The C++ compiler of tests that build something of their own. */
import { spawnSync } from "node:child_process";

export const compiler = process.env.CXX ?? "g++";

/** Why those tests cannot be had; undefined where there is a compiler. */
export const noCompiler =
  spawnSync(compiler, ["--version"]).status === 0 ? undefined : `there is no ${compiler}`;
