import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { DataError } from "../../lib/errors.ts";
import { lockFile } from "../../lib/train/run_lock.ts";
import { scratch } from "../cli/harness.ts";

const root = scratch();

test("a lock is held once, names its process, and is gone when it is let go", async () => {
  const path = join(root, "held.json");
  const unlock = await lockFile(path);
  assert.equal(JSON.parse(readFileSync(path, "utf8")), { process: process.pid, host: hostname() });
  let refusal: unknown;
  await lockFile(path).catch((error) => {
    refusal = error;
  });
  assert.instance(refusal, DataError);
  await unlock();
  assert.not(existsSync(path));
  await (await lockFile(path))();
});

test("a lock that a crashed process left is taken over, though this one has its number", async () => {
  const path = join(root, "left.json");
  writeFileSync(path, JSON.stringify({ process: process.pid, host: hostname() }));
  const unlock = await lockFile(path);
  await unlock();
  assert.not(existsSync(path));
});

test.run();
