import { test } from "uvu";
import * as assert from "uvu/assert";
import { counted } from "../lib/errors.ts";

test("one of a thing is said in the singular, any other number in the plural", () => {
  assert.is(counted(1, "step"), "1 step");
  assert.is(counted(0, "step"), "0 steps");
  assert.is(counted(3, "label file"), "3 label files");
  assert.is(counted(2, "class"), "2 classes");
  assert.is(counted(2, "batch"), "2 batches");
  assert.is(counted(1234, "kernel call", "1,234"), "1,234 kernel calls");
});

test.run();
