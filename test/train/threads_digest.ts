/** Trains the ten steps of the trajectory and prints a digest of the final weights. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { tinyConfig, tinyRun } from "./fixtures.ts";

const run = await tinyRun(process.argv[2], "sdnet", tinyConfig());
process.stdout.write(
  createHash("sha256")
    .update(readFileSync(run.file("last.safetensors")))
    .digest("hex"),
);
