/** Runs commands in this process, on cohorts and networks so small that a run takes about a second. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { commands } from "../../lib/cli/commands/index.ts";
import { runCli } from "../../lib/cli/run.ts";
import { writePhantom } from "../../lib/data/index.ts";

export interface Outcome {
  status: number;
  out: string;
  err: string;
}

/** Runs one command line; `stopAt`, Ctrl-C is pressed when the output first contains it. */
export async function voxgrad(argv: readonly string[], stopAt?: string): Promise<Outcome> {
  const controller = new AbortController();
  const outcome: Outcome = { status: -1, out: "", err: "" };
  const stdout = {
    write: (text: string) => {
      outcome.out += text;
      if (stopAt !== undefined && outcome.out.includes(stopAt)) controller.abort();
    },
  };
  const stderr = { write: (text: string) => (outcome.err += text) };
  outcome.status = await runCli(commands, argv, {
    stdout,
    stderr,
    signal: controller.signal,
    version: "1.2.3",
  });
  return outcome;
}

/** A folder that is gone when the process ends. */
export function scratch(): string {
  const folder = mkdtempSync(join(tmpdir(), "voxgrad-cli-"));
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Four cases of 20 x 18 x 16 voxels, two of them labelled, and two test cases; 2 classes. */
export async function makeCohort(folder: string): Promise<string> {
  await writePhantom(folder, { cases: 4, labeled: 2, test: 2, size: [20, 18, 16], seed: 3 });
  return folder;
}

/** Settings of the smallest run there is. */
export const tiny = ["--set", "patch=16x16x16", "--set", "baseChannels=2", "--set", "checkpointEvery=2"];
