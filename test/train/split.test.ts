import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { makeConfig } from "../../lib/train/config.ts";
import { type Split, splitCases } from "../../lib/train/data.ts";
import { readSplit } from "../../lib/train/split.ts";
import { temporaryFolder } from "./fixtures.ts";

const group = "^(.+)-IM-";
const labelled = (id: string) => ({ id, image: `images/${id}.png`, label: `labels/${id}.png` });
const bare = (id: string) => ({ id, image: `images/${id}.png` });
const cases = [
  labelled("a-IM-1"),
  bare("a-IM-2"),
  labelled("b-IM-1"),
  labelled("b-IM-2"),
  labelled("c-IM-1"),
  bare("c-IM-2"),
  labelled("c-IM-3"),
  bare("d-IM-1"),
];
const config = (settings: Record<string, unknown>) => makeConfig("recommended", settings);

test("without groups the last labelled cases are for validation", () => {
  assert.equal(splitCases(cases, config({ validationCases: 1 })), {
    labeled: ["a-IM-1", "b-IM-1", "b-IM-2", "c-IM-1"],
    unlabeled: ["a-IM-2", "c-IM-2", "d-IM-1"],
    validation: ["c-IM-3"],
  });
});

test("with groups validation takes the last of them whole, and none of their cases trains", () => {
  assert.equal(splitCases(cases, config({ validationCases: 1, group })), {
    labeled: ["a-IM-1", "b-IM-1", "b-IM-2"],
    unlabeled: ["a-IM-2", "d-IM-1"],
    validation: ["c-IM-1", "c-IM-3"],
  });
  assert.throws(
    () => splitCases(cases, config({ validationCases: 3, group })),
    /at least one labelled group; there are 3, 3 of them/,
  );
});

test("a pattern that is none, or finds nothing, is refused", () => {
  assert.throws(() => config({ group: "(" }), /setting "group": expected a regular expression; found "\("/);
  assert.throws(() => splitCases(cases, config({ group: "^(.+)-XX-" })), /finds no group .* "a-IM-1"/);
  assert.throws(() => splitCases(cases, config({ group: "^(x?)" })), /finds no group/);
});

test("a split file may not put one group into two parts", async () => {
  const path = join(temporaryFolder(), "split.json");
  const read = (split: Partial<Split>, pattern: string | null = group) => {
    writeFileSync(path, JSON.stringify({ labeled: ["b-IM-1"], unlabeled: [], ...split }));
    return readSplit(path, cases, pattern);
  };
  const refuse = (split: Partial<Split>, message: RegExp) =>
    read(split).then(
      () => assert.unreachable(),
      (error: Error) => assert.match(error.message, message),
    );
  await refuse(
    { validation: ["b-IM-2"] },
    /"b" would play two parts: case "b-IM-1" is in "labeled", case "b-IM-2" in "validation"/,
  );
  await refuse({ unlabeled: ["b-IM-2"] }, /"b" would play two parts/);
  await refuse({ validation: ["c-IM-1"], unlabeled: ["c-IM-2"] }, /case "c-IM-1" is in "validation"/);
  assert.equal((await read({ validation: ["b-IM-2"] }, null)).validation, ["b-IM-2"]);
  const own = splitCases(cases, config({ validationCases: 1, group }));
  assert.equal(await read(own), own);
});

test.run();
