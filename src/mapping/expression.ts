/**
 * CEL expressions, compiled to closures. The package parses (lexer, grammar, limits, positions); what an
 * expression means is decided here, because MQTT payloads need other rules than protobuf messages:
 *
 * - one kind of number, so that `payload.t * 2` works on 21.5 and `7 / 2` is 3.5;
 * - times are milliseconds since the epoch, durations milliseconds;
 * - a field named `constructor` is a field like any other;
 * - every loop, text and list is paid for from the message's budget, so that no rule can stall the broker.
 *
 * A field that is not there is an error, as in CEL; `has(payload.x)`, `payload.?x.orValue(0)` and
 * `coalesce(payload.x, 0)` ask first. Not there: CEL's uint, dyn and protobuf messages.
 */
import { type ASTNode, Environment } from "@marcbachmann/cel-js";
import { closest, distance } from "fastest-levenshtein";
import { syntaxError } from "./cel-errors.ts";
import { type FunctionSpec, findFunction, functionNames } from "./functions.ts";
import { binaryOperator, bounded, sizeOf } from "./operators.ts";
import {
  type Evaluate,
  type ExpressionContext,
  elementOf,
  fieldOf,
  parsePath,
  present,
  type Scope,
  unknownName,
} from "./scope.ts";
import { MappingSyntaxError } from "./syntax-error.ts";
import { type Budget, kindOf, kindWords, RenderError, setField, textOf, wordsOfKind } from "./values.ts";

const LIMITS = { maxAstNodes: 2_000, maxDepth: 64, maxListElements: 500, maxMapEntries: 500 };
const MAX_TEXT = 10_000;
const parser = new Environment({ enableOptionalTypes: true, limits: LIMITS });

export class Expression {
  readonly text: string;
  /** The names it looks into, without their fields. */
  readonly names: ReadonlySet<string>;
  /** Throws `RenderError`. */
  readonly evaluate: Evaluate;

  private constructor(text: string, names: ReadonlySet<string>, evaluate: Evaluate) {
    this.text = text;
    this.names = names;
    this.evaluate = evaluate;
  }

  /** Throws `MappingSyntaxError`; `offset` is where `text` begins in the field that holds it. */
  static parse(text: string, context: ExpressionContext, offset = 0): Expression {
    if (text.length > MAX_TEXT) {
      throw new MappingSyntaxError(`an expression has at most ${MAX_TEXT} characters`, offset);
    }
    const path = parsePath(text, context, offset);
    if (path !== undefined) return new Expression(text.trim(), new Set([path.name]), path.evaluate);
    const compiler = new Compiler(text, context, offset);
    return new Expression(text.trim(), compiler.names, compiler.compile());
  }
}

// -- Everything else of CEL.

/** The value of an optional that is not there: `payload.?x`. */
const NONE = Symbol("none");

/** A macro's variable: `x` in `payload.list.map(x, x * 2)`. */
class Local implements Scope {
  value: unknown;
  readonly budget: Budget | undefined;
  private readonly name: string;
  private readonly parent: Scope;

  constructor(name: string, parent: Scope) {
    this.name = name;
    this.parent = parent;
    this.budget = parent.budget;
  }

  get(name: string): unknown {
    return name === this.name ? this.value : this.parent.get(name);
  }
}

class Compiler {
  readonly names = new Set<string>();
  private readonly text: string;
  private readonly context: ExpressionContext;
  private readonly offset: number;
  private readonly locals: string[] = [];
  /** Operators compiled so far: what a loop's body costs each time. */
  private nodes = 0;

  constructor(text: string, context: ExpressionContext, offset: number) {
    this.text = text;
    this.context = context;
    this.offset = offset;
  }

  compile(): Evaluate {
    const root = this.node(this.parse());
    const none = new RenderError(`${this.text.trim()} has no value`, {
      position: this.offset,
      missing: true,
    });
    return (scope) => {
      const value = root(scope);
      if (value === NONE) throw none;
      return value;
    };
  }

  private parse(): ASTNode {
    try {
      return parser.parse(this.text).ast;
    } catch (error) {
      throw syntaxError(error, this.text, this.offset);
    }
  }

  private error(node: ASTNode, message: string, mend?: string): MappingSyntaxError {
    return new MappingSyntaxError(message, this.offset + node.start, {
      length: node.end - node.start,
      ...(mend === undefined ? {} : { mend }),
    });
  }

  private sourceOf(node: ASTNode): string {
    const text = this.text.slice(node.start, node.end).replace(/\s+/g, " ");
    return text.length > 60 ? `${text.slice(0, 59)}…` : text;
  }

  /** One error for all times that this node's value is not there: nothing is captured per message. */
  private missing(node: ASTNode): RenderError {
    return new RenderError(`${this.sourceOf(node)} has no value`, {
      position: this.offset + node.start,
      missing: true,
    });
  }

  private failure(node: ASTNode): (message: string) => RenderError {
    const position = this.offset + node.start;
    return (message) => new RenderError(`${this.sourceOf(node)} ${message}`, { position });
  }

  private node(node: ASTNode): Evaluate {
    this.nodes++;
    switch (node.op) {
      case "value":
        return this.literal(node.args);
      case "id":
        return this.name(node, node.args);
      case ".":
      case ".?":
        return this.field(node, node.args[0], node.args[1], node.op === ".?");
      case "[]":
      case "[?]":
        return this.element(node, node.args[0], node.args[1], node.op === "[?]");
      case "call":
        return this.call(node, node.args[0], node.args[1]);
      case "rcall":
        return this.call(node, node.args[0], [node.args[1], ...node.args[2]], true);
      case "list":
        return this.list(node.args);
      case "map":
        return this.map(node.args);
      case "?:":
        return this.conditional(node.args);
      case "||":
      case "&&":
        return this.logical(node.args, node.op === "||");
      case "!_":
        return this.not(node.args);
      case "-_":
        return this.negative(node, node.args);
      default:
        return this.binary(node, node.op, node.args);
    }
  }

  private literal(value: unknown): Evaluate {
    if (typeof value === "bigint") {
      const exact = Number.isSafeInteger(Number(value)) ? Number(value) : value;
      return () => exact;
    }
    const isUnsigned = typeof value === "object" && value !== null && !(value instanceof Uint8Array);
    const plain = isUnsigned ? Number(value) : value;
    return () => plain;
  }

  private name(node: ASTNode, name: string): Evaluate {
    if (!this.locals.includes(name)) {
      if (!this.context.names.includes(name)) {
        throw unknownName(name, this.offset + node.start, this.context.names);
      }
      this.names.add(name);
    }
    const missing = this.missing(node);
    return (scope) => present(scope.get(name), missing);
  }

  private field(node: ASTNode, of: ASTNode, field: string, optional: boolean): Evaluate {
    const object = this.node(of);
    const missing = this.missing(node);
    if (!optional) {
      return (scope) => {
        const value = object(scope);
        return value === NONE ? NONE : fieldOf(value, field, missing);
      };
    }
    return orNone((scope) => {
      const value = object(scope);
      return value === NONE ? NONE : fieldOf(value, field, missing);
    });
  }

  private element(node: ASTNode, of: ASTNode, index: ASTNode, optional: boolean): Evaluate {
    const object = this.node(of);
    const at = this.node(index);
    const missing = this.missing(node);
    const element: Evaluate = (scope) => {
      const value = object(scope);
      return value === NONE ? NONE : elementOf(value, at(scope), missing);
    };
    return optional ? orNone(element) : element;
  }

  private list(items: readonly ASTNode[]): Evaluate {
    const compiled = items.map((item) => this.value(item));
    return (scope) => compiled.map((item) => item(scope));
  }

  private map(entries: readonly (readonly [ASTNode, ASTNode])[]): Evaluate {
    const compiled = entries.map(([key, value]) => [this.value(key), this.value(value)] as const);
    return (scope) => {
      const map = {};
      for (const [key, value] of compiled) setField(map, textOf(key(scope)), value(scope));
      return map;
    };
  }

  /** A node whose optional must be there. */
  private value(node: ASTNode): Evaluate {
    const evaluate = this.node(node);
    const missing = this.missing(node);
    return (scope) => {
      const value = evaluate(scope);
      if (value === NONE) throw missing;
      return value;
    };
  }

  private condition(node: ASTNode): (scope: Scope) => boolean {
    const evaluate = this.value(node);
    const failure = this.failure(node);
    return (scope) => {
      const value = evaluate(scope);
      if (typeof value === "boolean") return value;
      throw failure(`must be true or false, not ${kindWords(value)}`);
    };
  }

  private conditional([test, yes, no]: readonly [ASTNode, ASTNode, ASTNode]): Evaluate {
    const [condition, then, otherwise] = [this.condition(test), this.node(yes), this.node(no)];
    return (scope) => (condition(scope) ? then(scope) : otherwise(scope));
  }

  /** As CEL has it: an error on one side does not matter where the other decides. */
  private logical([a, b]: readonly [ASTNode, ASTNode], decisive: boolean): Evaluate {
    const [left, right] = [this.condition(a), this.condition(b)];
    return (scope) => {
      let first: boolean;
      try {
        first = left(scope);
      } catch (error) {
        if (error instanceof RenderError && right(scope) === decisive) return decisive;
        throw error;
      }
      return first === decisive ? decisive : right(scope);
    };
  }

  private not(node: ASTNode): Evaluate {
    const condition = this.condition(node);
    return (scope) => !condition(scope);
  }

  private negative(node: ASTNode, of: ASTNode): Evaluate {
    const evaluate = this.value(of);
    const failure = this.failure(node);
    return (scope) => {
      const value = evaluate(scope);
      if (typeof value === "number" || typeof value === "bigint") return -value;
      throw failure(`needs a number, not ${kindWords(value)}`);
    };
  }

  private binary(node: ASTNode, op: string, [a, b]: readonly [ASTNode, ASTNode]): Evaluate {
    const [left, right] = [this.value(a), this.value(b)];
    const apply = binaryOperator(op, this.failure(node));
    return (scope) => apply(left(scope), right(scope), scope);
  }

  private call(node: ASTNode, name: string, args: readonly ASTNode[], method = false): Evaluate {
    const macro = this.macro(node, name, args, method);
    if (macro !== undefined) return macro;
    const spec = findFunction(name);
    if (spec === undefined) {
      const known = functionNames();
      const near = known.find((one) => name.startsWith(one) && one.length > 3) ?? closest(name, known);
      const isNear = name.startsWith(near) || distance(name, near) <= Math.max(1, name.length / 3);
      const meant = isNear ? `; did you mean ${near}()?` : "";
      const position = this.text.indexOf(name, method ? (args[0] as ASTNode).end : node.start);
      throw new MappingSyntaxError(`there is no function ${name}()${meant}`, this.offset + position, {
        length: name.length,
        ...(meant === "" ? { mend: "docs/mapping.md lists the functions" } : {}),
      });
    }
    if (args.length < spec.min || args.length > spec.max) {
      const { min, max, signature } = spec;
      const many = min === max ? `${min}` : max > 9 ? `${min} or more` : `${min} to ${max}`;
      throw this.error(node, `${name}() takes ${many}: ${signature}`);
    }
    const given = args.map((arg) => this.value(arg));
    const literals = args.map((arg) => (arg.op === "value" ? arg.args : undefined));
    const prepared = spec.prepare?.(literals, this.context.tables ?? new Map(), (index, message, mend) =>
      this.error(args[index] ?? node, message, mend),
    );
    return callOf(spec, name, given, prepared ?? spec.call, this.failure(node));
  }

  /** What takes its arguments unevaluated; undefined for an ordinary function. */
  private macro(
    node: ASTNode,
    name: string,
    args: readonly ASTNode[],
    method: boolean,
  ): Evaluate | undefined {
    const [first, second, third] = args;
    if (!method) {
      if (name === "has") return this.has(node, args);
      return name === "coalesce" ? this.coalesce(node, args) : undefined;
    }
    switch (name) {
      case "orValue":
        if (first === undefined || second === undefined) return undefined;
        return this.orValue(this.node(first), this.node(second));
      case "hasValue": {
        if (first === undefined || args.length > 1) return undefined;
        const evaluate = this.node(first);
        return (scope) => evaluate(scope) !== NONE;
      }
      case "bind":
        if (first?.op !== "id" || first.args !== "cel") return undefined;
        return this.bind(node, args.slice(1));
      case "all":
      case "exists":
      case "exists_one":
      case "filter":
      case "map":
        if (first === undefined || second === undefined) break;
        if (name === "map" ? args.length > 4 || third === undefined : args.length !== 3) break;
        return this.loop(node, name, first, second, args.slice(2));
      default:
        return undefined;
    }
    throw this.error(node, `${name}() takes a name and an expression, as in list.${name}(x, x > 0)`);
  }

  private has(node: ASTNode, args: readonly ASTNode[]): Evaluate {
    const [field] = args;
    if (args.length !== 1 || (field?.op !== "." && field?.op !== "[]")) {
      throw this.error(node, "has() takes a field, as in has(payload.temperature)");
    }
    const evaluate = orNone(this.node(field));
    return (scope) => evaluate(scope) !== NONE;
  }

  private coalesce(node: ASTNode, args: readonly ASTNode[]): Evaluate {
    if (args.length < 2) {
      throw this.error(node, "coalesce() takes two values or more, as in coalesce(payload.x, 0)");
    }
    const all = args.map((arg) => orNone(this.node(arg)));
    const missing = this.missing(node);
    return (scope) => {
      for (const evaluate of all) {
        const value = evaluate(scope);
        if (value !== NONE && value !== null) return value;
      }
      throw missing;
    };
  }

  private orValue(evaluate: Evaluate, otherwise: Evaluate): Evaluate {
    return (scope) => {
      const value = evaluate(scope);
      return value === NONE ? otherwise(scope) : value;
    };
  }

  private within<T>(name: string, compile: () => T): T {
    this.locals.push(name);
    try {
      return compile();
    } finally {
      this.locals.pop();
    }
  }

  private variable(node: ASTNode, name: ASTNode | undefined): string {
    if (name?.op === "id") return name.args;
    throw this.error(name ?? node, "here a name is needed for what each element is called");
  }

  private bind(node: ASTNode, [name, value, body]: readonly ASTNode[]): Evaluate {
    if (value === undefined || body === undefined) {
      throw this.error(node, "cel.bind() takes a name, its value and an expression");
    }
    const variable = this.variable(node, name);
    const bound = this.value(value);
    const result = this.within(variable, () => this.node(body));
    return (scope) => {
      const local = new Local(variable, scope);
      local.value = bound(scope);
      return result(local);
    };
  }

  private loop(
    node: ASTNode,
    name: LoopName,
    of: ASTNode,
    variable: ASTNode,
    bodies: readonly ASTNode[],
  ): Evaluate {
    const range = this.value(of);
    const failure = this.failure(of);
    const named = this.variable(node, variable);
    const before = this.nodes;
    const [first, transform] = this.within(named, () => {
      // `map` takes a condition between the name and what becomes of each element.
      const plainMap = name === "map" && bodies.length === 1;
      return [
        plainMap ? undefined : this.condition(bodies[0] as ASTNode),
        name === "map" ? this.value(bodies.at(-1) as ASTNode) : undefined,
      ] as const;
    });
    const cost = 1 + this.nodes - before;
    const run = LOOPS[name];
    return (scope) => {
      const over = range(scope);
      const kind = kindOf(over);
      if (kind !== "list" && kind !== "map") throw failure(`must be a list or a map, not ${kindWords(over)}`);
      const items = kind === "list" ? (over as unknown[]) : Object.keys(over as object);
      const local = new Local(named, scope);
      return run(
        items,
        (item) => {
          scope.budget?.spend(cost);
          local.value = item;
          return first === undefined || first(local);
        },
        () => transform?.(local),
      );
    };
  }
}

type LoopName = "all" | "exists" | "exists_one" | "filter" | "map";
type Test = (item: unknown) => boolean;
const LOOPS: Readonly<Record<LoopName, (items: unknown[], test: Test, result: () => unknown) => unknown>> = {
  all: (items, test) => !quantify(items, test, false),
  exists: (items, test) => quantify(items, test, true),
  exists_one: (items, test) => items.filter(test).length === 1,
  filter: (items, test) => items.filter(test),
  map: (items, test, result) => {
    const mapped: unknown[] = [];
    for (const item of items) if (test(item)) mapped.push(result());
    return mapped;
  },
};

/** Is there an element for which `test` gives `wanted`? An error counts only where no element decides. */
function quantify(items: readonly unknown[], test: Test, wanted: boolean): boolean {
  let failed: RenderError | undefined;
  for (const item of items) {
    try {
      if (test(item) === wanted) return true;
    } catch (error) {
      if (!(error instanceof RenderError)) throw error;
      failed ??= error;
    }
  }
  if (failed !== undefined) throw failed;
  return false;
}

/** What is not there is NONE; what is there and cannot be used stays an error. */
function orNone(evaluate: Evaluate): Evaluate {
  return (scope) => {
    try {
      return evaluate(scope);
    } catch (error) {
      if (error instanceof RenderError && error.missing) return NONE;
      throw error;
    }
  };
}

function callOf(
  spec: FunctionSpec,
  name: string,
  given: readonly Evaluate[],
  call: FunctionSpec["call"],
  failure: (message: string) => RenderError,
): Evaluate {
  return (scope) => {
    const args: unknown[] = [];
    let size = 1;
    for (let index = 0; index < given.length; index++) {
      const value = (given[index] as Evaluate)(scope);
      const kinds = spec.kinds[Math.min(index, spec.kinds.length - 1)];
      if (kinds !== undefined && !kinds.includes(kindOf(value))) {
        throw failure(`needs ${kinds.map(wordsOfKind).join(" or ")}, not ${kindWords(value)}`);
      }
      size += sizeOf(value);
      args.push(value);
    }
    scope.budget?.spend(Math.ceil((size * spec.cost) / 32));
    let result: unknown;
    try {
      result = call(args, scope.budget);
    } catch (error) {
      if (error instanceof RenderError && error.position === undefined) throw failure(error.message);
      throw error;
    }
    return bounded(result, scope, (message) => failure(`${name}() ${message}`));
  };
}
