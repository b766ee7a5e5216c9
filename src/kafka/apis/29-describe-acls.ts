/** DescribeAcls: there is no authorizer, so there is nothing to list: SECURITY_DISABLED, as in Kafka. */
import { array, int8, int16, int32, string } from "../../wire/schema.ts";
import { api } from "../api.ts";
import { ACLS, FILTER, GRANT, NO_AUTHORIZER, patternType } from "./acls.ts";

export const describeAcls = api({
  key: 29,
  name: "DescribeAcls",
  ...ACLS,
  request: FILTER,
  response: {
    throttleTimeMs: int32(),
    errorCode: int16(),
    errorMessage: string({ nullable: "0+" }),
    resources: array({ resourceType: int8(), resourceName: string(), patternType, acls: array(GRANT) }),
  },
  handle: () => NO_AUTHORIZER,
});
