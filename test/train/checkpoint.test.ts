import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { compile } from "../../lib/compile/compile.ts";
import { disposeStates, readState, writeState } from "../../lib/compile/states.ts";
import { DataError, NotFiniteError } from "../../lib/errors.ts";
import { State } from "../../lib/graph/state.ts";
import { readCheckpoint, restore, saveCheckpoint, snapshot } from "../../lib/train/checkpoint.ts";
import { native } from "../../lib/runtime/native.ts";
import { device, temporaryFolder } from "./fixtures.ts";

const folder = temporaryFolder();
const make = () =>
  new Map([
    ["a.weight", new State("weight", [3, 2], { initial: 1.5 })],
    ["a.count", new State("count", [4], { dtype: "u8" })],
  ]);

async function rejection(promise: Promise<unknown>): Promise<Error> {
  try {
    await promise;
  } catch (error) {
    return error as Error;
  }
  return assert.unreachable() as never;
}

test("what is saved is what is restored, metadata included", async () => {
  const states = make();
  await writeState(device, states.get("a.count") as State, Uint8Array.of(1, 2, 3, 255));
  const path = join(folder, "a.safetensors");
  await saveCheckpoint(path, await snapshot(device, states, { step: "7" }));
  const other = make();
  const file = await readCheckpoint(path);
  await restore(device, other, file, path);
  assert.is(file.metadata.step, "7");
  assert.equal([...(await readState(device, other.get("a.count") as State))], [1, 2, 3, 255]);
  assert.equal(
    [...(await readState(device, other.get("a.weight") as State))],
    new Array<number>(6).fill(1.5),
  );
  for (const each of [states, other]) disposeStates(device, each.values());
});

test("a missing or misshapen tensor is named with its file", async () => {
  const path = join(folder, "b.safetensors");
  const states = make();
  await saveCheckpoint(path, await snapshot(device, states, {}));
  const file = await readCheckpoint(path);
  const wider = new Map([["a.weight", new State("weight", [3, 3])]]);
  assert.match(
    (await rejection(restore(device, wider, file, path))).message,
    /b\.safetensors: tensor "a\.weight": expected \[3,3\], found \[3,2\]/,
  );
  const more = new Map([["b.bias", new State("bias", [1])]]);
  assert.match((await rejection(restore(device, more, file, path))).message, /has no tensor "b\.bias"/);
  disposeStates(device, states.values());
});

test("damaged files are refused: cut short, no JSON, offsets that lie", async () => {
  const states = make();
  const path = join(folder, "c.safetensors");
  await saveCheckpoint(path, await snapshot(device, states, {}));
  const whole = readFileSync(path);
  const damage = async (bytes: Buffer) => {
    writeFileSync(path, bytes);
    const error = await rejection(readCheckpoint(path));
    assert.instance(error, DataError);
    return error.message;
  };
  assert.match(await damage(whole.subarray(0, whole.length - 5)), /does not fit its bytes/);
  assert.match(await damage(whole.subarray(0, 20)), /a header of \d+ bytes in a file of 20/);
  assert.match(await damage(Buffer.alloc(0)), /at least 8 bytes, found 0/);
  assert.match(await damage(Buffer.from(whole.toString("latin1").replace('{"', "{{"), "latin1")), /not JSON/);
  assert.match(
    await damage(Buffer.from(whole.toString("latin1").replace('"F32"', '"F99"'), "latin1")),
    /F99/,
  );
  truncateSync(path, 0);
  assert.match(
    (await rejection(readCheckpoint(join(folder, "absent.safetensors")))).message,
    /cannot be read/,
  );
  disposeStates(device, states.values());
});

test("weights that are not finite never become a checkpoint", async () => {
  const weight = new State("weight", [2]);
  await writeState(device, weight, Float32Array.of(1, Number.NaN));
  const error = await rejection(snapshot(device, new Map([["net.weight", weight]]), {}));
  assert.instance(error, NotFiniteError);
  assert.is((error as NotFiniteError).tensor, "net.weight");
  disposeStates(device, [weight]);
});

test("a disk that fills up while a checkpoint is written leaves the one before whole", () => {
  const path = join(folder, "full");
  const script = join(import.meta.dirname, "full_disk.ts");
  // A limit on file sizes makes the write fail half-way, as a full disk does.
  const command = `ulimit -f 200 && exec "${process.execPath}" --import tsx "${script}" "${path}"`;
  const child = spawnSync("bash", ["-c", command], {
    encoding: "utf8",
    env: { ...process.env, TSX_DISABLE_CACHE: "1" },
  });
  assert.is(child.status, 0, child.stderr);
  assert.match(child.stdout, /ERR_DATA .*could not be written/);
  assert.equal(readdirSync(path), ["last.safetensors"]);
  assert.is(readFileSync(join(path, "last.safetensors")).includes('"step":"1"'), true);
});

test("nothing stays allocated", async () => {
  const plan = await compile(() => ({}));
  plan.dispose();
  assert.equal(native().memory(), { blocks: 0, bytes: 0 });
});

test.run();
