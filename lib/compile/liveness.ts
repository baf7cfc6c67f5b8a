import type { Graph } from "../graph/graph.ts";
import { byteLength, type TensorType, type Value } from "../graph/value.ts";
import { opOf } from "../ops/define.ts";
import { labelOf } from "./describe.ts";
import { operandsOf, type Schedule } from "./schedule.ts";

/** A tensor of the arena while it is being planned; in-place results share the one of their operand. */
export interface Life {
  readonly label: string;
  readonly type: TensorType;
  first: number;
  last: number;
}

/** When each value that lies in the arena is first and last needed; what the prologue computes, from run to run. */
export function liveness(graph: Graph, { steps, prologue }: Schedule): Map<Value, Life> {
  const end = steps.length;
  const lastUse = new Map<Value, number>();
  for (const [index, step] of steps.entries())
    for (const input of operandsOf(step)) lastUse.set(input, index);
  for (const value of graph.outputs.values()) lastUse.set(value, end);

  const lives = new Map<Value, Life>();
  for (const [name, value] of graph.inputs)
    lives.set(value, { label: `input ${name}`, type: value, first: -1, last: lastUse.get(value) ?? -1 });
  for (const [index, { node, state, copy, joined }] of steps.entries()) {
    if (copy || state !== undefined) continue;
    for (const value of joined?.values ?? [])
      lives.set(value, {
        label: labelOf(value),
        type: value,
        first: index,
        last: lastUse.get(value) ?? index,
      });
    const last = lastUse.get(node) ?? index;
    if (index < prologue) {
      lives.set(node, { label: labelOf(node), type: node, first: -1, last: end });
      continue;
    }
    const operand = node.inputs[opOf(node)?.inPlace ?? -1];
    const shared = operand === undefined ? undefined : lives.get(operand);
    if (
      shared !== undefined &&
      shared.last === index &&
      byteLength(shared.type) === byteLength(node) &&
      isOnlyUse(node, operand)
    ) {
      shared.last = last;
      lives.set(node, shared);
    } else {
      lives.set(node, { label: labelOf(node), type: node, first: index, last });
    }
  }
  return lives;
}

function isOnlyUse(node: Value, operand: Value): boolean {
  return node.inputs.filter((input) => input === operand).length === 1;
}
