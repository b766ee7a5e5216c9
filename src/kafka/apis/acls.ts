/** What the APIs about access rules have in common: nobody is an authorizer here, and each of them says so, as Kafka does. */
import { int8, string } from "../../wire/schema.ts";
import { ErrorCode } from "../error-code.ts";

export const ACLS = {
  limits: "no authorizer: SECURITY_DISABLED",
  versions: { min: 1, max: 3, flexible: 2 },
} as const;

/** `PatternType` of an ACL that names one thing. */
const LITERAL = 3;

export const patternType = int8({ versions: "1+", default: LITERAL });

/** Which ACLs are meant. */
export const FILTER = {
  resourceTypeFilter: int8(),
  resourceNameFilter: string({ nullable: "0+" }),
  patternTypeFilter: patternType,
  principalFilter: string({ nullable: "0+" }),
  hostFilter: string({ nullable: "0+" }),
  operation: int8(),
  permissionType: int8(),
};

/** Who may do what. */
export const GRANT = { principal: string(), host: string(), operation: int8(), permissionType: int8() };

/** What every question is answered with. */
export const NO_AUTHORIZER = {
  errorCode: ErrorCode.SECURITY_DISABLED,
  errorMessage: "there are no access rules here",
};
