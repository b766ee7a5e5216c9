/** What a function of expressions is, and how one is defined. */
import type { MappingSyntaxError } from "./syntax-error.ts";
import type { Budget, Kind } from "./values.ts";

/** Rows by their key, of each table by its name. */
export type Tables = ReadonlyMap<string, ReadonlyMap<string, unknown>>;

export type Call = (args: readonly unknown[], budget: Budget | undefined) => unknown;
export type Refuse = (argument: number, message: string, mend?: string) => MappingSyntaxError;

export interface FunctionSpec {
  /** For "takes …". */
  readonly signature: string;
  readonly min: number;
  readonly max: number;
  /** What each argument may be; the last goes for all that follow. Undefined: anything. */
  readonly kinds: readonly (readonly Kind[] | undefined)[];
  /** How much more a character costs than copying it. */
  readonly cost: number;
  readonly call: Call;
  /** Checks literal arguments (undefined where they are none) when an expression is compiled. */
  readonly prepare?: (literals: readonly unknown[], tables: Tables, refuse: Refuse) => Call | undefined;
}

const FUNCTIONS = new Map<string, FunctionSpec>();

export const findFunction = (name: string): FunctionSpec | undefined => FUNCTIONS.get(name);
export const functionNames = (): string[] => [...FUNCTIONS.keys(), ...MACROS].sort();

/** Compiled by expression.ts, since they take their arguments unevaluated. */
const MACROS = ["has", "coalesce", "all", "exists", "exists_one", "filter", "map", "orValue", "hasValue"];

const KINDS: Readonly<Record<string, readonly Kind[] | undefined>> = {
  text: ["text"],
  number: ["number"],
  list: ["list"],
  map: ["map"],
  bytes: ["bytes"],
  data: ["text", "bytes"],
  sized: ["text", "bytes", "list", "map"],
  value: undefined,
};

/** `signature`: kinds as above, optional ones with `?`, `…` behind the last for any number of them. */
export function define(
  names: string,
  signature: string,
  call: (...args: never[]) => unknown,
  more: Partial<Pick<FunctionSpec, "cost" | "prepare" | "call">> = {},
): void {
  const words = signature === "" ? [] : signature.split(", ");
  const spec: FunctionSpec = {
    signature:
      words.length === 0 ? "nothing" : words.map((word) => word.replace("data", "text or bytes")).join(", "),
    min: words.filter((word) => !/[?…]$/.test(word)).length,
    max: signature.endsWith("…") ? 32 : words.length,
    kinds: words.map((word) => KINDS[word.replace(/[?…]/g, "")]),
    cost: 1,
    call: (args) => call(...(args as never[])),
    ...more,
  };
  for (const name of names.split(" ")) FUNCTIONS.set(name, spec);
}
