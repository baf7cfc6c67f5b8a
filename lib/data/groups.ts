import { UsageError } from "../errors.ts";

/** From a case's id to its group: the patient, say, of whom it is one slice. */
export type Grouping = (id: string) => string;

/**
 * The grouping by a regular expression over ids: what its first group captures, or all that it matches when it
 * has none. `null` makes every case a group of its own. The grouping throws UsageError for an id that does not
 * match.
 */
export function grouping(pattern: string | null): Grouping {
  if (pattern === null) return (id) => id;
  const expression = new RegExp(pattern);
  return (id) => {
    const match = expression.exec(id);
    const group = match?.[1] ?? match?.[0];
    if (!group)
      throw new UsageError(`setting "group": ${pattern} finds no group in the name of case "${id}"`);
    return group;
  };
}

/** The groups of some cases, each once, in the order of the cases. */
export function groupsOf(ids: readonly string[], group: Grouping): string[] {
  return [...new Set(ids.map(group))];
}
