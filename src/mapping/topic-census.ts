/**
 * Counts MQTT topics by the pattern that they have in common: where many differ in a level (`zigbee2mqtt/<device>/
 * availability`) it becomes a `+`. So what no rule takes can be named in a few lines, whatever the number of
 * devices, in bounded memory.
 */

/** More children than these are one `+`. */
const MAX_CHILDREN = 12;
/** Deeper levels are one `#`. */
const MAX_LEVELS = 10;
/** A name is kept up to here. */
const MAX_EXAMPLE_LENGTH = 200;

interface Node {
  children: Map<string, Node> | undefined;
  /** In place of the children, once they were too many. */
  any: Node | undefined;
  /** Topics that end here. */
  count: number;
  /** Topics that go deeper than is kept. */
  deeper: number;
  /** The latest of either. */
  example: string;
  deeperExample: string;
}

export interface TopicCount {
  /** A topic filter that matches them. */
  readonly pattern: string;
  readonly count: number;
  readonly example: string;
}

export class TopicCensus {
  private readonly maxNodes: number;
  private readonly root = newNode();
  private nodes = 1;
  total = 0;

  constructor(maxNodes = 1_000) {
    this.maxNodes = maxNodes;
  }

  add(mqttTopic: string): void {
    this.total++;
    let node = this.root;
    const levels = mqttTopic.split("/", MAX_LEVELS + 1);
    for (const [depth, level] of levels.entries()) {
      const next = depth === MAX_LEVELS ? undefined : this.child(node, level);
      if (next === undefined) {
        node.deeper++;
        node.deeperExample = mqttTopic.slice(0, MAX_EXAMPLE_LENGTH);
        return;
      }
      node = next;
    }
    node.count++;
    node.example = mqttTopic.slice(0, MAX_EXAMPLE_LENGTH);
  }

  /** The most frequent first. */
  top(max: number): TopicCount[] {
    const counts: TopicCount[] = [];
    collect(this.root, [], counts);
    return counts.sort((a, b) => b.count - a.count || (a.pattern < b.pattern ? -1 : 1)).slice(0, max);
  }

  /** Undefined where there is no room for one. */
  private child(node: Node, level: string): Node | undefined {
    if (node.any !== undefined) return node.any;
    const known = node.children?.get(level);
    if (known !== undefined) return known;
    const size = node.children?.size ?? 0;
    if (size >= MAX_CHILDREN || (size > 0 && this.nodes >= this.maxNodes)) return this.join(node);
    if (this.nodes >= this.maxNodes) return undefined;
    this.nodes++;
    const child = newNode();
    node.children ??= new Map();
    node.children.set(level, child);
    return child;
  }

  /** All children of a node become one. */
  private join(node: Node): Node {
    const [first, ...others] = [...(node.children as Map<string, Node>).values()] as [Node, ...Node[]];
    for (const other of others) this.merge(first, other);
    node.children = undefined;
    node.any = first;
    return first;
  }

  private merge(into: Node, from: Node): void {
    this.nodes--;
    into.count += from.count;
    into.deeper += from.deeper;
    if (from.count > 0) into.example = from.example;
    if (from.deeper > 0) into.deeperExample = from.deeperExample;
    if (from.any !== undefined && into.any === undefined) {
      if (into.children === undefined) {
        into.any = from.any;
        return;
      }
      this.join(into);
    }
    if (from.any !== undefined) this.merge(into.any as Node, from.any);
    for (const [level, child] of from.children ?? []) {
      const known = into.any ?? into.children?.get(level);
      if (known !== undefined) this.merge(known, child);
      else {
        into.children ??= new Map();
        into.children.set(level, child);
      }
    }
    if ((into.children?.size ?? 0) > MAX_CHILDREN) this.join(into);
  }
}

function newNode(): Node {
  return { children: undefined, any: undefined, count: 0, deeper: 0, example: "", deeperExample: "" };
}

function collect(node: Node, levels: readonly string[], counts: TopicCount[]): void {
  const { count, deeper, example, deeperExample } = node;
  if (count > 0) counts.push({ pattern: levels.join("/"), count, example });
  if (deeper > 0) counts.push({ pattern: [...levels, "#"].join("/"), count: deeper, example: deeperExample });
  if (node.any !== undefined) collect(node.any, [...levels, "+"], counts);
  for (const [level, child] of node.children ?? []) collect(child, [...levels, level], counts);
}
