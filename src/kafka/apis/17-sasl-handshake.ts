/**
 * SaslHandshake: this listener has no SASL, and answers as Kafka's PLAINTEXT listener does: ILLEGAL_SASL_STATE,
 * and no mechanism to choose from. Clients show it as a wrong security protocol.
 */
import { array, int16, string } from "../../wire/schema.ts";
import { api } from "../api.ts";
import { ErrorCode } from "../error-code.ts";

export const saslHandshake = api({
  key: 17,
  name: "SaslHandshake",
  limits: "no SASL: ILLEGAL_SASL_STATE, as a PLAINTEXT listener of Kafka answers",
  versions: { min: 0, max: 1 },
  request: { mechanism: string() },
  response: { errorCode: int16(), mechanisms: array(string()) },
  handle: () => ({ errorCode: ErrorCode.ILLEGAL_SASL_STATE, mechanisms: [] }),
});
