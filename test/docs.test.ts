/** Holds the documentation to the code where that can be checked. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { commands } from "../lib/cli/commands/index.ts";
import { type Config, makeConfig, presets } from "../lib/train/config.ts";
import { recipes } from "../lib/train/recipes/index.ts";

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
  const { recommended, literal } = presets;
  assert.equal(documentedSettings()[0], columns(Object.keys(recommended), recommended, literal));
});

for (const [index, name] of ["sdnet", "cps"].entries())
  test(`the settings that ${name} changes are all described, with the values of both presets`, () => {
    const recipe = recipes[name];
    const changed = Object.values(recipe.presets ?? {}).flatMap((changes) => Object.keys(changes));
    const [recommended, literal] = ["recommended", "literal"].map((preset) => makeConfig(preset, {}, recipe));
    assert.equal(documentedSettings()[1 + index], columns([...new Set(changed)], recommended, literal));
  });

/** The settings of training.md with the text of both columns: those of all recipes, and what `sdnet` and `cps` set otherwise. */
function documentedSettings(): Record<string, string[]>[] {
  const text = readFileSync(join(root, "docs", "training.md"), "utf8");
  return text.split(/### What `\w+` sets otherwise/).map((part) => {
    const rows = [...part.matchAll(/^\| `(\w+)`\s*\| .+ \| `(.+?)`\s*\|(?: `(.+?)`)?\s*\|$/gm)];
    return Object.fromEntries(rows.map(([, key, value, other]) => [key, [value, other ?? value]]));
  });
}

function columns(keys: readonly string[], ...configs: readonly Config[]): Record<string, string[]> {
  return Object.fromEntries(
    keys.map((key) => [key, configs.map((each) => JSON.stringify(each[key as keyof Config]))]),
  );
}

test("the README names every command", () => {
  const readme = readFileSync(join(root, "README.md"), "utf8");
  for (const { name } of commands) assert.match(readme, new RegExp(`\\b${name}\\b`), name);
});

test.run();
