/**
 * DescribeConfigs: a stream's settings under Kafka's names, and the few of the broker that tools look for.
 * The log keeps resolved settings, so a stream's are all shown as its own; synonyms are not given.
 */
import { array, bool, int8, int16, int32, string } from "../../wire/schema.ts";
import { api, type RequestContext } from "../api.ts";
import { ErrorCode } from "../error-code.ts";
import { ConfigType, describeSettings } from "../stream-config.ts";
import { ConfigSource, NODE_ID, type Refusal, ResourceType, refusal } from "./common.ts";

interface Config {
  readonly name: string;
  readonly value: string;
  readonly readOnly: boolean;
  readonly configSource: number;
  readonly configType: number;
}

function brokerConfigs({ advertised, autoCreate, server }: RequestContext): Config[] {
  const entry = (name: string, value: string | number | boolean, configType: number): Config => ({
    name,
    value: String(value),
    readOnly: true,
    configSource: ConfigSource.STATIC_BROKER,
    configType,
  });
  return [
    entry("node.id", NODE_ID, ConfigType.INT),
    entry("log.dirs", server.dataDir, ConfigType.STRING),
    entry("advertised.listeners", `PLAINTEXT://${advertised.host}:${advertised.port}`, ConfigType.STRING),
    entry("auto.create.topics.enable", autoCreate.enabled, ConfigType.BOOLEAN),
    entry("num.partitions", autoCreate.partitions, ConfigType.INT),
    entry("default.replication.factor", 1, ConfigType.INT),
  ];
}

function configsOf(type: number, name: string, context: RequestContext): Config[] | Refusal {
  if (type === ResourceType.TOPIC) {
    const stream = context.log.stream(name);
    if (stream === undefined) {
      return refusal(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, `there is no stream "${name}"`);
    }
    return describeSettings(stream.settings).map((setting) => ({
      name: setting.name,
      value: setting.value,
      readOnly: setting.readOnly,
      configSource: setting.readOnly ? ConfigSource.DEFAULT : ConfigSource.DYNAMIC_TOPIC,
      configType: setting.type,
    }));
  }
  // The empty name means "the defaults of all brokers".
  if (type === ResourceType.BROKER && (name === "" || name === String(NODE_ID)))
    return brokerConfigs(context);
  return refusal(
    ErrorCode.INVALID_REQUEST,
    `nothing to describe under resource type ${type}, name "${name}"`,
  );
}

export const describeConfigs = api({
  key: 32,
  name: "DescribeConfigs",
  versions: { min: 1, max: 4, flexible: 4 },
  request: {
    resources: array({
      resourceType: int8(),
      resourceName: string(),
      configurationKeys: array(string(), { nullable: "0+" }),
    }),
    includeSynonyms: bool({ versions: "1+" }),
    includeDocumentation: bool({ versions: "3+" }),
  },
  response: {
    throttleTimeMs: int32(),
    results: array({
      errorCode: int16(),
      errorMessage: string({ nullable: "0+", default: null }),
      resourceType: int8(),
      resourceName: string(),
      configs: array({
        name: string(),
        value: string({ nullable: "0+" }),
        readOnly: bool(),
        configSource: int8({ versions: "1+", default: -1 }),
        isSensitive: bool(),
        synonyms: array(
          { name: string(), value: string({ nullable: "0+" }), source: int8() },
          {
            versions: "1+",
          },
        ),
        configType: int8({ versions: "3+" }),
        documentation: string({ versions: "3+", nullable: "3+", default: null }),
      }),
    }),
  },
  handle({ resources }, context) {
    return {
      results: resources.map(({ resourceType, resourceName, configurationKeys }) => {
        const found = configsOf(resourceType, resourceName, context);
        if (!Array.isArray(found)) return { resourceType, resourceName, ...found };
        const configs = found.filter(({ name }) => configurationKeys?.includes(name) ?? true);
        return { resourceType, resourceName, errorCode: ErrorCode.NONE, configs };
      }),
    };
  },
});
