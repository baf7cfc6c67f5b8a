import { test } from "uvu";
import * as assert from "uvu/assert";
import { formatBytes, formatCount, formatTable } from "../../lib/cli/table.ts";

test("numbers stand right with equal digits, text stands left", () => {
  const table = formatTable(
    ["case", "dice", "voxels", { header: "hd95", digits: 1 }],
    [
      ["hippocampus_001", 0.8, 1200, 3.25],
      ["b", Number.NaN, 7, null],
    ],
  );
  assert.is(
    table,
    [
      "case               dice  voxels  hd95",
      "───────────────  ──────  ──────  ────",
      "hippocampus_001  0.8000   1,200   3.3",
      "b                   nan       7     -",
      "",
    ].join("\n"),
  );
});

test("colour codes take no room, and a table without rows is still a table", () => {
  const [, , first, second] = formatTable(
    ["a", { header: "b", align: "right" }],
    [
      ["\x1b[1mxx\x1b[22m", "1 s"],
      ["yyyy", "10 s"],
    ],
  ).split("\n");
  assert.is(first, "\x1b[1mxx\x1b[22m     1 s");
  assert.is(second, "yyyy  10 s");
  assert.is(formatTable(["name", "n"], []), "name  n\n────  ─\n");
});

test("bytes and counts", () => {
  const cases: [number, string][] = [
    [0, "0 B"],
    [1023, "1023 B"],
    [1536, "1.50 KiB"],
    [1023.7 * 1024, "1.00 MiB"],
    [12.34 * 2 ** 30, "12.3 GiB"],
    [2 ** 40, "1.00 TiB"],
  ];
  for (const [bytes, text] of cases) assert.is(formatBytes(bytes), text);
  assert.is(formatCount(9448866), "9,448,866");
  assert.is(formatCount(12), "12");
});

test.run();
