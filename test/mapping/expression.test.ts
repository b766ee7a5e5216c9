import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Expression } from "../../src/mapping/expression.ts";
import { findFunction, functionNames } from "../../src/mapping/functions.ts";
import { MappingSyntaxError } from "../../src/mapping/syntax-error.ts";
import { Budget, RenderError } from "../../src/mapping/values.ts";

const names = ["device", "payload", "receivedAt"];
const tables = new Map([["sites", new Map<string, unknown>([["t1", { room: "hall" }]])]]);
const payload = JSON.parse(`{
  "t": 21.5, "n": 7, "on": true, "off": false, "s": "Hello", "none": null, "digits": "42", "hex": "0x1f",
  "list": [3, 1, 2], "readings": [{"id": "a", "v": 1}, {"id": "b", "v": 5}], "deep": {"a": {"b": 1}},
  "ts": "2026-01-01T00:00:00Z", "seconds": 1767225600, "__proto__": 1, "constructor": 2, "x y": 3
}`);

function scopeOf(values: Record<string, unknown> = {}) {
  const all = new Map<string, unknown>(
    Object.entries({ device: "t1", payload, receivedAt: 1_767_225_600_000, ...values }),
  );
  return { get: (name: string) => all.get(name), budget: new Budget() };
}

function run(text: string, values?: Record<string, unknown>): unknown {
  return Expression.parse(text, { names, tables }).evaluate(scopeOf(values));
}

function failure(text: string, values?: Record<string, unknown>): RenderError {
  try {
    run(text, values);
  } catch (error) {
    if (error instanceof RenderError) return error;
    throw error;
  }
  throw new Error(`${text} has a value`);
}

describe("an expression", () => {
  it.each<[string, unknown]>([
    // One kind of number.
    ["payload.t * 2", 43],
    ["7 / 2", 3.5],
    ["payload.n / 2", 3.5],
    ["payload.n % 4 + 1", 4],
    ["-payload.t", -21.5],
    ["payload.n == 7 && payload.n == 7.0", true],
    ["payload.n in [1, 7]", true],
    ["size(payload.list) * 1.5", 4.5],
    ["payload.list[payload.list[1]]", 1],
    ["0x10 + 1u", 17],
    // Conditions
    ["payload.t > 20 && !payload.off", true],
    ['payload.s == "Hello" ? 1 : "other"', 1],
    ["payload.missing > 1 || payload.on", true],
    ["payload.missing > 1 && payload.off", false],
    ["payload.s == 1 || payload.none == null", true],
    ['"t" in payload && !("toString" in payload)', true],
    ["payload.deep == {'a': {'b': 1}} && payload.list == [3, 1, 2]", true],
    // What may be missing
    ["has(payload.t) && !has(payload.x) && has(payload.none) && !has(payload.deep.x.y)", true],
    ["payload.?x.orValue(5)", 5],
    ["payload.?deep.a.b.orValue(5)", 1],
    ["payload.?x.y.z.orValue('d')", "d"],
    ["payload.list[?9].orValue(0)", 0],
    ["payload.?x.hasValue()", false],
    ["coalesce(payload.x, payload.none, payload.n)", 7],
    // Names from prototypes are names like any others.
    ['payload["__proto__"] + payload.constructor', 3],
    ['{"constructor": 1, "__proto__": 2}["__proto__"]', 2],
    ["has(payload.toString)", false],
    // Lists and maps
    ["payload.readings.map(r, r.v * 2)", [2, 10]],
    ["payload.readings.map(r, r.v > 2, r.id)", ["b"]],
    ["payload.readings.filter(r, r.v > 2)[0].id", "b"],
    ["payload.readings.exists(r, r.id == 'b') && payload.readings.all(r, r.v > 0)", true],
    ["payload.readings.exists_one(r, r.v == 5)", true],
    ["payload.readings.exists(r, r.nope == 1 || r.v == 5)", true],
    ["payload.deep.map(k, k)", ["a"]],
    ["payload.list.map(x, payload.list.map(y, x * y))[2]", [6, 2, 4]],
    ["cel.bind(x, payload.t * 2, x + x)", 86],
    ["payload.list + [4]", [3, 1, 2, 4]],
    ['merge(payload.deep, {"site": device})', { a: { b: 1 }, site: "t1" }],
    ['without(merge(payload.deep, {"x": 1}), "a")', { x: 1 }],
    ["keys(payload.deep)", ["a"]],
    // Text
    ['upper(payload.s) + "-" + payload.s.lower()', "HELLO-hello"],
    ['" a ".trim().size()', 1],
    ['"a,b,c".split(",")[1]', "b"],
    ['"a,b,c".split(",", 2)', ["a", "b,c"]],
    ['["a", 1, true].join("-")', "a-1-true"],
    ['"aXbXc".replace("X", "")', "abc"],
    ['"aXbXc".replace("X", "-", 1)', "a-bXc"],
    ["payload.s.substring(1, 3) + payload.s.substring(4)", "elo"],
    ['payload.s.indexOf("l") + payload.s.lastIndexOf("l")', 5],
    ['payload.s.startsWith("He") && payload.s.endsWith("lo") && payload.s.contains("ell")', true],
    ['payload.s.matches("^[A-Z][a-z]+$")', true],
    ['"t12-x".extract("t(\\\\d+)-")', "12"],
    ['extract("t12", "[0-9]+")', "12"],
    ['"a1b22".replaceRegex("[0-9]+", "#")', "a#b#"],
    // Numbers
    ["round(21.567, 1)", 21.6],
    ["round(1.005, 2)", 1.01],
    ["round(-2.5)", -3],
    ["floor(-1.5) + ceil(1.2) + abs(-3)", 3],
    ['number(payload.digits) + int("7") + number(payload.hex) + int(3.9)', 83],
    ["min(3, 1, 2) + max(payload.list) + sum(payload.list) + avg(payload.list)", 12],
    ["string(payload.t) + string(true)", "21.5true"],
    ['bool("ON") && !bool("off") && bool(1)', true],
    ["type(payload.list) + type(null) + type(b'x')", "listnullbytes"],
    // Time
    ["time(payload.ts)", 1_767_225_600_000],
    ['time(payload.seconds, "s")', 1_767_225_600_000],
    ['time("1767225600.123", "s")', 1_767_225_600_123],
    ['time(1767225600000000, "µs") == time(1767225600000000, "us")', true],
    ['time("1767225600000000000", "ns")', 1_767_225_600_000],
    ['time("2026-01-01 01:00:00+01", "iso")', 1_767_225_600_000],
    ["iso(receivedAt)", "2026-01-01T00:00:00.000Z"],
    ['receivedAt - timestamp(payload.ts) < duration("1h30m")', true],
    ["getHours(receivedAt) * 10 + receivedAt.getDayOfWeek()", 4],
    ['receivedAt.getHours("Europe/Berlin")', 1],
    ['(receivedAt + duration("181d12h30m")).getHours("Europe/Berlin")', 14],
    ['receivedAt.getHours("+05:45") * 100 + receivedAt.getMinutes("-03:30")', 530],
    [
      "[receivedAt - 1].map(t, [t.getFullYear(), t.getMonth(), t.getDate(), t.getDayOfMonth(), t.getDayOfYear()])[0]",
      [2025, 11, 31, 30, 364],
    ],
    ["(receivedAt - 1).getSeconds() * 1000 + (receivedAt - 1).getMilliseconds()", 59_999],
    // Bytes
    ['base64("hi") + hex("hi")', "aGk=6869"],
    ['string(base64Decode("aGk=")) + string(hexDecode("6869"))', "hihi"],
    ['hash("x").size() + hash("x", "md5").size()', 96],
    ["readUint(b'\\x01\\x02\\xff', 0, 2) + readInt(b'\\x01\\x02\\xff', 2, 1)", 257],
    ["b'\\x01\\x02'.readUint(0, 2, 'little')", 513],
    ["readFloat(hexDecode('41ac0000'), 0, 4)", 21.5],
    ['json("{\\"a\\":[1]}").a[0]', 1],
    // Tables
    ['lookup("sites", device).room', "hall"],
    ['lookup("sites", "nope", "?")', "?"],
  ])("%s", (text, expected) => {
    const value = run(text);
    expect(value).toEqual(expected);
  });

  it.each<[string, string, number]>([
    ["payload.missing", "payload.missing has no value", 0],
    ["1 + payload.x.y", "payload.x has no value", 4],
    ["payload.list[9]", "payload.list[9] has no value", 0],
    [
      "payload.s.size() + payload.t.size()",
      "payload.t.size() needs text or bytes or a list or a map, not a number",
      19,
    ],
    ["payload.s * 2", "payload.s * 2 needs two numbers, not text and a number", 0],
    ["payload.s + 1", "payload.s + 1 cannot add text and a number; string(…) makes text of a number", 0],
    ["payload.s > 1", "payload.s > 1 cannot compare text with a number", 0],
    ["payload.t && true", "payload.t must be true or false, not a number", 0],
    ["payload.n / 0", "payload.n / 0 divides by zero", 0],
    ["payload.s.map(c, c)", "payload.s must be a list or a map, not text", 0],
    ['lookup("sites", "nope")', 'lookup("sites", "nope") : "nope" is not in table sites', 0],
    ['number("21 °C")', 'number("21 °C") makes no number of "21 °C"', 0],
    [
      "time(payload.seconds)",
      'time(payload.seconds) : 1767225600 is no time in milliseconds (is it in seconds? then time(…, "s"))',
      0,
    ],
    ["getHours(receivedAt, payload.s)", 'getHours(receivedAt, payload.s) : there is no time zone "Hello"', 0],
    ["getHours(1e17)", "getHours(1e17) : 100000000000000000 is no time in milliseconds", 0],
    ["base64Decode('?')", "base64Decode('?') is not base64", 0],
    [
      "payload.s.matches(payload.s + '(')",
      "payload.s.matches(payload.s + '(') has a bad pattern: missing closing ): `Hello(`",
      0,
    ],
  ])("%s fails: %s", (text, message, position) => {
    expect(failure(text)).toMatchObject({ message, position });
  });

  it.each<[string, RegExp, number, number]>([
    ["payload.t >", /ends too early/, 11, 1],
    ["payload.t = 5", /single "="/, 10, 1],
    ["payload.t > 5 and payload.n > 1", /"and" is no operator/, 14, 3],
    ["payload.t & true", /"&" is written twice/, 10, 1],
    ["${payload.t} > 5", /an expression already/, 0, 1],
    ["pay.t > 5", /"pay" is not known here/, 0, 3],
    ["device == devise", /did you mean "device"/, 10, 6],
    ["uper(device)", /no function uper\(\); did you mean upper/, 0, 4],
    ["device.uper()", /no function uper\(\)/, 7, 4],
    ["upper()", /takes 1: text/, 0, 7],
    ["round(1, 2, 3)", /takes 1 to 2: number, number\?/, 0, 14],
    ["'abc", /not closed/, 0, 4],
    ["[1, 2", /"\]" is needed, not the end/, 5, 1],
    ["payload.list.map(x > 1, x)", /here a name is needed/, 17, 5],
    ["payload.list.exists(x)", /takes a name and an expression/, 0, 22],
    ["has(payload)", /has\(\) takes a field/, 0, 12],
    ["payload.s.matches('(')", /not a regular expression/, 18, 3],
    ["payload.s.matches('(?=x)')", /not a regular expression/, 18, 7],
    ["lookup('rooms', device)", /no table "rooms"/, 7, 7],
    ["lookup(device, device)", /name has to stand here/, 7, 6],
    ["time(payload.ts, 'sec')", /no unit "sec"/, 17, 5],
    ["getHours(payload.ts, 'Berlin')", /no time zone "Berlin"/, 21, 8],
    ["package == 1", /word of the language/, 0, 7],
    ["upper", /"upper" is not known/, 0, 5],
    ["without(payload)", /takes 2 or more: map, text, text…/, 0, 16],
    [`${"(".repeat(70)}1${")".repeat(70)}`, /too large/, 64, 1],
    ["1+".repeat(3_000), /more than 2000 parts/, 0, 1],
    [`"${"x".repeat(10_001)}"`, /at most 10000 characters/, 0, 1],
  ])("%.40s is refused: %s", (text, message, position, length) => {
    try {
      Expression.parse(text, { names, tables });
    } catch (error) {
      expect(error).toBeInstanceOf(MappingSyntaxError);
      expect((error as Error).message).toMatch(message);
      expect((error as MappingSyntaxError).position).toBeGreaterThanOrEqual(Math.min(position, 64));
      if (position < 60) expect(error).toMatchObject({ position, length });
      return;
    }
    throw new Error("it was taken");
  });

  it("keeps whole numbers exact that doubles would round, in text and in comparisons", () => {
    const id = 12_345_678_901_234_567_890n;
    expect(run("string(payload)", { payload: id })).toBe("12345678901234567890");
    expect(run("payload == 12345678901234567890", { payload: id })).toBe(true);
    expect(run("payload > 5 && payload / 2 > 1", { payload: id })).toBe(true);
  });

  it("reads clocks of named zones as those of UTC", () => {
    const time = fc.integer({ min: -62_135_596_800_000, max: 253_402_300_799_999 });
    const getters = "FullYear Month Date DayOfMonth DayOfWeek DayOfYear Hours Minutes Seconds Milliseconds";
    const all = getters.split(" ").map((name) => `payload.get${name}(device)`);
    const read = Expression.parse(`[${all.join(", ")}]`, { names });
    fc.assert(
      fc.property(time, (payload) => {
        const [named, offset] = ["Etc/UTC", "+00:00"].map((device) =>
          read.evaluate(scopeOf({ device, payload })),
        );
        expect(named).toEqual(offset);
      }),
    );
  });

  it("is CEL: sums and comparisons of numbers agree with JavaScript's", () => {
    const number = fc.double({ noNaN: true, noDefaultInfinity: true });
    fc.assert(
      fc.property(number, number, (a, b) => {
        expect(run("payload.a + payload.b * 2", { payload: { a, b } })).toBe(a + b * 2);
        expect(run("payload.a < payload.b", { payload: { a, b } })).toBe(a < b);
      }),
    );
  });
});

describe("an expression cannot stall the broker", () => {
  const long = Array.from({ length: 2_000 }, (_, index) => index);
  const wide = { l: long, m: Object.fromEntries(long.map((n) => [`k${n}`, n])) };
  it.each([
    ["a loop within a loop", "payload.map(x, payload.map(y, payload.map(z, x + y + z)))", long],
    ["a condition over all pairs", "payload.all(x, payload.all(y, x + y >= 0))", long],
    [
      "text that doubles",
      `cel.bind(a, payload, ${"cel.bind(a, a + a, ".repeat(30)}a${")".repeat(31)}`,
      "x".repeat(1_000),
    ],
    ["lists that double", `cel.bind(a, payload, ${"cel.bind(a, a + a, ".repeat(30)}a${")".repeat(31)}`, long],
    [
      "searches in a long text",
      "payload.l.exists(x, payload.t.contains('b'))",
      { l: long, t: "a".repeat(200_000) },
    ],
    ["replacements that grow", "payload.replace('a', payload).replace('a', payload)", "a".repeat(20_000)],
    [
      "a pattern over a long text, again and again",
      "payload.l.exists(x, payload.t.matches('(a*)*b'))",
      { l: long, t: "a".repeat(50_000) },
    ],
    ["joins that grow", "payload.map(x, payload).join(',').size() > 0", long],
    ["maps of many fields that are laid together", "payload.l.map(x, merge(payload.m, {'a': x}))", wide],
    ["the fields of a map, again and again", "payload.l.map(x, keys(payload.m))", wide],
    [
      "clocks of ever other zones",
      "payload.l.map(x, payload.l.map(y, getHours(x, 'Etc/GMT+' + string(y % 12))))",
      wide,
    ],
    ["comparisons of long lists", "payload.all(x, payload == payload + [])", long],
  ])("%s", (_, text, payload) => {
    const started = performance.now();
    expect(failure(text, { payload }).message).toMatch(/steps that a message may cost|makes more than/);
    // A hundredth of that is usual; a stalled broker would be minutes.
    expect(performance.now() - started).toBeLessThan(5_000);
  });
});

describe("an expression has a value or says why it has none, whatever a sensor sends", () => {
  const odd = JSON.parse('{"toString": 1, "valueOf": 1}');
  const values: readonly unknown[] = [
    ...[null, true, 0, 1, -1, 0.5, 1.5, 1e308, Number.NaN, 2n ** 60n, "", "toString"],
    ...[Buffer.from("abcdefgh"), [], [odd], [1], {}, odd],
  ];
  const operators = ["+", "-", "*", "/", "%", "==", "!=", "<", ">=", "&&", "||", "in"];
  const functions = functionNames().flatMap((name) => {
    const { min = 1, max = 0 } = findFunction(name) ?? {};
    const counts = Array.from({ length: Math.max(0, Math.min(max, 3) - min + 1) }, (_, more) => min + more);
    return name === "lookup"
      ? []
      : counts.map((count) => `${name}(${["a", "b", "c"].slice(0, count).join()})`);
  });
  it.each([
    ...functions,
    ...operators.map((operator) => `a ${operator} b`),
    ...[
      "-a",
      "!a",
      "a[b]",
      "a[?b]",
      "a[b.?x]",
      "a ? b : c",
      "[a, b]",
      "{a: b}",
      "a.?x.y",
      "cel.bind(x, a, x + b)",
    ],
    ...["a.map(x, x + b)", "a.map(x, x, b)", "a.filter(x, x)", "a.all(x, x == b)", "a.exists(x, x > b)"],
  ])("%s", (text) => {
    const expression = Expression.parse(text, { names: ["a", "b", "c"] });
    const [as, bs, cs] = ["a", "b", "c"].map((name) => (expression.names.includes(name) ? values : [null]));
    for (const a of as ?? []) {
      for (const b of bs ?? []) {
        for (const c of cs ?? []) {
          const scope = { get: (name: string) => ({ a, b, c })[name], budget: new Budget() };
          try {
            expression.evaluate(scope);
          } catch (error) {
            if (!(error instanceof RenderError)) throw error;
          }
        }
      }
    }
  });
});
