import type { Graph } from "../graph/graph.ts";
import { byteLength, type Value } from "../graph/value.ts";
import type { Device } from "../runtime/device.ts";
import { usersOf } from "./copy_graph.ts";
import type { Joined, Schedule, ScheduledStep } from "./schedule.ts";

/** As `segmentationLosses`, which join_losses.ts puts in, from what the logits are a 1x1x1 convolution of. */
const kernel = "headSegmentationLosses";
const mostClasses = 15;
const mostFeatures = 64;

/**
 * The same steps, but where the device has a kernel for it, the logits that only their losses read are computed as these
 * read them, and never written. So is the normalised activation before them that nothing else reads.
 */
export function joinHead(order: Schedule, graph: Graph, device: Device): Schedule {
  if (!device.native.kernels().includes(kernel)) return order;
  const users = usersOf(graph);
  const wanted = new Set([...graph.outputs.values(), ...graph.assignments.map(({ value }) => value)]);
  const isReadBy = (value: Value, readers: readonly Value[]) =>
    !wanted.has(value) && users.get(value)?.every((user) => readers.includes(user)) === true;
  return order.steps
    .filter(({ joined }) => joined?.kernel === "segmentationLosses")
    .reduce((result, losses) => withHead(result, losses, isReadBy), order);
}

function withHead(
  order: Schedule,
  losses: ScheduledStep,
  isReadBy: (value: Value, readers: readonly Value[]) => boolean,
): Schedule {
  const { values, operands, attributes } = losses.joined as Required<Joined>;
  const [logits, ...others] = operands;
  if (!isHead(logits) || !isReadBy(logits, [...values, losses.node])) return order;
  const [features, ...weights] = logits.inputs;
  const normalizes =
    features.op === "normalizeRelu" && features.inputs[1].shape[0] === 1 && isReadBy(features, [logits]);
  const within = normalizes ? [features, logits] : [logits];
  const { steps, prologue, firstUpdate } = order;
  const [from, to] = [steps.findIndex(({ node }) => within.includes(node)), steps.indexOf(losses)];
  // What the head reads has to live until then: it is larger than the logits.
  const between = steps.slice(from, to).filter(({ node }) => !within.includes(node));
  if (from < prologue || between.some(({ node }) => byteLength(node) > byteLength(logits))) return order;
  const joined: Joined = {
    kernel,
    values,
    within,
    operands: [...(normalizes ? features.inputs : [features]), ...weights, ...others],
    attributes: normalizes ? { ...attributes, epsilon: features.attributes.epsilon } : attributes,
  };
  const all = [...steps.slice(0, from), ...between, { ...losses, joined }, ...steps.slice(to + 1)];
  return { steps: all, prologue, firstUpdate: firstUpdate - within.length };
}

/** A convolution to a few channels that kernels read as a row of numbers for each voxel. */
function isHead({ op, inputs: [features, , bias], attributes, shape, dtype }: Value): boolean {
  const {
    kernel: taps,
    stride,
    padding,
    groups,
    inputGradient,
  } = attributes as Record<string, readonly number[]>;
  const channels = features?.shape.at(-1) as number;
  return (
    op === "conv3dPacked" &&
    dtype === "f32" &&
    bias !== undefined &&
    !Boolean(inputGradient) &&
    Number(groups) === 1 &&
    [...taps, ...stride].every((extent) => extent === 1) &&
    padding.every((extent) => extent === 0) &&
    shape[4] <= mostClasses &&
    channels <= mostFeatures &&
    channels % 8 === 0
  );
}
