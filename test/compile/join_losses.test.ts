/** Losses of a segmentation and the gradient of its logits as one kernel, which CPU and GPU have. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { gradients } from "../../lib/autograd/gradients.ts";
import { compile } from "../../lib/compile/compile.ts";
import type { Graph } from "../../lib/graph/graph.ts";
import type { Value } from "../../lib/graph/value.ts";
import { add, mul, scale } from "../../lib/ops/arithmetic.ts";
import { ratioOfSums, segmentationLosses, segmentationLossesInSteps } from "../../lib/ops/segmentation.ts";
import { openDevice } from "../../lib/runtime/device.ts";
import { kernelDevice } from "../cuda/devices.ts";
import { expectClose, random } from "../ops/harness.ts";

const devices = [openDevice("cpu"), ...(kernelDevice.name === "cpu" ? [] : [kernelDevice])];

for (const device of devices) {
  for (const classes of [2, 3, 14, 17])
    test(`${device.name}: the gradient of ${classes} classes in the place of the logits`, async () => {
      const shape = [2, 3, 31, 47];
      const build = (all: typeof segmentationLosses) => (graph: Graph) => {
        const x = graph.input("x", [...shape, classes]);
        const { crossEntropy, dice } = all(scale(x, 2), graph.input("labels", shape, "u8"));
        const loss = add(crossEntropy, dice);
        return { loss, gradient: gradients(loss, [x])[0] };
      };
      using joined = await compile(build(segmentationLosses), { device });
      using apart = await compile(build(segmentationLossesInSteps), { device });
      const step = joined.layout.steps.find(({ spec }) => spec.kernel === "segmentationLosses");
      assert.ok(step !== undefined);
      assert.is(step.spec.output.offset, step.spec.inputs[1].offset);
      const voxels = shape.reduce((a, b) => a * b);
      const feed = {
        x: Float32Array.from(random(voxels * classes, 4)),
        labels: Uint8Array.from({ length: voxels }, (_, i) => (i * 7 + (i >> 5)) % (classes + 1)),
      };
      const [found, expected] = [await joined.run(feed), await apart.run(feed)];
      expectClose(found.loss, expected.loss, 1e-6, "loss");
      const scaled = (values: ArrayLike<number>) => Float64Array.from(values, (value) => value * voxels);
      expectClose(scaled(found.gradient), scaled(expected.gradient), 3e-6, "gradient");
    });

  test(`${device.name}: losses whose slopes depend on their sums, or are wanted themselves, keep their own kernels`, async () => {
    const kernels = async (build: (graph: Graph) => Record<string, Value>) => {
      using plan = await compile(build, { device });
      return plan.layout.steps.map(({ spec }) => spec.kernel);
    };
    const losses = (graph: Graph) => {
      const x = graph.input("x", [1, 2, 2, 2, 2]);
      return { x, ...segmentationLosses(x, graph.input("labels", [1, 2, 2, 2], "u8")) };
    };
    const squared = await kernels((graph) => {
      const { x, dice } = losses(graph);
      return { gradient: gradients(mul(dice, dice), [x])[0] };
    });
    assert.ok(squared.includes("segmentationSumsGradient"));
    const wanted = await kernels((graph) => {
      const { x, crossEntropy } = losses(graph);
      const [gradient, slopes] = gradients(crossEntropy, [x, crossEntropy.inputs[0]]);
      return { gradient, slopes };
    });
    assert.ok(wanted.includes("segmentationSumsGradient"));
    const plain = await kernels((graph) => {
      const { x, crossEntropy } = losses(graph);
      return { gradient: gradients(crossEntropy, [x])[0], other: ratioOfSums(crossEntropy.inputs[0], 0) };
    });
    assert.equal(
      plain.filter((name) => /^segmentation/.test(name)),
      ["segmentationLosses"],
    );
  });

  test(`${device.name}: terms that do not fit are refused`, () => {
    const place = (of: readonly number[], dtype: "f32" | "u8" = "f32") => ({ dtype, shape: of, offset: 0 });
    const [logits, labels, sums] = [place([1, 4, 3]), place([1, 4], "u8"), place([1, 5, 3])];
    const refuses = (terms: number[], inputs: ReturnType<typeof place>[], message: RegExp) =>
      assert.throws(
        () =>
          device.native.workspace({
            kernel: "segmentationLosses",
            label: "losses",
            inputs: [...inputs],
            output: logits,
            attributes: { squared: true, background: true, terms },
          }),
        message,
      );
    const scalar = place([]);
    refuses([0, 3, 0, 0], [sums, logits, labels, scalar], /terms are not valid/);
    refuses([0, 5, 0, 0, 0], [sums, logits, labels, scalar], /terms are not valid/);
    refuses([1, 4, 1, 0, 0], [sums, logits, labels, scalar], /terms are not valid/);
    refuses([0, 3, 0, 0, 0], [sums, logits, labels, place([2])], /expected 1 elements/);
    refuses([0, 3, 0, 0, 0], [place([1, 4, 3]), logits, labels, scalar], /expected 15 elements/);
    refuses([0, 3, 0, 0, 0], [sums, logits, labels, scalar, place([1, 5], "u8")], /expected 4 elements/);
  });
}

test.run();
