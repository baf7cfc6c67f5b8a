import { VoxgradError } from "../errors.ts";
import type { TensorType, Value } from "../graph/value.ts";
import type { StepSpec, TensorSpec } from "../runtime/native.ts";
import { operandsOf, type ScheduledStep } from "./schedule.ts";

/** What messages and printed plans call a node. */
export function labelOf(node: Value): string {
  return node.scope === "" ? `${node.op} #${node.id}` : `${node.op} #${node.id} in ${node.scope}`;
}

/** A step as the device knows it, before its tensors have places. */
export function describe(step: ScheduledStep): StepSpec {
  const { node, state, copy, joined, updates, packed, averages } = step;
  const bare = ({ dtype, shape }: TensorType): TensorSpec => ({ dtype, shape, offset: 0 });
  if (copy)
    return {
      kernel: "copy",
      label: `copy to ${state?.name}`,
      inputs: [bare(node)],
      output: bare(node),
      attributes: {},
    };
  const made = [...(joined?.within ?? []), node].map(labelOf).join(", ");
  const label = state === undefined ? made : `${made} to ${state.name}`;
  const tensors = { inputs: operandsOf(step).map(bare), output: bare(node) };
  if (averages !== undefined)
    return {
      kernel: "emas",
      label: `ema of ${averages.map((each) => each.state?.name).join(", ")}`,
      ...tensors,
      attributes: { ...node.attributes, fed: Number(node.inputs.length > 2) },
    };
  if (updates === undefined)
    return {
      kernel: joined?.kernel ?? node.op,
      label,
      ...tensors,
      attributes: { ...node.attributes, ...joined?.attributes },
    };
  return {
    kernel: packed === undefined ? "sgd" : "sgdPacked",
    label: `sgd of ${updates.map(({ parameter }) => parameter.state?.name).join(", ")}`,
    ...tensors,
    attributes: packed === undefined ? node.attributes : { ...node.attributes, copies: copiesOf(step) },
  };
}

/** Of each packed weight that updates write: the number of its parameter, whether it is for input gradients, its groups. */
function copiesOf({ updates = [], packed = [] }: ScheduledStep): number[] {
  const weights = updates.map(({ parameter }) => parameter.node.inputs[0]);
  return packed.flatMap(({ inputs, attributes }) => [
    weights.indexOf(inputs[0]),
    Number(attributes.inputGradient),
    attributes.groups as number,
  ]);
}

/** What the device says about a step; what it refuses is thrown with the step's name. */
export function ask<T>(spec: StepSpec, question: (spec: StepSpec) => T): T {
  try {
    return question(spec);
  } catch (error) {
    const { code, message } = error as { code?: string; message: string };
    throw new VoxgradError(code ?? "ERR_PLAN", `${spec.label}: ${message}`, { cause: error });
  }
}
