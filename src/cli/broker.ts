/**
 * Which broker a verb asks, and an administrator's connection to it. It is Kafka's protocol that is spoken,
 * so the gateway and a Kafka cluster are asked in the same words.
 */
import { type Admin, Kafka, logLevel } from "kafkajs";
import { DEFAULT_CONFIG_FILE, loadConfig } from "../config/load.ts";
import { ConfigError } from "../config/problems.ts";
import { formatAddress, parseAddress } from "../config/units.ts";
import { messageOf, SluiceError } from "../errors.ts";

export const BROKER_OPTION = [
  "--broker, --brokers <host:port>",
  "the gateway or a Kafka broker; default: kafka.bind",
] as const;
export const CONFIG_OPTION = ["--config <file>", "where kafka.bind stands", DEFAULT_CONFIG_FILE] as const;

export interface BrokerOptions {
  readonly brokers?: string;
  readonly config: string;
}

const CONNECT_TIMEOUT_MS = 3_000;
const REQUEST_TIMEOUT_MS = 10_000;

/** `host:port` of the broker to ask: the one named, or the one that the configuration opens on this machine. */
export async function brokerOf(options: BrokerOptions): Promise<string> {
  if (options.brokers !== undefined) {
    const parsed = parseAddress(options.brokers);
    if ("value" in parsed) return formatAddress(parsed.value);
    throw new SluiceError("USAGE", `--broker ${parsed.problem}`, {
      mend: "for example --broker 127.0.0.1:9092",
      exitCode: 64,
    });
  }
  try {
    const { config } = await loadConfig(options.config, { env: process.env });
    const { host, port } = config.kafka.bind;
    // What listens on every address is reached on this machine's own.
    const here = host === "0.0.0.0" ? "127.0.0.1" : host === "::" ? "::1" : host;
    return formatAddress({ host: here, port });
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    throw new SluiceError("CONFIG", `which broker? ${error.message}`, {
      mend: "name it with --broker <host:port>",
      exitCode: error.exitCode,
      cause: error,
    });
  }
}

/** Runs `use` with a connected admin client; SluiceError UNREACHABLE (69) when nothing answers there. */
export async function withAdmin<T>(broker: string, use: (admin: Admin) => Promise<T>): Promise<T> {
  const kafka = new Kafka({
    clientId: "sluice-cli",
    brokers: [broker],
    connectionTimeout: CONNECT_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    retry: { retries: 0 },
    logLevel: logLevel.NOTHING,
  });
  const admin = kafka.admin();
  try {
    await admin.connect();
  } catch (error) {
    throw new SluiceError(
      "UNREACHABLE",
      `nothing that speaks the Kafka protocol answers at ${broker}: ${messageOf(error)}`,
      {
        mend: "Is the gateway running? Start it with  sluice up  or name another broker with --broker <host:port>.",
        exitCode: 69,
        cause: error,
      },
    );
  }
  try {
    return await use(admin);
  } finally {
    await admin.disconnect();
  }
}
