/** DeleteAcls: there is no authorizer: SECURITY_DISABLED for each filter, as in Kafka. */
import { array, int8, int16, int32, string } from "../../wire/schema.ts";
import { api } from "../api.ts";
import { ACLS, FILTER, GRANT, NO_AUTHORIZER, patternType } from "./acls.ts";

const OUTCOME = { errorCode: int16(), errorMessage: string({ nullable: "0+" }) };

export const deleteAcls = api({
  key: 31,
  name: "DeleteAcls",
  ...ACLS,
  request: { filters: array(FILTER) },
  response: {
    throttleTimeMs: int32(),
    filterResults: array({
      ...OUTCOME,
      matchingAcls: array({
        ...OUTCOME,
        resourceType: int8(),
        resourceName: string(),
        patternType,
        ...GRANT,
      }),
    }),
  },
  handle: ({ filters }) => ({ filterResults: filters.map(() => NO_AUTHORIZER) }),
});
