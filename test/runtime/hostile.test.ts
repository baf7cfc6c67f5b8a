/** The native interface trusts nothing: plans made by hand, wrong in every way, are refused and never end the process. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { inspect } from "node:util";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { native, type PlanSpec, type StepSpec, type TensorSpec } from "../../lib/runtime/native.ts";
import { openDevice } from "../../lib/runtime/device.ts";

const addon = native();
const device = openDevice().native;
const { Buffer: State, Plan } = device;

function refused(what: string, attempt: () => unknown, code: string | null = "ERR_PLAN"): void {
  try {
    attempt();
  } catch (error) {
    const found = error as Error & { code?: string };
    assert.is(found.code ?? null, code, `${what}: ${found.message}`);
    assert.ok(found.message.length > 10, `${what}: "${found.message}" explains nothing`);
    return;
  }
  assert.unreachable(`${what}: was accepted`);
}

const tensor = (shape: readonly number[], offset = 0): TensorSpec => ({ dtype: "f32", shape, offset });

const conv: StepSpec = {
  kernel: "conv3d",
  label: "conv",
  inputs: [tensor([1, 4, 4, 4, 2]), tensor([2, 3, 3, 3, 2], 512)],
  output: tensor([1, 4, 4, 4, 2], 1024),
  attributes: { stride: [1, 1, 1], padding: [1, 1, 1], dilation: [1, 1, 1], groups: 1 },
  workspaceOffset: 2048,
  workspaceBytes: device.workspace({
    kernel: "conv3d",
    label: "conv",
    inputs: [tensor([1, 4, 4, 4, 2]), tensor([2, 3, 3, 3, 2])],
    output: tensor([1, 4, 4, 4, 2]),
    attributes: { stride: [1, 1, 1], padding: [1, 1, 1], dilation: [1, 1, 1], groups: 1 },
  }),
};
const arenaBytes = 2048 + (conv.workspaceBytes as number);

const planOf = (change: Readonly<Record<string, unknown>> = {}) =>
  new Plan({
    arenaBytes,
    states: [],
    steps: [conv],
    inputs: conv.inputs,
    outputs: [conv.output],
    prologue: 0,
    firstUpdate: 1,
    paranoid: true,
    ...change,
  });
const stepOf = (change: Readonly<Record<string, unknown>>) => planOf({ steps: [{ ...conv, ...change }] });
const convOf = (change: Readonly<Record<string, unknown>>) =>
  stepOf({ attributes: { ...conv.attributes, ...change } });

test("the plan that the others are damaged from is valid", async () => {
  assert.ok((conv.workspaceBytes as number) > 0, "a workspace to be too small");
  const plan = planOf();
  const [y] = await plan.start([new Float32Array(128).fill(1), new Float32Array(108).fill(1)]).promise;
  assert.equal([...new Float32Array(y).slice(0, 2)], [16, 16]);
  plan.dispose();
});

test("extents must be positive whole numbers whose product stays below 2^40 bytes", () => {
  const bad = [
    0,
    -1,
    1.5,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    -0.5,
    2 ** 53,
    2 ** 64,
    "4",
    null,
    undefined,
    {},
    4n,
  ];
  for (const value of bad) {
    const shape = [1, 4, 4, value, 2] as number[];
    refused(`output extent ${inspect(value)}`, () => stepOf({ output: tensor(shape, 1024) }));
    refused(`input extent ${inspect(value)}`, () => stepOf({ inputs: [tensor(shape), conv.inputs[1]] }));
    refused(`plan input extent ${inspect(value)}`, () => planOf({ inputs: [tensor(shape)] }));
    refused(`plan output extent ${inspect(value)}`, () => planOf({ outputs: [tensor(shape)] }));
    refused(`workspace with extent ${inspect(value)}`, () =>
      device.workspace({ ...conv, output: tensor(shape) }),
    );
  }
  // Each product wraps around to a small number in 64 bits.
  for (const shape of [
    [2 ** 32, 2 ** 32],
    [2 ** 31, 2 ** 31, 4],
    [2 ** 52, 2 ** 12],
    [2 ** 40, 2 ** 40, 2 ** 40],
  ])
    refused(`overflowing ${shape.join("x")}`, () => planOf({ outputs: [tensor(shape)] }));
  refused("seven axes", () => planOf({ outputs: [tensor([1, 1, 1, 1, 1, 1, 1])] }));
  refused("a shape that is no list", () => planOf({ outputs: [{ dtype: "f32", shape: "4", offset: 0 }] }));
});

test("every tensor must lie within its memory, aligned to its elements", () => {
  for (const offset of [arenaBytes, arenaBytes - 4, 2 ** 40, 2 ** 53 - 4, 1, 2, 1.5, -4, Number.NaN]) {
    refused(`output at ${offset}`, () => stepOf({ output: tensor([1, 4, 4, 4, 2], offset) }));
    refused(`input at ${offset}`, () =>
      stepOf({ inputs: [tensor([1, 4, 4, 4, 2], offset), conv.inputs[1]] }),
    );
    refused(`plan input at ${offset}`, () => planOf({ inputs: [tensor([1, 4, 4, 4, 2], offset)] }));
    refused(`plan output at ${offset}`, () => planOf({ outputs: [tensor([1, 4, 4, 4, 2], offset)] }));
  }
  refused("an arena of 4 bytes less", () => planOf({ arenaBytes: arenaBytes - 4 }));
  for (const bytes of [-1, Number.NaN, 0.5, 2 ** 60, "9"])
    refused(`an arena of ${bytes}`, () => planOf({ arenaBytes: bytes }));
  refused("an arena beyond the address space", () => planOf({ arenaBytes: 2 ** 52 }), "ERR_OUT_OF_MEMORY");
});

test("workspace must be what the kernel asked for, within the arena", () => {
  const bytes = conv.workspaceBytes as number;
  refused("one byte too little", () => stepOf({ workspaceBytes: bytes - 1 }));
  refused("none", () => stepOf({ workspaceBytes: 0 }));
  refused("not mentioned", () => stepOf({ workspaceBytes: undefined }));
  refused("beyond the arena", () => stepOf({ workspaceOffset: arenaBytes - bytes + 64 }));
  refused("without a place", () => stepOf({ workspaceOffset: undefined }));
  for (const value of [-1, 2 ** 53, Number.NaN, 1.5]) {
    refused(`${value} bytes`, () => stepOf({ workspaceBytes: value }));
    refused(`at ${value}`, () => stepOf({ workspaceOffset: value }));
  }
});

test("dtypes, ranks, counts of operands and channels must be those of the kernel", () => {
  refused("bytes for floats", () =>
    stepOf({ output: { dtype: "u8", shape: [1, 4, 4, 4, 2], offset: 1024 } }),
  );
  refused("an unknown dtype", () =>
    stepOf({ output: { dtype: "f64", shape: [1, 4, 4, 4, 2], offset: 1024 } }),
  );
  refused("four axes", () => stepOf({ output: tensor([4, 4, 4, 2], 1024) }));
  refused("one operand", () => stepOf({ inputs: [conv.inputs[0]] }));
  refused("no operand", () => stepOf({ inputs: [] }));
  refused("four operands", () => stepOf({ inputs: [...conv.inputs, ...conv.inputs] }));
  refused("a bias of another size", () => stepOf({ inputs: [...conv.inputs, tensor([3])] }));
  refused("a bias of bytes", () =>
    stepOf({ inputs: [...conv.inputs, { dtype: "u8", shape: [2], offset: 0 }] }),
  );
  refused("other channels", () => stepOf({ inputs: [conv.inputs[0], tensor([2, 3, 3, 3, 1], 512)] }));
  refused("another batch", () => stepOf({ output: tensor([2, 4, 4, 2, 2], 1024) }));
});

test("an unknown kernel is named", () => {
  refused("a kernel nobody has", () => stepOf({ kernel: "conv4d" }));
  assert.throws(() => stepOf({ kernel: "conv4d" }), /no kernel called conv4d/);
  for (const kernel of ["", "__proto__", "x".repeat(100_000), 7, null, Symbol("conv3d")])
    refused("a name that is none", () => stepOf({ kernel }));
});

test("attributes must be there, whole and in range", () => {
  for (const name of ["stride", "padding", "dilation", "groups"]) {
    refused(`no ${name}`, () => convOf({ [name]: undefined }));
    for (const value of ["1", null, {}, [], [1, 1], [1, 1, 1, 1], [1, "1", 1], [1, , 1]])
      refused(`${name} ${JSON.stringify(value)}`, () => convOf({ [name]: value }));
    for (const value of [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 1e9, 2 ** 53, 1e300])
      refused(`${name} ${value}`, () => convOf({ [name]: name === "groups" ? value : [1, value, 1] }));
  }
  refused("stride 0", () => convOf({ stride: [0, 1, 1] }));
  refused("dilation 0", () => convOf({ dilation: [1, 1, 0] }));
  refused("groups 0", () => convOf({ groups: 0 }));
  refused("groups that do not divide", () => convOf({ groups: 3 }));
});

test("a state must be a living buffer of this addon, and its index one of them", () => {
  const state = new State(512);
  const output = { dtype: "f32", shape: [1, 4, 4, 4, 2], offset: 0 };
  for (const index of [1, -1, 0.5, 2 ** 32, 2 ** 53, Number.NaN, "0"])
    refused(`state ${index}`, () =>
      planOf({ states: [state], steps: [{ ...conv, output: { ...output, state: index } }] }),
    );
  refused("offset beyond the state", () =>
    planOf({ states: [state], outputs: [{ ...output, state: 0, offset: 4 }] }),
  );
  const plan = planOf();
  for (const fake of [
    {},
    [],
    null,
    undefined,
    7,
    "state",
    new ArrayBuffer(512),
    Object.create(state),
    new Proxy(state, {}),
    plan,
  ])
    refused("something that is not a buffer", () => planOf({ states: [fake] }));
  refused("a sparse list", () => planOf({ states: new Array(2 ** 32 - 1) }));
  state.dispose();
  refused("a disposed buffer", () => planOf({ states: [state] }), "ERR_DISPOSED");
  for (const bytes of [-1, 0.5, Number.NaN, 2 ** 41, "8", undefined])
    refused(`a buffer of ${bytes}`, () => new State(bytes as number));
});

/** Calls a method of a class on an object that need not be of it. */
function borrow(from: { prototype: object }, method: string, self: object, ...args: unknown[]): unknown {
  return (Reflect.get(from.prototype, method) as (...args: unknown[]) => unknown).apply(self, args);
}

test("methods refuse objects that are not theirs", () => {
  const state = new State(8);
  const plan = planOf();
  // The engine itself throws these; they have no code.
  refused("read of a plan", () => borrow(State, "read", plan), null);
  refused("start of a buffer", () => borrow(Plan, "start", state, []), null);
  refused("read of anything", () => borrow(State, "read", {}), null);
  const mixed = Reflect.construct(State, [8], Plan) as object;
  refused("start of a mixed construction", () => borrow(Plan, "start", mixed, []), null);
  plan.dispose();
  refused("start after dispose", () => plan.start([]), "ERR_DISPOSED");
  state.dispose();
  state.dispose();
  refused("read after dispose", () => void state.read(), "ERR_DISPOSED");
});

test("a plan that is no plan, and lists that are no lists", () => {
  for (const spec of [undefined, null, 7, "plan", [], {}])
    refused("no plan", () => new Plan(spec as PlanSpec));
  for (const name of ["states", "steps", "inputs", "outputs"])
    for (const value of [undefined, null, {}, 7, "list", [undefined], [7], new Array(2 ** 32 - 1)])
      refused(`${name} of the wrong kind`, () => planOf({ [name]: value }));
  for (const value of [2, -1, Number.NaN, undefined])
    refused(`firstUpdate ${value}`, () => planOf({ firstUpdate: value }));
  assert.throws(
    () =>
      planOf({
        get arenaBytes(): number {
          throw new Error("from the getter");
        },
      }),
    /from the getter/,
  );
});

test("a run takes exactly the plan's inputs", async () => {
  const plan = planOf();
  const x = new Float32Array(128);
  const w = new Float32Array(108);
  const detached = new Float32Array(128);
  structuredClone(detached, { transfer: [detached.buffer] });
  for (const inputs of [[], [x], [x, w, w], [w, x], [x, new Float32Array(107)], [detached, w]])
    refused("not the plan's inputs", () => plan.start(inputs));
  const late = new Float32Array(128);
  const detaching = Object.defineProperty([late, w], 1, {
    get: () => (structuredClone(late, { transfer: [late.buffer] }), w),
  });
  refused("an array that goes away while others are fetched", () => plan.start(detaching));

  const upload = plan.upload([x, w]);
  const other = planOf();
  refused("the inputs of another plan", () => other.start(upload));
  await plan.start(upload).promise;
  refused("the same inputs again", () => plan.start(upload));
  other.dispose();
  refused("no list", () => plan.start(undefined as never));
  for (const value of [undefined, null, 7, {}, [], new ArrayBuffer(512), new DataView(new ArrayBuffer(512))])
    refused("not a typed array", () => plan.start([value as never, w]), "ERR_SHAPE");
  plan.dispose();
});

test("nothing refused above has kept memory", async () => {
  const before = addon.memory().blocks;
  for (let i = 0; i < 50; i++) refused("stride 0", () => convOf({ stride: [0, 1, 1] }));
  await new Promise((resolve) => setImmediate(resolve));
  assert.ok(addon.memory().blocks <= before, "a refused plan keeps its arena");
});

function inChild(fixture: string, ...args: string[]) {
  const path = join(import.meta.dirname, "fixtures", fixture);
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, ["--import", "tsx", path, ...args], {
    cwd: join(import.meta.dirname, "../.."),
    encoding: "utf8",
    timeout: 60_000,
  });
  return { status, signal, stdout, stderr };
}

test("workspace that overlaps an operand or the result is refused: kernels keep indices in it", () => {
  for (const where of ["output", "input"]) {
    const { signal, stdout, stderr } = inChild("overlapping_workspace.ts", where);
    assert.is(signal, null, `${where}: the process ended by ${signal} ${stderr}`);
    assert.is(stdout.trim(), "ERR_PLAN", where);
  }
});

test("thousands of damaged steps over all kernels are refused or run without a stray write", () => {
  const { status, signal, stdout, stderr } = inChild("hostile_plans.ts", "250", "1");
  const started = stdout.match(/kernel \w+/g) ?? [];
  assert.is(
    signal,
    null,
    `ended by ${signal} in ${started.at(-1)}; to see the step: hostile_plans.ts 250 1 NAME`,
  );
  assert.is(status, 0, `${started.at(-1)}: ${stderr}`);
  assert.is(started.length, device.kernels().length);
  const [, refusals, runs] = (/refused (\d+) ran (\d+)/.exec(stdout) ?? []).map(Number);
  assert.ok(refusals > 2000 && runs > 2000, `refused ${refusals}, ran ${runs}: one sort is hardly tried`);
});

test.run();
