import { describe, expect, it } from "vitest";
import { MappingSyntaxError } from "../../src/mapping/syntax-error.ts";
import { RenderError, Template } from "../../src/mapping/template.ts";

const names = ["device", "site", "payload", "constructor"];
const scope = new Map<string, unknown>([
  ["device", "t1"],
  [
    "payload",
    JSON.parse('{"v":21.5,"ok":true,"a":{"b":[10,{"c":"deep"}]},"x y":"spaced","none":null,"__proto__":7}'),
  ],
]);

function problem(text: string): MappingSyntaxError {
  try {
    Template.parse(text, names);
  } catch (error) {
    if (error instanceof MappingSyntaxError) return error;
  }
  throw new Error(`${text} was accepted`);
}

describe("a template", () => {
  it.each<[string, unknown]>([
    ["plain", "plain"],
    ["", ""],
    ["${device}", "t1"],
    ["${ device }", "t1"],
    ["a-${device}-b", "a-t1-b"],
    ["$${device} $5", "${device} $5"],
    ["${payload.v}", 21.5],
    ["v=${payload.v}", "v=21.5"],
    ["${payload.ok}", true],
    ["${payload.a.b[0]}", 10],
    ["${payload.a.b[1].c}", "deep"],
    ['${payload["x y"]}', "spaced"],
    ["${payload['x y']}", "spaced"],
    ["${payload.a} ", '{"b":[10,{"c":"deep"}]} '],
    ["${payload.__proto__}", 7],
    ["${payload.v * 2}", 43],
    ['${upper(device)}-${payload.v > 20 ? "}" : "{"}', "T1-}"],
    ["${payload.a.b.map(x, type(x))}", ["number", "map"]],
  ])("%s renders to %j", (text, expected) => {
    expect(Template.parse(text, names).render(scope)).toEqual(expected);
  });

  it.each([
    "${payload.missing}",
    "${payload.none}",
    "${payload.v.w}",
    "${payload.constructor}",
    "${constructor}",
    "${site}",
    "${payload.a.toString}",
  ])("%s has no value, prototypes notwithstanding", (text) => {
    expect(() => Template.parse(text, names).render(scope)).toThrow(RenderError);
  });

  it("knows which names it looks into, and whether it is plain text", () => {
    expect([...Template.parse("${device}/${payload.ts}", names).names]).toEqual(["device", "payload"]);
    expect(Template.parse("$${x}", names).literal).toBe("${x}");
    expect(Template.parse("${device}", names).literal).toBeUndefined();
  });

  it.each([
    ["a ${device", 2, /not closed/],
    ["${}", 0, /no expression between/],
    ["a ${ }", 2, /no expression between/],
    ["${payload.v * }", 14, /ends too early/],
    ["${sizes(payload)}", 2, /did you mean size/],
    ["${payload.}", 10, /a name is needed/],
    ["${payload[}", 10, /ends too early/],
    ["${devise}", 2, /did you mean "device"/],
    ["x${other}", 3, /"other" is not known here$/],
    ['${payload["\\q"]}', 11, /escape/],
    ['x${device + "}', 1, /not closed/],
  ])("%s is refused at %i", (text, position, words) => {
    const error = problem(text);
    expect(error.position).toBe(position);
    expect(error.message).toMatch(words);
  });

  it("names what is available when a name is not known", () => {
    expect(problem("${devise}").mend).toBe("available: device, site, payload, constructor");
  });
});
