/** `npm run schema`: writes config/gateway.schema.json anew after the configuration's schema changed. */
import { writeFileSync } from "node:fs";
import { editorSchemaText } from "../../src/config/editor-schema.ts";

writeFileSync("config/gateway.schema.json", editorSchemaText());
