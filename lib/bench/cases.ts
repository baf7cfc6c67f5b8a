import { existsSync, readdirSync } from "node:fs";
import { basename, join } from "node:path";
import { nearest, UsageError } from "../errors.ts";
import { asppPeer, asppWork, prepareAspp, readAsppShapes } from "./aspp.ts";
import { convWork, passes, prepareConv, readConvShapes } from "./conv.ts";
import { prepareLoss, readLossShapes } from "./loss.ts";
import type { Work } from "./machine.ts";
import { benchFolder, type Peer, type Task } from "./peers.ts";
import { prepareStep, readStepShapes, type StepShape } from "./step.ts";
import type { Target } from "./target.ts";
import type { Contender } from "./turns.ts";

export const modes = ["conv", "aspp", "loss", "step", "memory", "profile"] as const;
/** Modes whose rows are measured against peers, in turns. */
export type TimedMode = Exclude<Mode, "memory" | "profile">;
export type Mode = (typeof modes)[number];

/** One row to measure. */
export interface Case {
  /** Name of the list that it stands in. */
  readonly list: string;
  readonly name: string;
  readonly pass: string;
  /** How often it counts in the total of its list. */
  readonly count: number;
  /** A peer that does the same. */
  rival(peer: Peer): Contender;
  prepare(target: Target, signal: AbortSignal): Promise<Prepared>;
}

export interface Prepared extends Disposable {
  readonly contender: Contender;
  /** Other ways of voxgrad to do the same, measured like peers. */
  readonly others?: readonly Contender[];
  readonly work: Work;
  /** Milliseconds of packing weights, which the times leave out. */
  readonly packing?: number;
}

const lists: Readonly<Record<Mode, readonly string[]>> = {
  conv: ["vnet", "resvnet", "deeplab2d"],
  aspp: ["aspp"],
  loss: ["loss"],
  step: ["steps"],
  memory: ["steps"],
  profile: ["steps"],
};

/**
 * The files behind `--shapes`: each is a path, or the name of a list of the package; those of the mode when none is given.
 *
 * @throws {UsageError} for what is neither.
 */
export function findLists(mode: Mode, given: readonly string[]): string[] {
  const folder = join(benchFolder, "shapes");
  return (given.length > 0 ? given : lists[mode]).map((name) => {
    if (existsSync(name)) return name;
    const path = join(folder, `${name}.txt`);
    if (existsSync(path)) return path;
    const names = existsSync(folder) ? readdirSync(folder).map((file) => basename(file, ".txt")) : [];
    const hint = nearest(name, names);
    throw new UsageError(
      `--shapes: there is no file ${name}, and no list of that name${hint === undefined ? "" : `; did you mean ${hint}?`} (lists: ${names.join(", ")})`,
    );
  });
}

/** Every row of the lists. Throws `DataError` naming the line that is wrong. */
export function casesOf(mode: TimedMode, files: readonly string[]): Case[] {
  return files.flatMap((file) => casesIn[mode](file, basename(file, ".txt")));
}

/** The steps of the lists, for the mode that runs each in a process of its own. */
export function stepsOf(files: readonly string[]): StepShape[] {
  return files.flatMap(readStepShapes);
}

const casesIn: Readonly<Record<TimedMode, (file: string, list: string) => Case[]>> = {
  conv: (file, list) =>
    readConvShapes(file).flatMap((shape) =>
      passes.map((pass) => ({
        list,
        name: shape.name,
        pass,
        count: shape.count,
        rival: rivalBy({ mode: "conv", pass, shape }),
        async prepare(target, signal) {
          const conv = await prepareConv(shape, pass, target, signal);
          return {
            contender: conv.contender,
            others: conv.others,
            work: convWork(shape, target.precision),
            packing: conv.packing,
            [Symbol.dispose]: () => conv[Symbol.dispose](),
          };
        },
      })),
    ),
  aspp: (file, list) =>
    readAsppShapes(file).flatMap((shape) =>
      passes.map((pass) => ({
        list,
        name: shape.name,
        pass,
        count: 1,
        rival: (peer) =>
          asppPeer(
            peer,
            { mode: "aspp", pass, shape },
            shape.branches.map((branch) => ({ mode: "conv", pass, shape: branch })),
          ),
        async prepare(target, signal) {
          const aspp = await prepareAspp(shape, pass, target, signal);
          return {
            contender: aspp.fused,
            others: [aspp.apart],
            work: asppWork(shape),
            packing: aspp.packing,
            [Symbol.dispose]: () => aspp[Symbol.dispose](),
          };
        },
      })),
    ),
  loss: (file, list) =>
    readLossShapes(file).map((shape) => ({
      list,
      name: shape.name,
      pass: "loss and gradient",
      count: 1,
      rival: rivalBy({ mode: "loss", ...shape }),
      async prepare(target, signal) {
        const loss = await prepareLoss(shape, target, signal);
        return prepared(loss, loss.work);
      },
    })),
  step: (file, list) =>
    readStepShapes(file).map((shape) => ({
      list,
      name: shape.name,
      pass: "training step",
      count: 1,
      rival: rivalBy({ mode: "step", ...shape }),
      async prepare(target, signal) {
        const step = await prepareStep(shape, target, signal);
        // The traffic of a step depends on the plan; its roof is that of the arithmetic.
        return prepared(step, { flop: step.plan.flops, validFlop: step.plan.flops, bytes: 0 });
      },
    })),
};

const rivalBy = (task: Task) => (peer: Peer) => peer.contender(task);

function prepared(contender: Contender & Disposable, work: Work): Prepared {
  return { contender, work, [Symbol.dispose]: () => contender[Symbol.dispose]() };
}
