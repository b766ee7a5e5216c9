/**
 * ApiVersions: what is served here, read from the registered APIs. A version unknown here is answered by the
 * connection (request.ts), which cannot decode it. No features are offered: no transactions, no KRaft.
 */
import { array, bool, int16, int32, int64, string } from "../../wire/schema.ts";
import { api } from "../api.ts";
import { ErrorCode } from "../error-code.ts";

/** KIP-511 */
const SOFTWARE_NAME = /^[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?$/;

export const apiVersions = api({
  key: 18,
  name: "ApiVersions",
  limits: "no features",
  versions: { min: 0, max: 4, flexible: 3 },
  request: {
    clientSoftwareName: string({ versions: "3+" }),
    clientSoftwareVersion: string({ versions: "3+" }),
  },
  response: {
    errorCode: int16(),
    apiKeys: array({ apiKey: int16(), minVersion: int16(), maxVersion: int16() }),
    throttleTimeMs: int32({ versions: "1+" }),
    supportedFeatures: array(
      { name: string(), minVersion: int16(), maxVersion: int16() },
      {
        versions: "3+",
        tag: 0,
      },
    ),
    finalizedFeaturesEpoch: int64({ versions: "3+", tag: 1, default: -1 }),
    finalizedFeatures: array(
      { name: string(), maxVersionLevel: int16(), minVersionLevel: int16() },
      {
        versions: "3+",
        tag: 2,
      },
    ),
    zkMigrationReady: bool({ versions: "3+", tag: 3 }),
  },
  handle({ clientSoftwareName, clientSoftwareVersion }, { apis }, { version }) {
    const named = SOFTWARE_NAME.test(clientSoftwareName) && SOFTWARE_NAME.test(clientSoftwareVersion);
    if (version >= 3 && !named) return { errorCode: ErrorCode.INVALID_REQUEST };
    return {
      errorCode: ErrorCode.NONE,
      apiKeys: Array.from(apis.values(), ({ key, versions, advertised = versions }) => ({
        apiKey: key,
        minVersion: advertised.min,
        maxVersion: advertised.max,
      })),
    };
  },
});
