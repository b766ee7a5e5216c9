/** DescribeAcls: there is no authorizer, so there is nothing to list: SECURITY_DISABLED, as in Kafka. */
import { array, int8, int16, int32, string } from "../../wire/schema.ts";
import { api } from "../api.ts";
import { LITERAL, NO_AUTHORIZER } from "./common.ts";

export const describeAcls = api({
  key: 29,
  name: "DescribeAcls",
  limits: "no authorizer: SECURITY_DISABLED",
  versions: { min: 1, max: 3, flexible: 2 },
  request: {
    resourceTypeFilter: int8(),
    resourceNameFilter: string({ nullable: "0+" }),
    patternTypeFilter: int8({ versions: "1+", default: LITERAL }),
    principalFilter: string({ nullable: "0+" }),
    hostFilter: string({ nullable: "0+" }),
    operation: int8(),
    permissionType: int8(),
  },
  response: {
    throttleTimeMs: int32(),
    errorCode: int16(),
    errorMessage: string({ nullable: "0+" }),
    resources: array({
      resourceType: int8(),
      resourceName: string(),
      patternType: int8({ versions: "1+", default: LITERAL }),
      acls: array({ principal: string(), host: string(), operation: int8(), permissionType: int8() }),
    }),
  },
  handle: () => NO_AUTHORIZER,
});
