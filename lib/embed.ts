import { compile } from "./compile/compile.ts";
import type { Plan, Tensor } from "./compile/plan.ts";
import { arrayOf } from "./compile/states.ts";
import { counted, ShapeError } from "./errors.ts";
import { State, type TypedArray } from "./graph/state.ts";
import { type DType, elements, type Value } from "./graph/value.ts";
import { openDevice } from "./runtime/device.ts";

type AnyOp = (...args: never[]) => Value;

/** An argument of an op, with tensors in the places of graph values. */
type Concrete<A> = A extends Value | State
  ? Tensor
  : A extends readonly (Value | State)[]
    ? readonly Tensor[]
    : A extends readonly unknown[] | number | string | boolean | undefined
      ? A
      : { [K in keyof A]: Concrete<A[K]> };

type ConcreteArguments<A extends unknown[]> = { [K in keyof A]: Concrete<A[K]> };

/** An op that takes values of a graph, or tensors: then it runs at once and resolves to the result, whose data are a `T`. */
export type Embedded<F extends AnyOp, T extends TypedArray = TypedArray> = F &
  ((...args: ConcreteArguments<Parameters<F>>) => Promise<Tensor<T>>);

const cacheSize = 64;
const plans = new Map<string, Promise<Plan<"result">>>();

/**
 * Lets an op be called outside of any graph. The one-op plan is compiled at the first call with these shapes and
 * options, and kept; the least recently used of 64 is dropped. `T` says what the op is known to yield.
 */
export function embed<F extends AnyOp, T extends TypedArray = TypedArray>(op: F): Embedded<F, T> {
  const call = (...args: unknown[]): Value | Promise<Tensor> => {
    const tensors: Tensor[] = [];
    const pattern = replaceTensors(args, (tensor) => {
      tensors.push(tensor);
      return { placeholder: tensors.length - 1 };
    });
    return tensors.length === 0 ? op(...(args as never[])) : runOnce(op, pattern as unknown[], tensors);
  };
  Object.defineProperty(call, "name", { value: op.name });
  return call as unknown as Embedded<F, T>;
}

async function runOnce(op: AnyOp, pattern: unknown[], tensors: readonly Tensor[]): Promise<Tensor> {
  const types = tensors.map((tensor) => ({ dtype: dtypeOf(tensor), shape: [...tensor.shape] }));
  const key = JSON.stringify([op.name, pattern, types]);
  const plan = await remember(key, () =>
    compile((graph) => {
      const values = types.map(({ dtype, shape }, index) => graph.input(`${index}`, shape, dtype));
      const args = replacePlaceholders(pattern, (index) => values[index]) as never[];
      return { result: op(...args) };
    }),
  );
  const feed = Object.fromEntries(tensors.map(({ data }, index) => [`${index}`, data]));
  const { result } = await plan.run(feed);
  return { data: result, shape: (plan.graph.outputs.get("result") as Value).shape };
}

async function remember(key: string, make: () => Promise<Plan<"result">>): Promise<Plan<"result">> {
  let plan = plans.get(key);
  plans.delete(key);
  plan ??= make();
  plans.set(key, plan);
  if (plans.size > cacheSize) {
    const [oldest, dropped] = plans.entries().next().value as [string, Promise<Plan<"result">>];
    plans.delete(oldest);
    dropped.then((each) => each.dispose()).catch(() => undefined);
  }
  try {
    return await plan;
  } catch (error) {
    plans.delete(key);
    throw error;
  }
}

function dtypeOf({ data, shape }: Tensor): DType {
  const found = (Object.keys(arrayOf) as DType[]).find((dtype) => data instanceof arrayOf[dtype]);
  if (found === undefined)
    throw new ShapeError(
      `a tensor's data must be a Float32Array, Uint8Array or Int32Array, found ${String((data as TypedArray | undefined)?.constructor.name)}`,
    );
  if (!Array.isArray(shape) || elements(shape) !== data.length)
    throw new ShapeError(
      `a tensor of shape [${String(shape)}] needs ${counted(elements(shape), "element")}, found ${data.length}`,
    );
  return found;
}

function isTensor(value: unknown): value is Tensor {
  return typeof value === "object" && value !== null && "data" in value && "shape" in value;
}

/** A copy of nested arguments with every tensor replaced. */
function replaceTensors(value: unknown, replace: (tensor: Tensor) => unknown): unknown {
  if (isTensor(value)) return replace(value);
  if (ArrayBuffer.isView(value))
    throw new ShapeError(
      `a tensor is { data, shape }, found a bare ${value.constructor.name}: say { data, shape: [...] }`,
    );
  if (Array.isArray(value)) return value.map((each) => replaceTensors(each, replace));
  if (typeof value !== "object" || value === null || value instanceof State || "graph" in value) return value;
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, replaceTensors(each, replace)]));
}

function replacePlaceholders(value: unknown, replace: (index: number) => Value): unknown {
  if (Array.isArray(value)) return value.map((each) => replacePlaceholders(each, replace));
  if (typeof value !== "object" || value === null) return value;
  if ("placeholder" in value) return replace(value.placeholder as number);
  return Object.fromEntries(
    Object.entries(value).map(([key, each]) => [key, replacePlaceholders(each, replace)]),
  );
}

/** Makes the addon ready, so that a server fails at its start rather than at its first request. */
export function ready(): string {
  return openDevice().describe();
}
