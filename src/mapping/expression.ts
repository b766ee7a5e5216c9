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
import { compileMacro, NONE, orNone } from "./macros.ts";
import { binaryOperator, bounded, costOf } from "./operators.ts";
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
import {
  kindOf,
  kindWords,
  Missing,
  RenderError,
  setField,
  shortened,
  textOf,
  wordsOfKind,
} from "./values.ts";

const LIMITS = { maxAstNodes: 2_000, maxDepth: 64, maxListElements: 500, maxMapEntries: 500 };
const MAX_TEXT = 10_000;
const parser = new Environment({ enableOptionalTypes: true, limits: LIMITS });

export class Expression {
  readonly text: string;
  /** The names it looks into, each once, without their fields. */
  readonly names: readonly string[];
  /** Throws `RenderError`. */
  readonly evaluate: Evaluate;

  private constructor(text: string, names: readonly string[], evaluate: Evaluate) {
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
    if (path !== undefined) return new Expression(text.trim(), [path.name], path.evaluate);
    const compiler = new Compiler(text, context, offset);
    const evaluate = compiler.compile();
    return new Expression(text.trim(), [...compiler.names], evaluate);
  }
}

// -- Everything else of CEL.

export class Compiler {
  readonly names = new Set<string>();
  private readonly text: string;
  private readonly context: ExpressionContext;
  private readonly offset: number;
  private readonly locals: string[] = [];
  /** Operators compiled so far: what a loop's body costs each time. */
  nodes = 0;

  constructor(text: string, context: ExpressionContext, offset: number) {
    this.text = text;
    this.context = context;
    this.offset = offset;
  }

  compile(): Evaluate {
    const root = this.node(this.parse());
    const none = new Missing(this.text, 0, this.text.length, this.offset);
    return (scope) => {
      const value = root(scope);
      if (value === NONE) throw none.error;
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

  error(node: ASTNode, message: string, mend?: string): MappingSyntaxError {
    return new MappingSyntaxError(message, this.offset + node.start, {
      length: node.end - node.start,
      mend,
    });
  }

  missing(node: ASTNode): Missing {
    return new Missing(this.text, node.start, node.end, this.offset);
  }

  /** Keeps neither node nor compiler: an expression lives as long as its rule. */
  failure({ start, end }: ASTNode): (message: string) => RenderError {
    const { text, offset } = this;
    return (message) =>
      new RenderError(`${shortened(text.slice(start, end))} ${message}`, { position: offset + start });
  }

  node(node: ASTNode): Evaluate {
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
    const at = this.value(index);
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
    const compiled = entries.map(([key, value]) => [this.key(key), this.value(value)] as const);
    return (scope) => {
      const map = {};
      for (const [key, value] of compiled) setField(map, textOf(key(scope)), value(scope));
      return map;
    };
  }

  /** `{a: 1}` has the value of `a` for a name, as CEL has it: who writes JavaScript means `{"a": 1}`. */
  private key(node: ASTNode): Evaluate {
    if (node.op === "id" && !this.locals.includes(node.args) && !this.context.names.includes(node.args)) {
      throw this.error(node, `"${node.args}" is not known here`, `as the name of a field: "${node.args}"`);
    }
    return this.value(node);
  }

  /** A node whose optional must be there. */
  value(node: ASTNode): Evaluate {
    const evaluate = this.node(node);
    if (!mayBeNone(node)) return evaluate;
    const missing = this.missing(node);
    return (scope) => {
      const value = evaluate(scope);
      if (value === NONE) throw missing.error;
      return value;
    };
  }

  condition(node: ASTNode): (scope: Scope) => boolean {
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
    const macro = compileMacro(this, node, name, args, method);
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

  /** With a name that an expression gives to each element, or to a value. */
  within<T>(name: string, compile: () => T): T {
    this.locals.push(name);
    try {
      return compile();
    } finally {
      this.locals.pop();
    }
  }
}

/** Whether a node may come to an optional that is not there. */
function mayBeNone({ op, args }: ASTNode): boolean {
  switch (op) {
    case ".":
    case "[]":
      return mayBeNone(args[0]);
    case ".?":
    case "[?]":
      return true;
    case "?:":
      return mayBeNone(args[1]) || mayBeNone(args[2]);
    case "call":
    case "rcall":
      // A macro, which may give what its body comes to.
      return findFunction(args[0]) === undefined;
    default:
      return false;
  }
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
      size += costOf(value);
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
