/** Steps whose tensors begin at any number, not only where a device moves several at once: the same bits. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { elements } from "../../lib/graph/value.ts";
import { openDevice, whyNot } from "../../lib/runtime/device.ts";
import type { StepSpec } from "../../lib/runtime/native.ts";
import { random } from "../ops/harness.ts";
import { runStep } from "./run_step.ts";

const device = openDevice(whyNot("cuda") === undefined ? "cuda" : "emulator");
const x = [1, 2, 3, 5, 8];
const pairs = [1, 8, 2];
const steps: [kernel: string, inputs: number[][], attributes: StepSpec["attributes"], output?: number[]][] = [
  ["normalizeReluAdd", [x, pairs, [8], [8], x], {}],
  ["normalizeInputGradient", [x, pairs, [8], pairs, x, [8]], { batch: true, relu: true }],
  ...[2, 4, 8, 16].flatMap((channels): typeof steps => {
    const rows = [1, 3, 5, 7, channels];
    return [
      ["softmaxGradient", [rows, rows], { temperature: 0.5 }],
      ["softmaxDistance", [rows, rows], { temperature: 0.5 }, []],
    ];
  }),
];

for (const [kernel, shapes, attributes, output = shapes[0]] of steps)
  test(`${kernel} of ${shapes[0].at(-1)} channels on ${device.name}`, async () => {
    const place = (shape: number[]) => ({ dtype: "f32", shape, offset: 0 }) as const;
    const step = {
      kernel,
      label: kernel,
      inputs: shapes.map(place),
      output: place(output),
      attributes: { ...attributes, epsilon: 1e-5 },
    };
    // Variances are not negative.
    const data = shapes.map((shape, i) => Float32Array.from(random(elements(shape), i + 1), Math.abs));
    const [[aligned], [shifted]] = [await runStep(device, step, data), await runStep(device, step, data, 4)];
    assert.equal(new Float32Array(shifted), new Float32Array(aligned));
  });

test.run();
