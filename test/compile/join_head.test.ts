/** Where the compiler joins a network's last convolution with its losses, and where it leaves it alone. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { gradients } from "../../lib/autograd/gradients.ts";
import { planOnly } from "../../lib/compile/compile.ts";
import type { Graph } from "../../lib/graph/graph.ts";
import type { Value } from "../../lib/graph/value.ts";
import { relu } from "../../lib/ops/activation.ts";
import { argmax } from "../../lib/ops/argmax.ts";
import { conv3d, type ConvOptions } from "../../lib/ops/conv.ts";
import { batchNormEval } from "../../lib/ops/norm.ts";
import { segmentationLosses } from "../../lib/ops/segmentation.ts";
import { openDevice, whyNot } from "../../lib/runtime/device.ts";

const reason = whyNot("emulator");
if (reason !== undefined) test(`skipped: ${reason}`, () => console.log(`skipped: ${reason}`));
const device = openDevice(reason === undefined ? "emulator" : "cpu");
const kernel = "headSegmentationLosses";

function emulated(name: string, run: () => void): void {
  if (reason === undefined) test(name, run);
}

emulated("logits that others read, and heads that it cannot compute, are left as they were", () => {
  interface Head {
    classes?: number;
    features?: number;
    extent?: number;
    options?: ConvOptions;
    biased?: boolean;
    and?: (logits: Value, graph: Graph) => Record<string, Value>;
  }
  const kernels = ({ classes = 2, features = 16, extent = 1, options, biased = true, and }: Head) => {
    const plan = planOnly(
      (graph) => {
        const x = graph.input("x", [1, 2, 4, 4, features]);
        const w = graph.input("w", [classes, extent, extent, extent, features]);
        const bias = biased ? graph.input("bias", [classes]) : undefined;
        const logits = conv3d(x, w, { ...options, bias });
        const others = and?.(logits, graph) ?? {};
        const labels = graph.input("labels", logits.shape.slice(0, 4), "u8");
        const { crossEntropy } = segmentationLosses(logits, labels);
        return { ...others, gradient: gradients(crossEntropy, [w])[0] };
      },
      { device },
    );
    return plan.layout.steps.map(({ spec }) => spec.kernel);
  };
  assert.ok(kernels({}).includes(kernel));
  assert.ok(kernels({ classes: 15, features: 64 }).includes(kernel));
  const large = (logits: Value, graph: Graph) => {
    const { shape } = logits;
    return { between: relu(graph.input("large", [...shape.slice(0, 4), 2 * shape[4]])) };
  };
  for (const [why, head] of Object.entries<Head>({
    "the prediction reads them": { and: (logits) => ({ best: argmax(logits) }) },
    "they are a result": { and: (logits) => ({ logits }) },
    "something larger is made before the losses": { and: large },
    "many classes": { classes: 16 },
    "many features": { features: 72 },
    "features that are no rows of 16 bytes": { features: 12 },
    "no bias": { biased: false },
    "more than one tap": { extent: 3, options: { padding: 1 } },
    "a stride": { options: { stride: 2 } },
    padding: { options: { padding: 1 } },
  })) {
    const found = kernels(head);
    assert.ok(found.includes("segmentationLosses"), why);
    assert.not.ok(found.includes(kernel), why);
  }
});

emulated("features whose gradient of weights reads them are normalised by a step of their own", () => {
  const plan = planOnly(
    (graph) => {
      const [gamma, beta] = [graph.input("gamma", [16]), graph.input("beta", [16])];
      const source = graph.input("x", [1, 2, 4, 4, 16]);
      const x = relu(batchNormEval(source, graph.input("running", [1, 16, 2]), gamma, beta));
      const w = graph.input("w", [2, 1, 1, 1, 16]);
      const logits = conv3d(x, w, { bias: graph.input("bias", [2]) });
      const { crossEntropy } = segmentationLosses(logits, graph.input("labels", [1, 2, 4, 4], "u8"));
      return { gradient: gradients(crossEntropy, [w])[0] };
    },
    { device },
  );
  const kernels = plan.layout.steps.map(({ spec }) => spec.kernel);
  assert.ok(kernels.includes("normalizeRelu") && kernels.includes(kernel), kernels.join(" "));
});

test.run();
