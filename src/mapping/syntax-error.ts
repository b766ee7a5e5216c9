/** What is wrong with a rule's text, and where: the configuration turns it into file, line and column. */
import { closest, distance } from "fastest-levenshtein";
import { SluiceError } from "../errors.ts";

export class MappingSyntaxError extends SluiceError {
  /** Where in the text it goes wrong, counted in UTF-16 units from 0, as in `text[position]`. */
  readonly position: number;
  /** How many units are meant; at least 1, so that there is something to underline. */
  readonly length: number;
  /** The rule's field whose text it is, e.g. `["headers", "site"]`; empty when the text stands alone. */
  readonly path: readonly string[];

  constructor(
    message: string,
    position: number,
    options: { length?: number; mend?: string | undefined; path?: readonly string[] } = {},
  ) {
    super("MAPPING_SYNTAX", message, { exitCode: 78, mend: options.mend });
    this.position = position;
    this.length = Math.max(1, options.length ?? 1);
    this.path = options.path ?? [];
  }

  /** The same error, said of a field of a rule. */
  at(path: readonly string[]): MappingSyntaxError {
    return new MappingSyntaxError(this.message, this.position, {
      length: this.length,
      mend: this.mend,
      path,
    });
  }
}

/** `; did you mean "site"?`, where one is near enough to say so. */
export function didYouMean(name: string, known: readonly string[]): string {
  const near = known.length === 0 ? "" : closest(name, known);
  const isNear = near !== "" && distance(name, near) <= Math.max(1, name.length / 3);
  return isNear ? `; did you mean "${near}"?` : "";
}
