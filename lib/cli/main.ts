#!/usr/bin/env node
import { readFileSync } from "node:fs";
import { commands } from "./commands/index.ts";
import { processContext } from "./context.ts";
import { runCli } from "./run.ts";

const packageFile = new URL("../../package.json", import.meta.url);
const { version } = JSON.parse(readFileSync(packageFile, "utf8")) as { version: string };
process.exitCode = await runCli(commands, process.argv.slice(2), processContext(version));
