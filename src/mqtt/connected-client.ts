/** A client as aedes has it, with what the broker notes on it. */
import type { Client } from "aedes";
import type { MqttLimits } from "./limits.ts";
import type { Subscriptions } from "./topic-rules.ts";

export type ConnectedClient = Client & {
  username?: string | undefined;
  will?: unknown;
  /** A message of it was not taken, and it will be told; what it sends meanwhile is not taken either: it comes again in its order. */
  isRefused?: true;
  /** aedes 1.2.0, lib/handlers/connect.js: set when the client wants a keep alive. */
  _keepaliveTimer?: NodeJS.Timeout | null;
  /** aedes 1.2.0, lib/client.js: one timer of `drainTimeout` for all that wait. */
  waitForDrain(drained: () => void): void;
  subscriptions: Subscriptions;
  /** At least as many as it has. */
  subscribed?: number;
};

/** Why it gets no subscription more, or undefined. A session that is kept bounds its subscriptions itself. */
export function tooManyProblem(
  client: ConnectedClient,
  filter: string,
  { maxSubscriptionsPerConnection: most }: MqttLimits,
): string | undefined {
  if (!client.clean || Object.hasOwn(client.subscriptions, filter)) return undefined;
  client.subscribed = (client.subscribed ?? 0) + 1;
  // Those that it has taken back are looked for when it matters.
  if (client.subscribed > most) client.subscribed = Object.keys(client.subscriptions).length + 1;
  return client.subscribed > most ? `more than ${most} subscriptions` : undefined;
}
