/** PROVISIONAL until src/mapping is here: the same questions, asked of a few regular expressions. */
export interface Wrong {
  readonly problem: string;
  readonly mend?: string;
}

export function checkTopicFilter(text: string): Wrong | undefined {
  const levels = text.split("/");
  for (const [index, level] of levels.entries()) {
    if (level.startsWith("#") && index < levels.length - 1) return { problem: "must have # at its end only" };
  }
  return undefined;
}

export function checkTemplate(text: string): Wrong | undefined {
  return /\$\{[^}]*$/.test(text) ? { problem: "has a ${ that is not closed" } : undefined;
}

export function literalOf(text: string): string | undefined {
  return text.includes("${") ? undefined : text;
}

export function checkMappingNames(_mapping: Record<string, unknown>): (Wrong & { path: string[] })[] {
  return [];
}
