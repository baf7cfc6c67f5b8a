import type { Graph } from "../graph/graph.ts";
import type { Value } from "../graph/value.ts";
import type { Device } from "../runtime/device.ts";
import { usersOf } from "./copy_graph.ts";
import type { Schedule, ScheduledStep } from "./schedule.ts";

/** The kernel that makes the sums of a segmentation's losses and, in the same launch, the gradient of the logits. */
const kernel = "segmentationLosses";
const mostTerms = 8;

/**
 * The same steps, but where the device has a kernel for it, the gradient of the logits is made together with the sums that
 * the losses are computed from: the slopes of the losses in these sums need no steps of their own then.
 */
export function joinLosses(order: Schedule, graph: Graph, device: Device): Schedule {
  if (!device.native.kernels().includes(kernel)) return order;
  const users = usersOf(graph);
  const wanted = new Set([...graph.outputs.values(), ...graph.assignments.map(({ value }) => value)]);
  const isWithin = (nodes: ReadonlySet<Value>) => (node: Value) =>
    !wanted.has(node) && users.get(node)?.every((user) => nodes.has(user)) === true;
  return order.steps
    .slice(order.prologue, order.firstUpdate)
    .filter(({ node }) => node.op === "segmentationSumsGradient")
    .reduce((result, { node }) => joined(result, node, isWithin), order);
}

function joined(
  order: Schedule,
  node: Value,
  isWithin: (nodes: ReadonlySet<Value>) => (node: Value) => boolean,
): Schedule {
  const { steps, prologue, firstUpdate } = order;
  const [logits, labels, slopes, ...mask] = node.inputs;
  const operands = [logits, labels, ...mask];
  const at = steps.findIndex(({ node: sums }) => areSums(sums, operands, node));
  const parts = partsOf(slopes);
  const terms = parts.filter(({ op }) => op !== "add");
  const replaced = new Set([...parts, node]);
  if (
    at < 0 ||
    terms.length > mostTerms ||
    !terms.every(({ op, inputs }) => op in numbersOf && inputs[0] === steps[at].node) ||
    !parts.every(isWithin(replaced))
  )
    return order;
  const factors = terms.map(({ inputs }) => inputs[1]);
  const before = new Set(factors.flatMap((factor) => ancestorsOf(factor)));
  if (before.has(steps[at].node)) return order;
  const step: ScheduledStep = {
    node,
    copy: false,
    joined: {
      kernel,
      values: [steps[at].node],
      operands: [logits, labels, ...factors, ...mask],
      attributes: { terms: terms.flatMap(({ op, attributes }) => numbersOf[op](attributes)) },
    },
  };
  const later = steps.slice(at + 1, firstUpdate).filter((each) => !replaced.has(each.node));
  const makes = (each: ScheduledStep) =>
    [each.node, ...(each.joined?.values ?? [])].some((made) => before.has(made));
  const all = [...steps.slice(0, at), ...later.filter(makes), step, ...later.filter((each) => !makes(each))];
  return { steps: [...all, ...steps.slice(firstUpdate)], prologue, firstUpdate: all.length };
}

const areSums = (sums: Value, operands: readonly Value[], { attributes }: Value): boolean =>
  sums.op === "segmentationSums" &&
  sums.inputs.length === operands.length &&
  sums.inputs.every((input, i) => input === operands[i]) &&
  sums.attributes.squared === attributes.squared &&
  sums.attributes.background === attributes.background;

/** What is added to make a value, and the sums on the way. */
const partsOf = (value: Value): Value[] =>
  value.op === "add" ? [value, ...value.inputs.flatMap(partsOf)] : [value];

function ancestorsOf(value: Value, found = new Set<Value>()): Value[] {
  if (!found.has(value)) {
    found.add(value);
    for (const input of value.inputs) ancestorsOf(input, found);
  }
  return [...found];
}

/** A gradient of a loss in the sums as the kernel reads it: whether of Dice, row or classes, smooth, background, perSample. */
const numbersOf: Readonly<Record<string, (attributes: Value["attributes"]) => number[]>> = {
  ratioOfSumsGradient: ({ row }) => [0, Number(row), 0, 0, 0],
  diceOfSumsGradient: ({ classes, smooth, background, perSample }) => [
    1,
    ...[classes, smooth, background, perSample].map(Number),
  ],
};
