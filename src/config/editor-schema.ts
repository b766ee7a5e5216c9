/** The configuration's JSON Schema for editors, in draft 07, which they read; config/gateway.schema.json is this. */
import { z } from "zod";
import { configSchema } from "./schema.ts";

export function editorSchema(): object {
  return z.toJSONSchema(configSchema, {
    target: "draft-07",
    io: "input",
    unrepresentable: "any",
    override: ({ zodSchema, jsonSchema }) => {
      const { def } = zodSchema._zod;
      if (def.type !== "object") return;
      // A section that is left out holds the defaults; one with nothing in it, too.
      const { shape } = def as unknown as { shape: Record<string, z.ZodType> };
      const isNeeded = (name: string): boolean => shape[name]?.safeParse(undefined).success === false;
      const required = (jsonSchema.required ?? []).filter(isNeeded);
      if (required.length > 0) jsonSchema.required = required;
      else delete jsonSchema.required;
      if (Object.values(shape).length > 0 && required.length === 0) {
        (jsonSchema as { type: unknown }).type = ["object", "null"];
      }
    },
  });
}

/** As it stands in the file. */
export const editorSchemaText = (): string => `${JSON.stringify(editorSchema(), null, 2)}\n`;
