/** Divisions by a number known at launch, over 31 bits and beyond them, where no op could be tested. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { compiler, noCompiler } from "./compiler.ts";

const folder = mkdtempSync(join(tmpdir(), "voxgrad-index-"));

test(`quotients and remainders are those of a division${noCompiler === undefined ? "" : `; skipped: ${noCompiler}`}`, () => {
  if (noCompiler !== undefined) return;
  const program = join(folder, "index");
  const source = join(import.meta.dirname, "index.cu");
  execFileSync(compiler, ["-std=c++17", "-O1", "-o", program, "-xc++", source]);
  assert.is(execFileSync(program, { encoding: "utf8" }), "0 wrong\n");
});

test.after(() => rmSync(folder, { recursive: true, force: true }));
test.run();
