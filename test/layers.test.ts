/** Holds the rooms of lib/ to their order: docs/architecture.md shows it. */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize, sep } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";

/** A room imports only rooms that stand behind it. */
const rooms = [
  "index.ts",
  "cli",
  "bench",
  "report",
  "embed.ts",
  "train",
  "infer",
  "metrics",
  "data",
  "interchange",
  "models",
  "optim",
  "nn",
  "compile",
  "autograd",
  "ops",
  "graph",
  "runtime",
  "random.ts",
  "errors.ts",
];

const lib = join(import.meta.dirname, "..", "lib");
const files = readdirSync(lib, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".ts"));
const source = new Map(files.map((file) => [file, readFileSync(join(lib, file), "utf8")]));

function roomOf(file: string): string {
  return file.split(sep)[0];
}

/** The files that a source imports or re-exports, relative to lib/. */
function importsOf(file: string): string[] {
  const specifiers = (source.get(file) as string).matchAll(/(?:from|import)\s*\(?\s*"(\.[^"]+)"/g);
  return [...specifiers].map(([, specifier]) => normalize(join(dirname(file), specifier)));
}

/** Imports that point up, as `file imports file`. */
function violations(order: readonly string[]): string[] {
  return files.flatMap((file) =>
    importsOf(file)
      .filter((target) => order.indexOf(roomOf(target)) < order.indexOf(roomOf(file)))
      .map((target) => `${file} imports ${target}`),
  );
}

test("every room has its place, and every import leads to a file", () => {
  for (const file of files)
    assert.ok(rooms.includes(roomOf(file)), `lib/${file}: its room is not in the list`);
  for (const room of rooms)
    assert.ok(
      files.some((file) => roomOf(file) === room),
      `lib/${room} is gone`,
    );
  for (const file of files)
    for (const target of importsOf(file)) assert.ok(source.has(target), `lib/${file} imports ${target}`);
});

test("no room imports one above it", () => {
  assert.equal(violations(rooms), []);
  // The same check over a wrong order finds something, so it can fail.
  assert.ok(
    violations([...rooms].reverse()).includes(
      join("nn", "layers.ts") + " imports " + join("graph", "value.ts"),
    ),
  );
});

test("one file loads the addon, and nothing below the command writes to the console", () => {
  const loaders = files.filter((file) => (source.get(file) as string).includes("voxgrad.node"));
  assert.equal(loaders, [join("runtime", "native.ts")]);
  const talkers = files.filter(
    (file) => roomOf(file) !== "cli" && /\bconsole\./.test(source.get(file) as string),
  );
  assert.equal(talkers, []);
});

test.run();
