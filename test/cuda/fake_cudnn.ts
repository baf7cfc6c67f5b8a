import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { compiler } from "./compiler.ts";

export function buildLibrary(source: string, library: string): void {
  const flags = ["-std=c++17", "-O2", "-shared", "-fPIC", "-o", library, source];
  execFileSync(compiler, flags, { stdio: "pipe" });
}

/** Makes a library that stands for cuDNN; fake_cudnn.cc says what it does. */
export const buildFakeCudnn = (library: string) =>
  buildLibrary(join(import.meta.dirname, "fake_cudnn.cc"), library);
