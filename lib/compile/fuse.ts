import type { Graph } from "../graph/graph.ts";
import { type Attributes, sameShape, type Value } from "../graph/value.ts";
// Defines the ops that are put in here by name.
import "../ops/norm_fused.ts";
import { copyGraph, remake, usersOf } from "./copy_graph.ts";

/** What is computed in a node's place, from values of the graph as it was. */
interface Replacement {
  readonly op: string;
  readonly inputs: readonly Value[];
  readonly attributes: Attributes;
}

/**
 * Puts fused ops in the place of chains that pass over memory more often than they need to. Where nothing else reads
 * what lies between,
 *
 * - `relu(normalize(x))` becomes `normalizeRelu`; with an addition behind or between, `normalizeReluAdd` and
 *   `normalizeAddRelu`; the sum of two is `normalizeReluSum`, whatever else reads the second;
 * - the gradient of such a ReLU is taken inside that of the normalisation.
 */
export function fuse(graph: Graph): Graph {
  const fusion = new Fusion(graph);
  for (const node of graph.nodes) if (node.op === "reluGradient") fusion.gradient(node);
  for (const node of graph.nodes) if (node.op === "relu") fusion.forward(node);
  return fusion.result();
}

class Fusion {
  private readonly graph: Graph;
  private readonly users: Map<Value, Value[]>;
  private readonly kept: Set<Value>;
  private readonly replaced = new Map<Value, Replacement>();

  constructor(graph: Graph) {
    this.graph = graph;
    this.users = usersOf(graph);
    this.kept = new Set([...graph.outputs.values(), ...graph.assignments.map(({ value }) => value)]);
  }

  /** Takes `reluGradient(relu(normalize(x)), dy)` into the two passes of the gradient of `normalize`. */
  gradient(node: Value): void {
    const [y, dy] = node.inputs;
    const normalized = y.op === "relu" ? y.inputs[0] : undefined;
    if (normalized?.op !== "normalize" || this.kept.has(node)) return;
    const [x, moments, gamma, beta] = normalized.inputs;
    const users = this.users.get(node) as Value[];
    const fits = (user: Value) =>
      (user.op === "normalizeGradientSums" || user.op === "normalizeInputGradient") &&
      user.inputs[0] === x &&
      user.inputs[1] === moments &&
      user.attributes.epsilon === normalized.attributes.epsilon &&
      user.attributes.relu === false;
    if (!users.every(fits)) return;
    for (const user of users) {
      const inputs = user.inputs.map((input) => (input === node ? dy : input));
      const extra = user.op === "normalizeGradientSums" ? [gamma, beta] : [beta];
      const attributes = { ...user.attributes, relu: true };
      this.replaced.set(user, { op: user.op, inputs: [...inputs, ...extra], attributes });
    }
    this.users.set(
      y,
      (this.users.get(y) as Value[]).filter((user) => user !== node),
    );
  }

  /** Joins a ReLU with the normalisation before it, and an addition between or behind. */
  forward(node: Value): void {
    const [before] = node.inputs;
    if (before.op === "normalize" && this.onlyUser(before) === node) {
      const { inputs, attributes } = before;
      const behind = this.onlyUser(node);
      const residual = behind && this.otherAddend(behind, node);
      if (behind !== undefined && residual !== undefined)
        this.replaced.set(behind, this.sumOf(before, residual));
      else this.replaced.set(node, { op: "normalizeRelu", inputs, attributes });
    } else if (before.op === "add" && this.onlyUser(before) === node) {
      const normalized = before.inputs.find((x) => x.op === "normalize" && this.onlyUser(x) === before);
      const residual = normalized && this.otherAddend(before, normalized);
      if (normalized === undefined || residual === undefined) return;
      const { inputs, attributes } = normalized;
      this.replaced.set(node, { op: "normalizeAddRelu", inputs: [...inputs, residual], attributes });
    }
  }

  /** The ReLU of `normalized` plus `residual`, which is perhaps the ReLU of a normalisation itself. */
  private sumOf({ inputs, attributes }: Value, residual: Value): Replacement {
    const other = residual.op === "relu" ? residual.inputs[0] : residual;
    const joins =
      other !== residual &&
      other.op === "normalize" &&
      other.inputs[1].shape[0] === inputs[1].shape[0] &&
      other.attributes.epsilon === attributes.epsilon &&
      other.attributes.batch === attributes.batch;
    return joins
      ? { op: "normalizeReluSum", inputs: [...inputs, ...other.inputs], attributes }
      : { op: "normalizeReluAdd", inputs: [...inputs, residual], attributes };
  }

  result(): Graph {
    const inputsOf = (node: Value) => this.replaced.get(node)?.inputs ?? node.inputs;
    const live = new Set(this.kept);
    for (const node of [...this.graph.nodes].reverse())
      if (live.has(node)) for (const input of inputsOf(node)) live.add(input);
    const order = this.graph.nodes.filter((node) => live.has(node));
    return copyGraph(this.graph, order, (node, copyOf, to) =>
      remake(node, inputsOf(node).map(copyOf), to, this.replaced.get(node)),
    );
  }

  /** The one node that reads `value`, when nothing else needs it. */
  private onlyUser(value: Value): Value | undefined {
    const users = this.users.get(value) as Value[];
    return users.length === 1 && !this.kept.has(value) ? users[0] : undefined;
  }

  /** What `sum` adds to `value`, when it is an addition of two tensors of one shape that nothing has replaced. */
  private otherAddend(sum: Value, value: Value): Value | undefined {
    if (sum.op !== "add" || this.replaced.has(sum)) return undefined;
    const other = sum.inputs[sum.inputs[0] === value ? 1 : 0];
    return sameShape(other.shape, value.shape) ? other : undefined;
  }
}
