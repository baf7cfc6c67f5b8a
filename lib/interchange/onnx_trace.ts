import { UsageError } from "../errors.ts";
import { Graph } from "../graph/graph.ts";
import { sameShape, type Value } from "../graph/value.ts";

/** A computation to export: what it makes of an image `[N, D, H, W, channels]`. */
export interface OnnxSource {
  /** Adds it to the graph of the image. Called for images of different extents. */
  readonly trace: (image: Value) => Value;
  readonly channels: number;
  /** What D, H and W must be multiples of. */
  readonly divisor: readonly number[];
}

/**
 * One computation traced at two extents. A graph knows only numbers; where the two differ, a number follows from the
 * extents of the image, and where they are equal, it is fixed.
 */
export class TwoTraces {
  readonly image: Value;
  readonly output: Value;
  /** What the output needs, in the order in which it was traced. */
  readonly values: readonly Value[];
  private readonly twins: ReadonlyMap<Value, Value>;

  /** Throws UsageError when the two traces have different ops. */
  constructor({ trace, channels, divisor }: OnnxSource) {
    const [first, second] = [
      [2, 2, 3, 5],
      [3, 3, 5, 7],
    ].map(([count, ...multiples]) => {
      const graph = new Graph();
      const extents = multiples.map((multiple, axis) => multiple * divisor[axis]);
      const image = graph.input("image", [count, ...extents, channels]);
      return { image, output: trace(image), nodes: graph.nodes };
    });
    this.image = first.image;
    this.output = first.output;
    const needed = reached(first.output);
    this.values = first.nodes.filter((value) => needed.has(value));
    this.twins = new Map(first.nodes.map((value, index) => [value, second.nodes[index]]));
    if (!sameOps(first.nodes, second.nodes))
      throw new UsageError("ONNX export: the network has other ops at other extents of its image");
  }

  /** The same value at the other extents. */
  twin(value: Value): Value {
    return this.twins.get(value) as Value;
  }

  /** A value before this one that has its depth, height and width, at either extents. */
  sizedLike(value: Value): Value | undefined {
    const alike = (one: Value, other: Value) => sameShape(one.shape.slice(1, 4), other.shape.slice(1, 4));
    const twin = this.twin(value);
    return this.values.find(
      (other) =>
        other.id < value.id && other.op !== "state" && alike(other, value) && alike(this.twin(other), twin),
    );
  }
}

function reached(output: Value): Set<Value> {
  const found = new Set<Value>();
  const open = [output];
  for (let value = open.pop(); value !== undefined; value = open.pop()) {
    if (found.has(value)) continue;
    found.add(value);
    open.push(...value.inputs);
  }
  return found;
}

function sameOps(first: readonly Value[], second: readonly Value[]): boolean {
  return first.length === second.length && first.every(({ op }, index) => op === second[index].op);
}
