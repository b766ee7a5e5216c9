/**
 * One declaration per message, both directions derived from it.
 *
 * A message is declared as Kafka's own JSON definitions do it: each field with its type and the versions it
 * exists in ("0+", "2-7"), from which version on null is allowed, its default, and its tag if it is a tagged
 * field. A codec for one version is compiled once and kept. Field names are Kafka's, in camelCase.
 */
import { ProtocolError } from "../errors.ts";
import { type Reader, Writer, ZERO_UUID } from "./buffer.ts";

export interface FieldOptions {
  /** Versions that carry the field, in Kafka's notation; default all. */
  readonly versions?: string;
  /** Versions in which null is allowed; default none. */
  readonly nullable?: string;
  /** What a version without the field reads as, instead of the type's zero. */
  readonly default?: unknown;
  /** Makes it a tagged field, carried in flexible versions of `versions` when it is not its default. */
  readonly tag?: number;
}

export type Kind =
  | "int8"
  | "int16"
  | "uint16"
  | "int32"
  | "int64"
  | "bool"
  | "uuid"
  | "string"
  | "bytes"
  | "records"
  | "array"
  | "struct";

/** A field's declaration. The type parameter is what the field holds in TypeScript; it has no value at run time. */
export interface Field<T = unknown> {
  readonly kind: Kind;
  readonly options: FieldOptions;
  /** What an array holds. */
  readonly of?: Field;
  /** What a struct holds. */
  readonly fields?: Fields;
  readonly type?: T;
}

export type Fields = Readonly<Record<string, Field>>;

/** The TypeScript shape of a set of fields. */
export type Shape<F extends Fields> = { [K in keyof F]: F[K] extends Field<infer T> ? T : never };

/** What may be given for encoding: a field that has a default may be left out. */
export type Message<M> = M extends MessageSchema<infer F> ? Shape<F> : never;

type Nullable<T, O extends FieldOptions> = O extends { nullable: string } ? T | null : T;

function primitive<T>(kind: Kind) {
  return <const O extends FieldOptions = Record<never, never>>(options?: O): Field<Nullable<T, O>> => ({
    kind,
    options: options ?? {},
  });
}

export const int8 = primitive<number>("int8");
export const int16 = primitive<number>("int16");
export const uint16 = primitive<number>("uint16");
export const int32 = primitive<number>("int32");
export const int64 = primitive<number>("int64");
export const bool = primitive<boolean>("bool");
/** Kafka's text form, 22 characters of base64url. */
export const uuid = primitive<string>("uuid");
export const string = primitive<string>("string");
export const bytes = primitive<Buffer>("bytes");
/** Record batches: read as one slice of the frame, written by reference. */
export const records = primitive<readonly Buffer[]>("records");

/** Of one kind of thing; fields stand for a struct of them, by far the most frequent kind. */
export function array<T, const O extends FieldOptions = Record<never, never>>(
  of: Field<T>,
  options?: O,
): Field<Nullable<T[], O>>;
export function array<F extends Fields, const O extends FieldOptions = Record<never, never>>(
  of: F,
  options?: O,
): Field<Nullable<Shape<F>[], O>>;
export function array(of: Field | Fields, options: FieldOptions = {}): Field {
  return { kind: "array", of: typeof of.kind === "string" ? (of as Field) : struct(of as Fields), options };
}

export function struct<F extends Fields, const O extends FieldOptions = Record<never, never>>(
  fields: F,
  options?: O,
): Field<Nullable<Shape<F>, O>> {
  return { kind: "struct", fields, options: options ?? {} };
}

export interface MessageSchema<F extends Fields = Fields> {
  readonly fields: F;
  /** The first version in the flexible encoding (KIP-482): compact lengths and tagged fields; Infinity for none. */
  readonly flexibleFrom: number;
}

export function message<F extends Fields>(options: { flexible?: number }, fields: F): MessageSchema<F> {
  return { fields, flexibleFrom: options.flexible ?? Number.POSITIVE_INFINITY };
}

/** "2-7", "3+", "5" or "none", as in Kafka's message definitions. */
export function inVersions(range: string | undefined, version: number): boolean {
  if (range === undefined) return true;
  const match = /^(\d+)(?:(\+)|-(\d+))?$/.exec(range);
  if (match === null) return false;
  const from = Number(match[1]);
  const to = match[2] !== undefined ? Number.POSITIVE_INFINITY : Number(match[3] ?? match[1]);
  return version >= from && version <= to;
}

interface Codec {
  read(reader: Reader): unknown;
  write(writer: Writer, value: unknown): void;
}

function zeroOf(field: Field): unknown {
  if ("default" in field.options) return field.options.default;
  switch (field.kind) {
    case "bool":
      return false;
    case "uuid":
      return ZERO_UUID;
    case "string":
      return "";
    case "bytes":
      return Buffer.alloc(0);
    case "array":
    case "records":
      return [];
    case "struct":
      return Object.fromEntries(
        Object.entries(field.fields ?? {}).map(([name, inner]) => [name, zeroOf(inner)]),
      );
    default:
      return 0;
  }
}

function isZero(value: unknown, zero: unknown): boolean {
  if (value === zero) return true;
  if (Array.isArray(value) && Array.isArray(zero)) return value.length === 0 && zero.length === 0;
  if (Buffer.isBuffer(value) && Buffer.isBuffer(zero)) return value.equals(zero);
  if (typeof value !== "object" || typeof zero !== "object" || value === null || zero === null) return false;
  const keys = Object.keys(zero);
  return keys.every((key) =>
    isZero((value as Record<string, unknown>)[key], (zero as Record<string, unknown>)[key]),
  );
}

function nullError(name: string): ProtocolError {
  return new ProtocolError(`${name} must not be null`);
}

function compileField(name: string, field: Field, version: number, flexible: boolean): Codec {
  const nullable = field.options.nullable !== undefined && inVersions(field.options.nullable, version);
  /** Null where the version has no null for it: a client's error when read, ours when written. */
  const checked = (value: unknown): unknown => {
    if (value === null && !nullable) throw nullError(name);
    return value;
  };
  switch (field.kind) {
    case "int8":
      return { read: (r) => r.int8(), write: (w, v) => w.int8(v as number) };
    case "int16":
      return { read: (r) => r.int16(), write: (w, v) => w.int16(v as number) };
    case "uint16":
      return { read: (r) => r.uint16(), write: (w, v) => w.uint16(v as number) };
    case "int32":
      return { read: (r) => r.int32(), write: (w, v) => w.int32(v as number) };
    case "int64":
      return { read: (r) => r.int64(), write: (w, v) => w.int64(v as number) };
    case "bool":
      return { read: (r) => r.boolean(), write: (w, v) => w.boolean(v as boolean) };
    case "uuid":
      return { read: (r) => r.uuid(), write: (w, v) => w.uuid(v as string) };
    case "string":
      return {
        read: (r) => checked(r.string(flexible)),
        write: (w, v) => w.string(flexible, checked(v) as string | null),
      };
    case "bytes":
      return {
        read: (r) => checked(r.bytes(flexible)),
        write: (w, v) => w.bytes(flexible, checked(v) as Buffer | null),
      };
    case "records":
      return {
        read: (r) => {
          const slice = checked(r.bytes(flexible)) as Buffer | null;
          return slice === null ? null : [slice];
        },
        write: (w, v) => {
          const batches = checked(v) as readonly Buffer[] | null;
          if (batches === null) return w.length32(flexible, -1);
          let length = 0;
          for (const batch of batches) length += batch.length;
          w.length32(flexible, length);
          w.reference(batches);
        },
      };
    case "array": {
      const of = compileField(`${name}[]`, field.of as Field, version, flexible);
      return {
        // Every element takes at least a byte, so a count that passed `length32` cannot allocate beyond the
        // frame; growing by push keeps a lying count from reserving memory in advance. But a list that grows
        // reserves room for sixteen more, and most hold one: of a Fetch that waits, for as long as it does.
        read: (r) => {
          const count = r.arrayLength(flexible);
          if (count < 0) return checked(null);
          const items: unknown[] = count > 0 ? [of.read(r)] : [];
          for (let index = 1; index < count; index++) items.push(of.read(r));
          return items;
        },
        write: (w, v) => {
          const items = checked(v) as readonly unknown[] | null;
          w.length32(flexible, items === null ? -1 : items.length);
          if (items !== null) for (const item of items) of.write(w, item);
        },
      };
    }
    case "struct": {
      const inner = compileFields(field.fields as Fields, version, flexible, name);
      if (!nullable) return inner;
      // A nullable struct is led by one byte: -1 for null (Kafka's generated code).
      return {
        read: (r) => (r.int8() < 0 ? null : inner.read(r)),
        write: (w, v) => {
          w.int8(v === null ? -1 : 1);
          if (v !== null) inner.write(w, v);
        },
      };
    }
  }
}

function compileFields(fields: Fields, version: number, flexible: boolean, path: string): Codec {
  const plain: { name: string; codec: Codec; zero: unknown }[] = [];
  const tagged: { name: string; codec: Codec; tag: number; zero: unknown }[] = [];
  const absent: { name: string; zero: unknown }[] = [];
  for (const [name, field] of Object.entries(fields)) {
    const zero = zeroOf(field);
    const present = inVersions(field.options.versions, version);
    if (!present || (field.options.tag !== undefined && !flexible)) {
      absent.push({ name, zero });
      continue;
    }
    const codec = compileField(path === "" ? name : `${path}.${name}`, field, version, flexible);
    if (field.options.tag === undefined) plain.push({ name, codec, zero });
    else tagged.push({ name, codec, tag: field.options.tag, zero });
  }
  tagged.sort((a, b) => a.tag - b.tag);

  return {
    read(reader) {
      const value: Record<string, unknown> = {};
      for (const { name, codec } of plain) value[name] = codec.read(reader);
      for (const { name, zero } of absent) value[name] = zero;
      for (const { name, zero } of tagged) value[name] = zero;
      if (flexible) {
        reader.taggedFields((tag, body) => {
          const field = tagged.find((candidate) => candidate.tag === tag);
          if (field !== undefined) value[field.name] = field.codec.read(body);
        });
      }
      return value;
    },
    write(writer, given) {
      const value = given as Record<string, unknown>;
      for (const { name, codec, zero } of plain) {
        const inner = value[name];
        codec.write(writer, inner === undefined ? zero : inner);
      }
      if (!flexible) return;
      const present = tagged.filter(
        ({ name, zero }) => value[name] !== undefined && !isZero(value[name], zero),
      );
      writer.uvarint(present.length);
      for (const { name, codec, tag } of present) {
        const body = new Writer();
        codec.write(body, value[name]);
        const encoded = body.toBuffer();
        writer.uvarint(tag);
        writer.uvarint(encoded.length);
        writer.raw(encoded);
      }
    },
  };
}

const compiled = new WeakMap<MessageSchema, Map<number, Codec>>();

function codecOf(schema: MessageSchema, version: number): Codec {
  let versions = compiled.get(schema);
  if (versions === undefined) {
    versions = new Map();
    compiled.set(schema, versions);
  }
  let codec = versions.get(version);
  if (codec === undefined) {
    codec = compileFields(schema.fields, version, version >= schema.flexibleFrom, "");
    versions.set(version, codec);
  }
  return codec;
}

/** What may be left out when encoding: every field (it takes its default), at every depth. */
export type Partially<T> = T extends Buffer
  ? T
  : T extends readonly (infer E)[]
    ? readonly Partially<E>[]
    : T extends object
      ? { [K in keyof T]?: Partially<T[K]> }
      : T;

/** Reads a message; throws `ProtocolError` on anything that is not one. Trailing bytes are left unread. */
export function decode<F extends Fields>(
  schema: MessageSchema<F>,
  version: number,
  reader: Reader,
): Shape<F> {
  return codecOf(schema, version).read(reader) as Shape<F>;
}

/** Writes a message. */
export function encode<F extends Fields>(
  schema: MessageSchema<F>,
  version: number,
  value: Partially<Shape<F>>,
  writer: Writer,
): void {
  codecOf(schema, version).write(writer, value);
}
