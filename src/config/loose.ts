/** Values of a configuration that may be wrong: what has not the right type counts as empty, the schema has said so. */

export type Loose = Record<string, unknown>;

export function isMap(value: unknown): value is Loose {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export const mapOf = (value: unknown): Loose => (isMap(value) ? value : {});

export const listOf = (value: unknown): unknown[] => (Array.isArray(value) ? value : []);
