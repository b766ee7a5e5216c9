/** Connecting with kafkajs to the gateway or a Kafka cluster, and one sentence for whatever goes wrong with it. */
import type { Admin } from "kafkajs";
import { within } from "../clock.ts";
import { messageOf, SluiceError } from "../errors.ts";
import { Kafka, logLevel } from "../kafkajs.ts";

/** How long a connection, an answer over it, and its end may take. */
const CONNECT_TIMEOUT_MS = 3_000;
const REQUEST_TIMEOUT_MS = 10_000;
const CLOSE_TIMEOUT_MS = 2_000;

/** `onError` hears what kafkajs says on the way; what it throws in the end has often lost the cause. */
export function kafkaOf(
  brokers: readonly string[],
  { retries, onError }: { retries: number; onError: (words: string) => void },
): Kafka {
  return new Kafka({
    clientId: "sluice",
    brokers: [...brokers],
    connectionTimeout: CONNECT_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    retry: { retries, initialRetryTime: 200, maxRetryTime: 5_000 },
    logLevel: logLevel.ERROR,
    logCreator:
      () =>
      ({ log }) =>
        onError(`${log.message} ${log.error ?? ""}`),
  });
}

/** Runs `work` with a connected admin client. Rejects with SluiceError: UNREACHABLE (69), REFUSED, or `work`'s. */
export async function withAdmin<T>(
  brokers: readonly string[],
  work: (admin: Admin) => Promise<T>,
): Promise<T> {
  let lastWords = "";
  const onError = (words: string): void => {
    lastWords = words;
  };
  const admin = kafkaOf(brokers, { retries: 1, onError }).admin();
  try {
    await admin.connect();
    return await work(admin);
  } catch (error) {
    throw explain(error, brokers, lastWords);
  } finally {
    await closed(admin.disconnect());
  }
}

/** Waits for the end of a connection, but not for long: a broker that is gone must not hold up ours. */
export const closed = (work: Promise<unknown>): Promise<void> => within(work, CLOSE_TIMEOUT_MS);

/** What to say of failures to reach a broker, by the words of the system or of kafkajs. */
const FAILURES: readonly (readonly [RegExp, (where: string) => string, string])[] = [
  [
    /ECONNREFUSED/,
    (where) => `nothing listens at ${where}`,
    "start the gateway with `sluice up`, or say where it is: --broker host:port",
  ],
  [/ENOTFOUND|EAI_AGAIN/, (where) => `no host is known as ${where}`, "check the name given to --broker"],
  [
    /timed? ?out|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH/i,
    (where) => `${where} does not answer`,
    "is it a Kafka listener (the gateway's is 9092 by default, MQTT's 1883), and is no firewall between?",
  ],
  [
    /ECONNRESET|Closed connection|EPIPE|socket/i,
    (where) => `${where} closed the connection`,
    "is it a Kafka listener (the gateway's is 9092 by default, MQTT's 1883)?",
  ],
];

/** One sentence for whatever kafkajs threw; `lastWords` is what it had logged before. */
export function explain(error: unknown, brokers: readonly string[], lastWords = ""): SluiceError {
  if (error instanceof SluiceError) return error;
  const where = brokers.join(", ");
  const failure = FAILURES.find(([words]) => words.test(`${messageOf(error)} ${lastWords}`));
  if (failure === undefined) {
    return new SluiceError("REFUSED", `the broker at ${where} refused: ${messageOf(error)}`, {
      cause: error,
    });
  }
  const [, message, mend] = failure;
  return new SluiceError("UNREACHABLE", message(where), { mend, exitCode: 69, cause: error });
}
