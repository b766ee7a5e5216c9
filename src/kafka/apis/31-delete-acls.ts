/** DeleteAcls: there is no authorizer: SECURITY_DISABLED for each filter, as in Kafka. */
import { array, int8, int16, int32, string } from "../../wire/schema.ts";
import { api } from "../api.ts";
import { LITERAL, NO_AUTHORIZER } from "./common.ts";

export const deleteAcls = api({
  key: 31,
  name: "DeleteAcls",
  limits: "no authorizer: SECURITY_DISABLED",
  versions: { min: 1, max: 3, flexible: 2 },
  request: {
    filters: array({
      resourceTypeFilter: int8(),
      resourceNameFilter: string({ nullable: "0+" }),
      patternTypeFilter: int8({ versions: "1+", default: LITERAL }),
      principalFilter: string({ nullable: "0+" }),
      hostFilter: string({ nullable: "0+" }),
      operation: int8(),
      permissionType: int8(),
    }),
  },
  response: {
    throttleTimeMs: int32(),
    filterResults: array({
      errorCode: int16(),
      errorMessage: string({ nullable: "0+" }),
      matchingAcls: array({
        errorCode: int16(),
        errorMessage: string({ nullable: "0+" }),
        resourceType: int8(),
        resourceName: string(),
        patternType: int8({ versions: "1+", default: LITERAL }),
        principal: string(),
        host: string(),
        operation: int8(),
        permissionType: int8(),
      }),
    }),
  },
  handle: ({ filters }) => ({ filterResults: filters.map(() => NO_AUTHORIZER) }),
});
