/** SaslAuthenticate: as with SaslHandshake, nothing is expected here: ILLEGAL_SASL_STATE. */
import { bytes, int16, int64, string } from "../../wire/schema.ts";
import { api } from "../api.ts";
import { ErrorCode } from "../error-code.ts";

export const saslAuthenticate = api({
  key: 36,
  name: "SaslAuthenticate",
  limits: "no SASL: ILLEGAL_SASL_STATE, as a PLAINTEXT listener of Kafka answers",
  versions: { min: 0, max: 2, flexible: 2 },
  request: { authBytes: bytes() },
  response: {
    errorCode: int16(),
    errorMessage: string({ nullable: "0+" }),
    authBytes: bytes(),
    sessionLifetimeMs: int64({ versions: "1+" }),
  },
  handle: () => ({
    errorCode: ErrorCode.ILLEGAL_SASL_STATE,
    errorMessage: "there is no SASL on this listener: set the client's security protocol to PLAINTEXT",
  }),
});
