/** Ops called with tensors, as an app in JavaScript calls them: no compiler has looked at the arguments. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  argmax,
  averagePool3d,
  conv3d,
  convTranspose3d,
  instanceNorm,
  maxPool3d,
  relu,
  resize,
  type Tensor,
} from "../lib/index.ts";

const tensor = (...shape: number[]) => ({
  data: new Float32Array(shape.reduce((product, extent) => product * extent, 1)).fill(1),
  shape,
});
const x = tensor(1, 4, 4, 4, 2);
const w = tensor(3, 3, 3, 3, 2);

type Call = (...args: unknown[]) => Promise<Tensor>;
async function refused(op: unknown, args: unknown[], message: RegExp): Promise<void> {
  const result = await Promise.resolve()
    .then(() => (op as Call)(...args))
    .then(
      () => "no error",
      (error: Error) => `${error.name}: ${error.message}`,
    );
  assert.match(result, message);
}

test("the result is a tensor of floats", async () => {
  const y: Tensor<Float32Array> = await conv3d(x, w, { padding: 1, bias: tensor(3) });
  assert.equal(y.shape, [1, 4, 4, 4, 3]);
  assert.is(y.data[0], 17);
  const classes = await argmax(y);
  assert.not(classes.data instanceof Float32Array);
});

test("an option that does not exist is refused with the nearest one", async () => {
  await refused(
    conv3d,
    [x, w, { pading: 1 }],
    /^ShapeError: conv3d: unknown option "pading", did you mean "padding"/,
  );
  await refused(
    convTranspose3d,
    [x, tensor(2, 2, 2, 2, 3), { outputPading: 1 }],
    /did you mean "outputPadding"/,
  );
  await refused(maxPool3d, [x, { kernel: 2, strides: 2 }], /maxPool3d: .* did you mean "stride"/);
  await refused(
    averagePool3d,
    [x, { kernel: 2, ceilMode: true }],
    /averagePool3d: unknown option "ceilMode"/,
  );
  await refused(
    resize,
    [x, { size: [8, 8, 8], mode: "linear", align: true }],
    /resize: unknown option "align"/,
  );
  await refused(instanceNorm, [x, tensor(2), tensor(2), { eps: 1e-3 }], /unknown option "eps".* epsilon/);
});

test("what is no tensor is refused, whatever it is", async () => {
  await refused(
    conv3d,
    [new Float32Array(4), w],
    /found a bare Float32Array: say \{ data, shape: \[\.\.\.\] \}/,
  );
  await refused(conv3d, [{ data: [1, 2], shape: [2] }, w], /must be a Float32Array, .* found Array/);
  await refused(conv3d, [{ data: undefined, shape: [2] }, w], /must be a Float32Array, .* found undefined/);
  await refused(
    conv3d,
    [undefined, w],
    /conv3d: operand 1 must be .* a tensor \{ data, shape \}.* found nothing/,
  );
  await refused(conv3d, [x], /conv3d: operand 2 must be .* found nothing/);
  await refused(relu, [3], /relu: operand 1 must be .* found number/);
});

test("words in place of numbers are refused", async () => {
  await refused(conv3d, [x, w, { padding: "same" }], /padding from 0, .* found .* padding "same"/);
  await refused(maxPool3d, [x, { kernel: "2" }], /found kernel "2"/);
});

test.run();
