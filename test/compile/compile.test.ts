import { test } from "uvu";
import * as assert from "uvu/assert";
import { gradients } from "../../lib/autograd/gradients.ts";
import { compile } from "../../lib/compile/compile.ts";
import { disposeStates, readState, writeState } from "../../lib/compile/states.ts";
import { NotFiniteError, OutOfMemoryError, ShapeError } from "../../lib/errors.ts";
import { State } from "../../lib/graph/state.ts";
import { add, mul, scale, sum } from "../../lib/ops/arithmetic.ts";
import { conv3d } from "../../lib/ops/conv.ts";
import { ema } from "../../lib/ops/update.ts";
import { openDevice } from "../../lib/runtime/device.ts";
import { native } from "../../lib/runtime/native.ts";

const device = openDevice("cpu");
const paranoid = true;

test("a plan runs with inputs by name and returns outputs by name", async () => {
  const plan = await compile((g) => {
    const x = g.input("x", [3]);
    return { double: scale(x, 2), total: sum(x) };
  });
  const { double, total } = await plan.run({ x: Float32Array.of(1, 2, 3) });
  assert.equal([...double], [2, 4, 6]);
  assert.equal([...total], [6]);
  plan.dispose();
});

test("wrong feeds are refused by name, dtype and size", async () => {
  const plan = await compile((g) => ({ y: scale(g.input("x", [3]), 2) }));
  const rejects = async (feed: Parameters<typeof plan.run>[0], message: RegExp) => {
    try {
      await plan.run(feed);
    } catch (error) {
      assert.instance(error, ShapeError);
      assert.match((error as Error).message, message);
      return;
    }
    assert.unreachable();
  };
  await rejects({}, /plan input "x": expected f32\[3\], found nothing/);
  await rejects({ x: new Float32Array(4) }, /Float32Array of 4/);
  await rejects({ x: new Uint8Array(3) }, /Uint8Array of 3/);
  await rejects({ x: new Float32Array(3), z: 1 }, /no input "z"; it has x/);
  plan.dispose();
  assert.match(await plan.run({ x: new Float32Array(3) }).then(() => "ran", String), /disposed/);
});

test("unused and repeated computation is dropped", async () => {
  const plan = await compile((g) => {
    const x = g.input("x", [4]);
    scale(x, 3);
    return { y: add(scale(x, 2), scale(x, 2)) };
  });
  assert.is(plan.layout.steps.length, 2);
  plan.dispose();
});

test("states keep their contents between runs and between plans", async () => {
  const count = new State("count", [2], { initial: 5 });
  const step = await compile(
    (g) => {
      g.assign(count, add(g.read(count), g.input("x", [2])));
      return {};
    },
    { paranoid },
  );
  await step.run({ x: Float32Array.of(1, 2) });
  await step.run({ x: Float32Array.of(1, 2) });
  assert.equal([...(await readState(device, count))], [7, 9]);
  await writeState(device, count, Float32Array.of(0, 1));
  const read = await compile((g) => ({ y: scale(g.read(count), 10) }));
  assert.equal([...(await read.run()).y], [0, 10]);
  for (const plan of [step, read]) plan.dispose();
  disposeStates(device, [count]);
});

test("every read sees the state as the step began, in place or not", async () => {
  const a = new State("a", [1], { initial: 1 });
  const b = new State("b", [1], { initial: 10 });
  const plan = await compile(
    (g) => {
      const [first, second] = [g.read(a), g.read(b)];
      g.assign(a, second);
      g.assign(b, add(second, first));
      return { sum: add(first, second), late: scale(g.read(a), 100) };
    },
    { paranoid },
  );
  const { sum: total, late } = await plan.run();
  assert.equal([total[0], late[0]], [11, 100]);
  assert.equal([(await readState(device, a))[0], (await readState(device, b))[0]], [10, 11]);
  plan.dispose();
  disposeStates(device, [a, b]);
});

test("an average in place reads the weight after its update", async () => {
  const w = new State("w", [1], { initial: 1 });
  const teacher = new State("teacher", [1], { initial: 1 });
  const plan = await compile(
    (g) => {
      const next = add(g.read(w), g.input("change", [1]));
      g.assign(w, next);
      g.assign(teacher, ema(teacher, next, { decay: 0.5 }));
      return {};
    },
    { paranoid },
  );
  await plan.run({ change: Float32Array.of(2) });
  assert.equal([(await readState(device, w))[0], (await readState(device, teacher))[0]], [3, 2]);
  plan.dispose();
  disposeStates(device, [w, teacher]);
});

test("a result that is not finite stops the step before any state changes, and names the tensor", async () => {
  const w = new State("w", [2], { initial: 1 });
  const plan = await compile((g) => {
    const x = g.input("x", [2]);
    const huge = g.scope("layer7", () => mul(x, x));
    g.assign(w, add(g.read(w), x));
    return { loss: sum(huge) };
  });
  try {
    await plan.run({ x: Float32Array.of(1, 1e30) });
    assert.unreachable();
  } catch (error) {
    assert.instance(error, NotFiniteError);
    assert.match((error as NotFiniteError).tensor, /^mul .*layer7/);
  }
  assert.equal([...(await readState(device, w))], [1, 1]);
  plan.dispose();
  disposeStates(device, [w]);
});

test("a plan larger than memory is refused before it runs, with its largest tensors", async () => {
  const previous = process.env.VOXGRAD_MEMORY;
  process.env.VOXGRAD_MEMORY = "1000000";
  try {
    await compile((g) => ({
      y: scale(add(g.input("big", [1000, 1000]), g.input("other", [1000, 1000])), 2),
    }));
    assert.unreachable();
  } catch (error) {
    assert.instance(error, OutOfMemoryError);
    assert.match((error as Error).message, /1\.0 MiB are free[^]*3\.8 MiB {2}f32\[1000,1000\] {2}input big/);
  } finally {
    if (previous === undefined) delete process.env.VOXGRAD_MEMORY;
    else process.env.VOXGRAD_MEMORY = previous;
  }
});

test("a plan prints its steps, offsets, peak memory and operations", async () => {
  const w = new State("w", [2, 3, 3, 3, 1], { initial: 0.5 });
  const plan = await compile((g) => {
    const x = g.input("x", [1, 4, 4, 4, 1]);
    const loss = sum(conv3d(x, w, { padding: 1 }));
    const [slope] = gradients(loss, [g.read(w)]);
    g.assign(w, add(g.read(w), slope));
    return { loss };
  });
  const text = String(plan);
  assert.match(text, /conv3dPacked #\d+ f32\[1,4,4,4,2\] @\d+/);
  assert.match(text, /-- updates --\n.*-> w/);
  assert.match(text, /peak .* MiB = states .* \+ arena/);
  assert.is(plan.flops > 2 * 2 * 64 * 54, true);
  plan.dispose();
  disposeStates(device, [w]);
});

test("weights that a plan does not train are packed once, until somebody writes them", async () => {
  const w = new State("w", [2, 3, 3, 3, 1], { initial: 0.5 });
  const x = new Float32Array(64).fill(1);
  const predict = await compile((g) => {
    const y = conv3d(g.input("x", [1, 4, 4, 4, 1]), w, { padding: 1 });
    return { total: sum(add(y, conv3d(g.input("same", [1, 4, 4, 4, 1]), w, { padding: 1 }))) };
  });
  assert.is(predict.layout.prologue, 1, "both convolutions share one packing");
  assert.match(String(predict), /conv3dPackWeights[^]*-- every run --/);
  const total = async () => (await predict.run({ x, same: x })).total[0];
  const before = await total();
  assert.ok(before > 0);
  assert.is(await total(), before);

  await writeState(device, w, new Float32Array(54).fill(1));
  assert.is(await total(), 2 * before, "written from outside");
  const train = await compile((g) => {
    g.assign(w, add(g.read(w), g.read(w)));
    return {};
  });
  await train.run();
  assert.is(await total(), 4 * before, "written by another plan");
  for (const plan of [predict, train]) plan.dispose();
  disposeStates(device, [w]);
});

test("a plan that trains its weights packs them at every run", async () => {
  const w = new State("w", [1, 1, 1, 1, 1], { initial: 1 });
  const plan = await compile(
    (g) => {
      const y = conv3d(g.input("x", [1, 1, 1, 1, 1]), w);
      g.assign(w, add(g.read(w), g.read(w)));
      return { y: sum(y) };
    },
    { paranoid },
  );
  assert.is(plan.layout.prologue, 0);
  const x = Float32Array.of(1);
  assert.equal([(await plan.run({ x })).y[0], (await plan.run({ x })).y[0]], [1, 2]);
  plan.dispose();
  disposeStates(device, [w]);
});

test("nothing stays allocated", () => {
  assert.equal(native().memory(), { blocks: 0, bytes: 0 });
});

test.run();
