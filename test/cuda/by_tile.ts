/** What programs print that compute the same by every tile: conv_by_tile.ts and aspp_by_tile.ts. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import * as assert from "uvu/assert";

export interface Results {
  readonly rows: readonly { what: string; algorithms: string[]; errors: Record<string, number> }[];
  readonly launches: Readonly<Record<string, number>>;
}

/** If the device is the emulator, of one without products of warpgroups, which have tests of their own. */
export async function resultsOf(fixture: string, precision: string, device: string): Promise<Results> {
  const argv = ["--import", "tsx", join(import.meta.dirname, fixture), precision, device];
  const { stdout } = await promisify(execFile)(process.execPath, argv, {
    cwd: join(import.meta.dirname, "..", ".."),
    env: { ...process.env, VOXGRAD_EMULATOR_CAPABILITY: "8" },
  });
  return JSON.parse(stdout) as Results;
}

/** Errors are below what `most` says for the tensor of that name, and of some at least `least`, as what is rounded must have. */
export function expectErrors({ rows }: Results, most: (name: string) => number, least: number): void {
  let largest = 0;
  for (const { what, errors } of rows)
    for (const [name, error] of Object.entries(errors)) {
      assert.ok(error < most(name), `${name} of ${what} is off by ${error}`);
      largest = Math.max(largest, error);
    }
  assert.ok(largest >= least, `errors up to ${largest} look like a closer precision`);
}
