/**
 * Values under topic filters, found by MQTT topic: a trie over levels. It carries the mapping's rules, the
 * live subscriptions and those of sessions that are away.
 *
 * A look-up visits only nodes whose path matches, so its cost follows the depth and the matches, not the
 * number of filters. Levels are keys of Maps: `__proto__` is a level like any other.
 */
import type { Level } from "./topic-filter.ts";

/** Most nodes have one of these only; a Map or a Set that has nothing in it takes 200 bytes. */
interface Node<T> {
  children: Map<string, Node<T>> | undefined;
  /** Below `+`. */
  one: Node<T> | undefined;
  /** Values whose filter ends here. */
  values: Set<T> | undefined;
  /** Values whose filter ends here with `#`. */
  rest: Set<T> | undefined;
}

const newNode = <T>(): Node<T> => ({
  children: undefined,
  one: undefined,
  values: undefined,
  rest: undefined,
});

const isEmpty = <T>({ children, one, values, rest }: Node<T>): boolean =>
  one === undefined && [children, values, rest].every((part) => part === undefined || part.size === 0);

export class FilterTrie<T> {
  private readonly root: Node<T> = newNode();

  add(levels: readonly Level[], value: T): void {
    let node = this.root;
    for (const level of levels) {
      if (level.kind === "rest") {
        node.rest ??= new Set();
        node.rest.add(value);
        return;
      }
      let next = level.kind === "one" ? node.one : node.children?.get(level.text);
      if (next === undefined) {
        next = newNode();
        if (level.kind === "one") node.one = next;
        else {
          node.children ??= new Map();
          node.children.set(level.text, next);
        }
      }
      node = next;
    }
    node.values ??= new Set();
    node.values.add(value);
  }

  get isEmpty(): boolean {
    return isEmpty(this.root);
  }

  /** Removes a value, and the nodes that carried nothing else. */
  remove(levels: readonly Level[], value: T): void {
    const path: Node<T>[] = [this.root];
    for (const level of levels) {
      const node = path[path.length - 1] as Node<T>;
      if (level.kind === "rest") {
        node.rest?.delete(value);
        break;
      }
      const next = level.kind === "one" ? node.one : node.children?.get(level.text);
      if (next === undefined) return;
      path.push(next);
    }
    if (levels[levels.length - 1]?.kind !== "rest") path[path.length - 1]?.values?.delete(value);
    for (let index = path.length - 1; index > 0 && isEmpty(path[index] as Node<T>); index--) {
      const parent = path[index - 1] as Node<T>;
      const level = levels[index - 1] as Level;
      if (level.kind === "literal") parent.children?.delete(level.text);
      else parent.one = undefined;
    }
  }

  /** A value whose filter matches whatever `levels` match, if there is one. */
  covering(levels: readonly Level[]): T | undefined {
    const [first] = levels;
    // [MQTT-4.7.2-1]
    const wildcards = !(first?.kind === "literal" && first.text.startsWith("$"));
    return covering(this.root, levels, 0, wildcards);
  }

  /** Calls `visit` with every value whose filter matches, in no particular order. */
  match(mqttTopic: string, visit: (value: T) => void): void {
    // [MQTT-4.7.2-1]: a wildcard in the first level does not match a topic that begins with $.
    walk(this.root, mqttTopic, 0, mqttTopic.charCodeAt(0) !== 0x24, visit);
  }
}

function covering<T>(node: Node<T>, levels: readonly Level[], at: number, wildcards: boolean): T | undefined {
  const [rest] = node.rest ?? [];
  if (wildcards && rest !== undefined) return rest;
  const level = levels[at];
  if (level === undefined) return [...(node.values ?? [])][0];
  if (level.kind === "rest") return undefined;
  const next = level.kind === "literal" ? node.children?.get(level.text) : undefined;
  return (
    (next && covering(next, levels, at + 1, true)) ??
    (wildcards && node.one !== undefined ? covering(node.one, levels, at + 1, true) : undefined)
  );
}

function walk<T>(
  node: Node<T>,
  mqttTopic: string,
  from: number,
  wildcards: boolean,
  visit: (value: T) => void,
): void {
  if (wildcards && node.rest !== undefined) for (const value of node.rest) visit(value);
  if (from > mqttTopic.length) {
    if (node.values !== undefined) for (const value of node.values) visit(value);
    return;
  }
  if (node.one === undefined && node.children === undefined) return;
  const slash = mqttTopic.indexOf("/", from);
  const end = slash < 0 ? mqttTopic.length : slash;
  const next = node.children?.get(mqttTopic.slice(from, end));
  if (next !== undefined) walk(next, mqttTopic, end + 1, true, visit);
  if (wildcards && node.one !== undefined) walk(node.one, mqttTopic, end + 1, true, visit);
}
