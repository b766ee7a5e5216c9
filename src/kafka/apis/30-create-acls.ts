/** CreateAcls: there is no authorizer that would keep to them: SECURITY_DISABLED, as in Kafka. */
import { array, int8, int16, int32, string } from "../../wire/schema.ts";
import { api } from "../api.ts";
import { ACLS, GRANT, NO_AUTHORIZER, patternType } from "./acls.ts";

export const createAcls = api({
  key: 30,
  name: "CreateAcls",
  ...ACLS,
  request: {
    creations: array({
      resourceType: int8(),
      resourceName: string(),
      resourcePatternType: patternType,
      ...GRANT,
    }),
  },
  response: {
    throttleTimeMs: int32(),
    results: array({ errorCode: int16(), errorMessage: string({ nullable: "0+" }) }),
  },
  handle: ({ creations }) => ({ results: creations.map(() => NO_AUTHORIZER) }),
});
