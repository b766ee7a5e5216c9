/**
 * MQTT topic filters (MQTT 3.1.1, section 4.7) with named wildcards: `sensors/+site/#rest`.
 *
 * A name after `+` or `#` makes what the wildcard matched usable in a rule's templates; without names a filter
 * is an ordinary MQTT filter, and the same class checks what subscribers ask for.
 */
import { MappingSyntaxError } from "./syntax-error.ts";

/** [MQTT-4.7.3-3] */
const MAX_BYTES = 65_535;
const NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;

export type Level =
  | { readonly kind: "literal"; readonly text: string }
  /** `+`: one level. */
  | { readonly kind: "one"; readonly name: string | undefined }
  /** `#`: the level above and all below it. */
  | { readonly kind: "rest"; readonly name: string | undefined };

export class TopicFilter {
  readonly text: string;
  readonly levels: readonly Level[];
  /** The named wildcards, in order. */
  readonly names: readonly string[];

  private constructor(text: string, levels: readonly Level[], names: readonly string[]) {
    this.text = text;
    this.levels = levels;
    this.names = names;
  }

  /** Throws `MappingSyntaxError` with the position of the first thing wrong. */
  static parse(text: string): TopicFilter {
    if (text === "") throw new MappingSyntaxError("a topic filter must not be empty", 0); // [MQTT-4.7.3-1]
    const zero = text.indexOf("\0");
    if (zero >= 0) throw new MappingSyntaxError("U+0000 is not allowed in a topic filter", zero); // [MQTT-4.7.3-2]
    if (Buffer.byteLength(text) > MAX_BYTES) {
      throw new MappingSyntaxError(`a topic filter has at most ${MAX_BYTES} bytes`, 0, {
        length: text.length,
      });
    }
    const parts = text.split("/");
    const levels: Level[] = [];
    const names: string[] = [];
    let position = 0;
    for (const [index, part] of parts.entries()) {
      const level = parseLevel(part, position);
      if (level.kind === "rest" && index < parts.length - 1) {
        throw new MappingSyntaxError("'#' must be the last level", position, {
          length: part.length,
          mend: "use + for one level in the middle",
        }); // [MQTT-4.7.1-2]
      }
      if (level.kind !== "literal" && level.name !== undefined) {
        if (names.includes(level.name)) {
          throw new MappingSyntaxError(`the wildcard name "${level.name}" is there twice`, position, {
            length: part.length,
          });
        }
        names.push(level.name);
      }
      levels.push(level);
      position += part.length + 1;
    }
    return new TopicFilter(text, levels, names);
  }

  /** Does an MQTT topic match? A wildcard in the first level never matches a leading `$` [MQTT-4.7.2-1]. */
  matches(mqttTopic: string): boolean {
    const given = mqttTopic.split("/");
    for (const [index, level] of this.levels.entries()) {
      if (level.kind !== "literal" && index === 0 && mqttTopic.startsWith("$")) return false;
      if (level.kind === "rest") return true;
      if (index >= given.length) return false;
      if (level.kind === "literal" && level.text !== given[index]) return false;
    }
    return given.length === this.levels.length;
  }

  /** Why an MQTT topic does not match, in words; undefined when it does. */
  mismatch(mqttTopic: string): string | undefined {
    if (this.matches(mqttTopic)) return undefined;
    const given = mqttTopic.split("/");
    if (mqttTopic.startsWith("$") && this.levels[0]?.kind !== "literal") {
      return `${this.text}: a wildcard in the first level matches no topic that begins with $`;
    }
    for (const [index, level] of this.levels.entries()) {
      if (index >= given.length) return `${this.text}: the topic ends after level ${index}`;
      if (level.kind === "literal" && level.text !== given[index]) {
        return `${this.text}: level ${index + 1} is "${given[index]}", not "${level.text}"`;
      }
    }
    return `${this.text}: the topic has ${given.length} levels, not ${this.levels.length}`;
  }

  /** What the named wildcards stand for in an MQTT topic that matches, in the order of `names`. */
  capture(mqttTopic: string): string[] {
    if (this.names.length === 0) return [];
    const given = mqttTopic.split("/");
    const captured: string[] = [];
    for (const [index, level] of this.levels.entries()) {
      if (level.kind === "literal" || level.name === undefined) continue;
      captured.push(level.kind === "one" ? (given[index] ?? "") : given.slice(index).join("/"));
    }
    return captured;
  }
}

function parseLevel(part: string, position: number): Level {
  const first = part[0];
  if (first === "+" || first === "#") {
    const name = part.slice(1);
    if (name === "") return { kind: first === "+" ? "one" : "rest", name: undefined };
    if (!NAME.test(name)) {
      throw new MappingSyntaxError(
        `"${name}" cannot name a wildcard: letters, digits and _ only, and no digit first`,
        position + 1,
        { length: name.length },
      );
    }
    return { kind: first === "+" ? "one" : "rest", name };
  }
  const wildcard = part.search(/[+#]/);
  if (wildcard >= 0) {
    throw new MappingSyntaxError(`'${part[wildcard]}' must begin its level`, position + wildcard, {
      mend: `a wildcard stands for whole levels: .../${part[wildcard]}/...`,
    }); // [MQTT-4.7.1-2], [MQTT-4.7.1-3]
  }
  return { kind: "literal", text: part };
}
