import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { makeFolder } from "../../lib/data/folder.ts";
import { DataError } from "../../lib/errors.ts";

const root = mkdtempSync(join(tmpdir(), "voxgrad-folder-"));
process.on("exit", () => rmSync(root, { recursive: true, force: true }));

test("a folder is made with those above it, and again without harm", async () => {
  const path = join(root, "a", "b", "c");
  for (let time = 0; time < 2; time++) await makeFolder(path);
  await Promise.all([makeFolder(join(root, "x", "y", "1")), makeFolder(join(root, "x", "y", "2"))]);
  for (const each of [path, join(root, "x", "y", "1"), join(root, "x", "y", "2")])
    assert.ok(statSync(each).isDirectory(), each);
});

test("a folder under a file is refused by name", async () => {
  const file = join(root, "file");
  writeFileSync(file, "");
  for (const path of [file, join(file, "a", "b")])
    try {
      await makeFolder(path);
      assert.unreachable();
    } catch (error) {
      assert.instance(error, DataError);
      assert.ok((error as Error).message.startsWith(`${path}: this folder cannot be made: E`), String(error));
    }
});

// In a process of its own, which is ended where it tries for ever.
test("a folder where none can be made is refused at once", () => {
  if (!existsSync("/proc/self")) return;
  const module = JSON.stringify(join(import.meta.dirname, "..", "..", "lib", "train", "case_store.ts"));
  const script = `import(${module}).then(({ CaseStore }) => CaseStore.open("/proc/voxgrad/cases", {})).catch(({ code, message }) => console.log(code, message))`;
  const { stdout, signal } = spawnSync(process.execPath, ["--import", "tsx", "-e", script], {
    encoding: "utf8",
    timeout: 20_000,
    killSignal: "SIGKILL",
  });
  assert.is(signal, null);
  assert.match(
    stdout,
    /^ERR_USAGE setting "cacheFolder": \/proc\/voxgrad\/cases: this folder cannot be made: ENOENT/,
  );
});

test.run();
