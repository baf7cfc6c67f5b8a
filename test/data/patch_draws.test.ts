import { test } from "uvu";
import * as assert from "uvu/assert";
import { PatchDraws } from "../../lib/data/patch_draws.ts";

const options = { patch: [2, 2, 2] as const, seed: 4, stream: 1, foreground: 0 };

test("the next draw of a volume is the first one that takes it, wherever the search begins", () => {
  const draws = new PatchDraws(7, options);
  const taken = Array.from({ length: 70 }, (_, draw) => new PatchDraws(7, options).volumeOf(draw));
  for (const from of [0, 40, 3, 20, 55, 6, 7, 14]) {
    for (let volume = 0; volume < 7; volume++) {
      assert.is(draws.nextDraw(volume, from), taken.indexOf(volume, from));
      assert.is(draws.volumeOf(from), taken[from]);
    }
  }
});

test("one volume is drawn every time", () => {
  const draws = new PatchDraws(1, options);
  for (const draw of [0, 1, 17]) assert.is(draws.nextDraw(0, draw), draw);
});

test.run();
