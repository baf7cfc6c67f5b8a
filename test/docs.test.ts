/** Holds the documentation to the code where that can be checked. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { commands } from "../lib/cli/commands/index.ts";
import { presets } from "../lib/train/config.ts";

const root = join(import.meta.dirname, "..");
const pages = ["README.md", ...readdirSync(join(root, "docs")).map((name) => join("docs", name))].filter(
  (name) => name.endsWith(".md"),
);

test("every relative link leads to a file", () => {
  const broken = pages.flatMap((page) => {
    const links = readFileSync(join(root, page), "utf8").matchAll(/\]\(([^)#:\s]+)(?:#[^)]*)?\)/g);
    return [...links]
      .map(([, target]) => target)
      .filter((target) => !existsSync(join(root, dirname(page), target)))
      .map((target) => `${page}: ${target}`);
  });
  assert.equal(broken, []);
});

test("the settings are all described, with the values of both presets", () => {
  const text = readFileSync(join(root, "docs", "training.md"), "utf8");
  const rows = [...text.matchAll(/^\| `(\w+)`\s*\| .+ \| `(.+?)`\s*\|(?: `(.+?)`)?\s*\|$/gm)];
  const documented = Object.fromEntries(rows.map(([, key, value, other]) => [key, [value, other ?? value]]));
  const { recommended, literal } = presets;
  const actual = Object.entries(recommended).map(([key, value]) => [
    key,
    [JSON.stringify(value), JSON.stringify((literal as Record<string, unknown>)[key])],
  ]);
  assert.equal(documented, Object.fromEntries(actual));
});

test("the README names every command", () => {
  const readme = readFileSync(join(root, "README.md"), "utf8");
  for (const { name } of commands) assert.match(readme, new RegExp(`\\b${name}\\b`), name);
});

test.run();
