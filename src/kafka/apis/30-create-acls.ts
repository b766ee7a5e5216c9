/** CreateAcls: there is no authorizer that would keep to them: SECURITY_DISABLED, as in Kafka. */
import { array, int8, int16, int32, string } from "../../wire/schema.ts";
import { api } from "../api.ts";
import { LITERAL, NO_AUTHORIZER } from "./common.ts";

export const createAcls = api({
  key: 30,
  name: "CreateAcls",
  limits: "no authorizer: SECURITY_DISABLED",
  versions: { min: 1, max: 3, flexible: 2 },
  request: {
    creations: array({
      resourceType: int8(),
      resourceName: string(),
      resourcePatternType: int8({ versions: "1+", default: LITERAL }),
      principal: string(),
      host: string(),
      operation: int8(),
      permissionType: int8(),
    }),
  },
  response: {
    throttleTimeMs: int32(),
    results: array({ errorCode: int16(), errorMessage: string({ nullable: "0+" }) }),
  },
  handle: ({ creations }) => ({ results: creations.map(() => NO_AUTHORIZER) }),
});
