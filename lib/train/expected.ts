import type { z } from "zod";
import { counted } from "../errors.ts";

const kinds: Readonly<Record<string, string>> = {
  int: "a whole number",
  number: "a number",
  string: "text",
  boolean: "true or false",
  array: "a list",
  tuple: "a list",
  object: "an object",
  record: "an object",
};

/** What a value that a schema refuses should have been, in voxgrad's words; undefined leaves it to zod. */
export const expected: z.core.$ZodErrorMap = (issue) => {
  if (issue.code === "invalid_type") return `expected ${kinds[issue.expected] ?? issue.expected}`;
  if (issue.code === "invalid_value")
    return `expected one of ${issue.values.map((value) => JSON.stringify(value)).join(", ")}`;
  if (issue.code === "too_small")
    return bound(issue.origin, issue.inclusive === false ? "above" : "at least", Number(issue.minimum));
  if (issue.code === "too_big")
    return bound(issue.origin, issue.inclusive === false ? "below" : "at most", Number(issue.maximum));
  if (issue.code === "unrecognized_keys") return `expected nothing called ${issue.keys.join(", ")}`;
  return undefined;
};

function bound(origin: string, relation: string, limit: number): string {
  if (origin === "array") return `expected ${relation} ${counted(limit, "item")}`;
  return `expected a number ${relation.startsWith("at") ? "of " : ""}${relation} ${limit}`;
}
