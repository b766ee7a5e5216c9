/**
 * DescribeConfigs: a stream's settings under Kafka's names, and the few of the broker that tools look for.
 * Documentation is not given.
 */
import { DEFAULT_SETTINGS } from "../../log/stream-state.ts";
import { array, bool, int8, int16, int32, string } from "../../wire/schema.ts";
import { api, type ClientContext } from "../api.ts";
import { ErrorCode, outcomeOf, Refusal } from "../error-code.ts";
import {
  ConfigSource,
  ConfigType,
  type DescribedSetting,
  describeOrigin,
  describeSettings,
} from "../stream-config.ts";
import { NODE_ID, ResourceType, streamOf } from "./common.ts";

function brokerConfigs({ advertised, autoCreate, dataDir }: ClientContext): DescribedSetting[] {
  const entries: [string, string | number | boolean, number][] = [
    ["broker.id", NODE_ID, ConfigType.INT],
    ["node.id", NODE_ID, ConfigType.INT],
    ["log.dirs", dataDir, ConfigType.STRING],
    ["advertised.listeners", `PLAINTEXT://${advertised.host}:${advertised.port}`, ConfigType.STRING],
    ["auto.create.topics.enable", autoCreate.enabled, ConfigType.BOOLEAN],
    ["num.partitions", autoCreate.partitions, ConfigType.INT],
    ["default.replication.factor", 1, ConfigType.INT],
    ["delete.topic.enable", true, ConfigType.BOOLEAN],
  ];
  const { STATIC_BROKER, DEFAULT } = ConfigSource;
  const setting = (source: number, name: string, value: string, configType: number) => {
    const synonyms = [{ name, value, source }];
    return { name, value, readOnly: true, configSource: source, configType, synonyms };
  };
  return [
    ...entries.map(([name, value, type]) => setting(STATIC_BROKER, name, String(value), type)),
    // What streams have by default, under the names that the broker's settings have for it.
    ...describeSettings(DEFAULT_SETTINGS).flatMap(({ synonyms, configType }) =>
      synonyms.map(({ name, value }) => setting(DEFAULT, name, String(value), configType)),
    ),
  ];
}

function configsOf(type: number, name: string, context: ClientContext): DescribedSetting[] {
  if (type === ResourceType.TOPIC) {
    const { settings, origin } = streamOf(context.log, name);
    return [...describeSettings(settings), describeOrigin(origin)];
  }
  // The empty name means "the defaults of all brokers".
  if (type === ResourceType.BROKER && (name === "" || name === String(NODE_ID))) {
    return brokerConfigs(context);
  }
  // In Kafka groups and loggers can be configured; here neither has a setting, and asking is no error.
  if (type === ResourceType.GROUP && name !== "") return [];
  if (type === ResourceType.BROKER_LOGGER && name === String(NODE_ID)) return [];
  throw new Refusal(ErrorCode.INVALID_REQUEST, `nothing to describe: resource type ${type}, name "${name}"`);
}

export const describeConfigs = api({
  key: 32,
  name: "DescribeConfigs",
  limits: "no documentation",
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
  async handle({ resources, includeSynonyms }, context) {
    const results = resources.map(async ({ resourceType, resourceName, configurationKeys }) => {
      // Null and none at all both ask for everything, as in Kafka.
      const wanted = new Set(configurationKeys);
      const outcome = await outcomeOf(() => ({
        configs: configsOf(resourceType, resourceName, context)
          .filter(({ name }) => wanted.size === 0 || wanted.has(name))
          .map((config) => (includeSynonyms ? config : { ...config, synonyms: [] })),
      }));
      return { resourceType, resourceName, ...outcome };
    });
    return { results: await Promise.all(results) };
  },
});
