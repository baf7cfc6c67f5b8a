import { gradients } from "../autograd/gradients.ts";
import { planOnly } from "../compile/compile.ts";
import type { Graph } from "../graph/graph.ts";
import { relu } from "../ops/activation.ts";
import { sum } from "../ops/arithmetic.ts";
import { conv3d } from "../ops/conv.ts";
import { batchNorm } from "../ops/norm.ts";
import { type Device, precisions } from "../runtime/device.ts";

/** Kernels around a batch norm, as `doctor` calls them. */
const meanings: Readonly<Record<string, string>> = {
  conv3dPackedMoments: "convolution",
  normalizeReluConv3dPackedMoments: "normalised on load",
  normalizeReluConv3dWeightGradient: "weight gradient, normalised on load",
};

/**
 * Which of its graphs around a batch norm cuDNN has engines for, in volumes of 16 channels: a line for each precision. A device without
 * cuDNN has no line.
 */
export function describeCudnnGraphs(device: Device): string[] {
  if (!/, cuDNN [\d.]+$/.test(device.describe())) return [];
  return precisions.map((precision) => {
    const found = planOnly(trace, { device, precision, tune: "off" }).layout.steps.flatMap(({ spec }) => {
      const ways = spec.kernel in meanings ? device.native.ways(spec) : [];
      return ways
        .filter((way) => way.startsWith("cuDNN"))
        .map((way) => `${meanings[spec.kernel]}${way.includes(" with sums") ? " with sums" : ""}`);
    });
    return `${precision.padEnd(4)} ${found.length > 0 ? [...new Set(found)].join("; ") : "nothing"}`;
  });
}

/** Two convolutions with batch norms behind them, and the weight gradient of the second one. */
function trace(graph: Graph) {
  const channels = [16];
  const [x, first, second] = [
    graph.input("x", [1, 32, 32, 32, 16]),
    graph.input("first", [16, 3, 3, 3, 16]),
    graph.input("second", [16, 3, 3, 3, 16]),
  ];
  const [gamma, beta] = [graph.input("gamma", channels), graph.input("beta", channels)];
  const normalized = (source: typeof x) => relu(batchNorm(source, gamma, beta).y);
  const y = normalized(conv3d(normalized(conv3d(x, first, { padding: 1 })), second, { padding: 1 }));
  return { y, dw: gradients(sum(y), [second])[0] };
}
