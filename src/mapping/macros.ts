/** What in an expression takes its arguments unevaluated: CEL's macros, and `coalesce`. */
import type { ASTNode } from "@marcbachmann/cel-js";
import type { Compiler } from "./expression.ts";
import type { Evaluate, Scope } from "./scope.ts";
import { type Budget, kindOf, kindWords, RenderError } from "./values.ts";

/** The value of an optional that is not there: `payload.?x`. */
export const NONE = Symbol("none");

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

/** What takes its arguments unevaluated; undefined for an ordinary function. */
export function compileMacro(
  compiler: Compiler,
  node: ASTNode,
  name: string,
  args: readonly ASTNode[],
  method: boolean,
): Evaluate | undefined {
  const [first, second, third] = args;
  if (!method) {
    if (name === "has") return has(compiler, node, args);
    return name === "coalesce" ? coalesce(compiler, node, args) : undefined;
  }
  switch (name) {
    case "orValue":
      if (first === undefined || second === undefined) return undefined;
      return orValue(compiler.node(first), compiler.node(second));
    case "hasValue": {
      if (first === undefined || args.length > 1) return undefined;
      const evaluate = compiler.node(first);
      return (scope) => evaluate(scope) !== NONE;
    }
    case "bind":
      if (first?.op !== "id" || first.args !== "cel") return undefined;
      return bind(compiler, node, args.slice(1));
    case "all":
    case "exists":
    case "exists_one":
    case "filter":
    case "map":
      if (first === undefined || second === undefined) break;
      if (name === "map" ? args.length > 4 || third === undefined : args.length !== 3) break;
      return loop(compiler, node, name, first, second, args.slice(2));
    default:
      return undefined;
  }
  throw compiler.error(node, `${name}() takes a name and an expression, as in list.${name}(x, x > 0)`);
}

function has(compiler: Compiler, node: ASTNode, args: readonly ASTNode[]): Evaluate {
  const [field] = args;
  if (args.length !== 1 || (field?.op !== "." && field?.op !== "[]")) {
    throw compiler.error(node, "has() takes a field, as in has(payload.temperature)");
  }
  const evaluate = orNone(compiler.node(field));
  return (scope) => evaluate(scope) !== NONE;
}

function coalesce(compiler: Compiler, node: ASTNode, args: readonly ASTNode[]): Evaluate {
  if (args.length < 2) {
    throw compiler.error(node, "coalesce() takes two values or more, as in coalesce(payload.x, 0)");
  }
  const all = args.map((arg) => orNone(compiler.node(arg)));
  const missing = compiler.missing(node);
  return (scope) => {
    for (const evaluate of all) {
      const value = evaluate(scope);
      if (value !== NONE && value !== null) return value;
    }
    throw missing.error;
  };
}

function orValue(evaluate: Evaluate, otherwise: Evaluate): Evaluate {
  return (scope) => {
    const value = evaluate(scope);
    return value === NONE ? otherwise(scope) : value;
  };
}

function variableName(compiler: Compiler, node: ASTNode, name: ASTNode | undefined): string {
  if (name?.op === "id") return name.args;
  throw compiler.error(name ?? node, "here a name is needed for what each element is called");
}

function bind(compiler: Compiler, node: ASTNode, [name, value, body]: readonly ASTNode[]): Evaluate {
  if (value === undefined || body === undefined) {
    throw compiler.error(node, "cel.bind() takes a name, its value and an expression");
  }
  const variable = variableName(compiler, node, name);
  const bound = compiler.value(value);
  const result = compiler.within(variable, () => compiler.node(body));
  return (scope) => {
    const local = new Local(variable, scope);
    local.value = bound(scope);
    return result(local);
  };
}

function loop(
  compiler: Compiler,
  node: ASTNode,
  name: LoopName,
  of: ASTNode,
  variable: ASTNode,
  bodies: readonly ASTNode[],
): Evaluate {
  const range = compiler.value(of);
  const failure = compiler.failure(of);
  const named = variableName(compiler, node, variable);
  const before = compiler.nodes;
  const [first, transform] = compiler.within(named, () => {
    // `map` takes a condition between the name and what becomes of each element.
    const plainMap = name === "map" && bodies.length === 1;
    return [
      plainMap ? undefined : compiler.condition(bodies[0] as ASTNode),
      name === "map" ? compiler.value(bodies.at(-1) as ASTNode) : undefined,
    ] as const;
  });
  const cost = 1 + compiler.nodes - before;
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
export function orNone(evaluate: Evaluate): Evaluate {
  return (scope) => {
    try {
      return evaluate(scope);
    } catch (error) {
      if (error instanceof RenderError && error.missing) return NONE;
      throw error;
    }
  };
}
