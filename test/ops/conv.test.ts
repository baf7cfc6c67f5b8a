/** Convolutions and their transposes over pairs of all options, and what is refused. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { Graph } from "../../lib/graph/graph.ts";
import { elements } from "../../lib/graph/value.ts";
import { conv3d, convTranspose3d } from "../../lib/ops/conv.ts";
import { convShape } from "../oracle/conv.ts";
import { pairwise } from "../oracle/pairwise.ts";
import { type Case, type Triple, all, checkConv } from "./conv_case.ts";

const kernels: readonly Triple[] = [all(1), all(2), all(3), [1, 3, 2], [3, 1, 1], all(5)];
const grouping = ["1", "2", "depthwise"] as const;

function caseOf(choice: {
  stride: Triple;
  padding: Triple;
  dilation: Triple;
  kernel: Triple;
  size: Triple;
  inputs: number;
  outputs: number;
  groups: (typeof grouping)[number];
}): Case {
  const { stride, padding, dilation, kernel, size, inputs, outputs } = choice;
  const groups = choice.groups === "depthwise" ? inputs : Number(choice.groups);
  const perGroup = choice.groups === "depthwise" ? 1 : inputs;
  const channels = perGroup * groups;
  const filters = choice.groups === "depthwise" ? channels * (outputs > 8 ? 2 : 1) : outputs * groups;
  return {
    x: [2, ...size, channels],
    w: [filters, ...kernel, perGroup],
    geometry: { stride, padding, dilation, groups },
  };
}

const fits = (choice: Parameters<typeof caseOf>[0]) => {
  const { x, w, geometry } = caseOf(choice);
  const y = convShape(x, w, geometry);
  return y.every((extent) => extent >= 1) && (elements(y) * elements(w)) / w[0] < 1.5e6;
};

test("conv3d and its gradients over pairs of stride, padding, dilation, kernel, size, channels and groups", async () => {
  const cases = pairwise(
    {
      stride: [all(1), all(2), all(3), [1, 2, 3] as Triple],
      padding: [all(0), all(1), all(2), [0, 2, 1] as Triple],
      dilation: [all(1), all(2), all(3), [1, 3, 2] as Triple],
      kernel: kernels,
      size: [
        [5, 7, 6],
        [3, 4, 19],
        [9, 5, 13],
      ] as Triple[],
      inputs: [1, 3, 5, 8, 9, 17],
      outputs: [1, 3, 5, 8, 9, 17],
      groups: grouping,
    },
    fits,
  );
  assert.ok(cases.length >= 36, `only ${cases.length} cases`);
  for (const each of cases) await checkConv(caseOf(each));
});

test("convTranspose3d and its gradients, output padding included", async () => {
  const cases = pairwise(
    {
      stride: [all(1), all(2), all(3), [1, 2, 2] as Triple],
      padding: [all(0), all(1)],
      dilation: [all(1), all(2)],
      kernel: [all(2), all(3), [1, 3, 2] as Triple],
      size: [
        [5, 7, 6],
        [4, 6, 11],
      ] as Triple[],
      inputs: [1, 3, 8, 17],
      outputs: [1, 5, 9],
      groups: grouping,
    },
    fits,
  );
  for (const each of cases) await checkConv(caseOf(each), true);
});

test("what does not fit is refused with the shapes and the expectation", () => {
  const graph = new Graph();
  const x = graph.input("x", [1, 4, 4, 4, 6]);
  const w = graph.input("w", [4, 3, 3, 3, 6]);
  const refuses = (expected: RegExp, trace: () => unknown) => {
    assert.throws(trace, (error: Error & { code?: string }) => {
      assert.is(error.code, "ERR_SHAPE");
      assert.match(error.message, expected);
      return true;
    });
  };
  refuses(/conv3d: weight f32\[4,3,3,3,6\] in 2 groups does not fit the channels of f32\[1,4,4,4,6\]/, () =>
    conv3d(x, w, { groups: 2 }),
  );
  refuses(/conv3d: f32\[1,4,4,4,6\] is smaller than the dilated kernel of f32\[4,3,3,3,6\]/, () =>
    conv3d(x, w, { dilation: 2 }),
  );
  refuses(/conv3d: stride and dilation must be whole numbers from 1.*found stride 0x0x0/, () =>
    conv3d(x, w, { stride: 0 }),
  );
  refuses(/padding from 0.*found .*padding 1x-1x1/, () => conv3d(x, w, { padding: [1, -1, 1] }));
  refuses(/found stride 1.5x1x1/, () => conv3d(x, w, { stride: [1.5, 1, 1] }));
  refuses(/padding 1000000000x/, () => conv3d(x, w, { padding: 1e9 }));
  refuses(/conv3d: groups must be a whole number from 1, found 0/, () => conv3d(x, w, { groups: 0 }));
  refuses(/conv3d: the bias must have shape \[4\], found f32\[6\]/, () =>
    conv3d(x, w, { bias: graph.input("b", [6]) }),
  );
  refuses(/conv3d: the bias must be f32, found u8\[4\]/, () =>
    conv3d(x, w, { bias: graph.input("u", [4], "u8") }),
  );
  refuses(/the input \[N, D, H, W, C\] must have 5 axes, found f32\[4,4,6\]/, () =>
    conv3d(graph.input("flat", [4, 4, 6]), w),
  );
  refuses(/the input must be f32, found u8/, () => conv3d(graph.input("bytes", [1, 4, 4, 4, 6], "u8"), w));
  refuses(/convTranspose3d: outputPadding must be from 0 to below the stride, found 2x2x2/, () =>
    convTranspose3d(graph.input("y", [1, 2, 2, 2, 4]), w, { stride: 2, outputPadding: 2 }),
  );
  refuses(
    /convTranspose3d: weight f32\[4,3,3,3,6\] in 1 group does not fit the channels of f32\[1,4,4,4,6\]/,
    () => convTranspose3d(x, w),
  );
  refuses(/extents must be positive/, () =>
    convTranspose3d(graph.input("one", [1, 1, 1, 1, 4]), w, { padding: 2 }),
  );
});

test.run();
