import type { Command } from "../arguments.ts";
import { phantom } from "./phantom.ts";
import { train } from "./train.ts";

/** The commands in the order in which the overview lists them. */
export const commands: readonly Command[] = [train, phantom];
