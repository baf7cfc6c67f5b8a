import type { Command } from "../arguments.ts";
import { bench } from "./bench.ts";
import { demo } from "./demo.ts";
import { doctor } from "./doctor.ts";
import { efficiency } from "./efficiency.ts";
import { evaluate } from "./evaluate.ts";
import { exportCommand } from "./export.ts";
import { phantom } from "./phantom.ts";
import { predict } from "./predict.ts";
import { summary } from "./summary.ts";
import { train } from "./train.ts";

/** The commands in the order in which the overview lists them. */
export const commands: readonly Command[] = [
  demo,
  train,
  predict,
  evaluate,
  exportCommand,
  efficiency,
  summary,
  phantom,
  doctor,
  bench,
];
