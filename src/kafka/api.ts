/**
 * How one Kafka API is declared: its key, the versions really implemented, both messages, and the handler.
 * ApiVersions is answered from what is registered, so nothing can be advertised that is not here.
 */

import type { EndSignal } from "../end-signal.ts";
import type { GroupCoordinator } from "../groups/coordinator.ts";
import type { Log } from "../log/log.ts";
import type { Logger, RateLimitedLog } from "../logger.ts";
import type { Turns } from "../turns.ts";
import { type Fields, type MessageSchema, message, type Partially, type Shape } from "../wire/schema.ts";
import type { ByteBudget } from "./byte-budget.ts";
import type { Reachability } from "./reachability.ts";
import type { ReadAhead } from "./read-ahead.ts";

/** Where a client reached us, or is told to. */
export interface Endpoint {
  readonly host: string;
  readonly port: number;
}

/** What every handler may use: one for the whole server. */
export interface BrokerServices {
  readonly log: Log;
  readonly groups: GroupCoordinator;
  readonly logger: Logger;
  /** For what a client can have said as often as it likes. */
  readonly repeated: RateLimitedLog;
  /** Persistent identity of the data folder, Kafka's `cluster.id`. */
  readonly clusterId: string;
  /** Of all clients of the gateway, whatever they speak. */
  readonly turns: Turns;
  /** Kafka's `log.dir`, shown to administrators. */
  readonly dataDir: string;
  readonly autoCreate: { readonly enabled: boolean; readonly partitions: number };
  /** The bound on what one request may name, and so on the partitions of a stream made over the protocol. */
  readonly maxPartitionsPerRequest: number;
  /** What the whole server may hold of requests and replies. */
  readonly memory: ByteBudget;
  readonly ahead: ReadAhead;
  readonly reachability: Reachability;
  /** Every registered API. */
  readonly apis: ReadonlyMap<number, Api>;
}

/** What every handler may use, and what is known of the client: one for each connection. */
export interface ClientContext extends BrokerServices {
  readonly clientHost: string;
  /** The address that this client is to be told (the one it reached us on, or the configured one). */
  readonly advertised: Endpoint;
  /**
   * Ends when the connection ends or the server closes: whoever waits stops waiting and answers with what
   * there is; the connection knows whether the answer still has a reader.
   */
  readonly signal: EndSignal;
}

export interface RequestHeader {
  readonly version: number;
  readonly correlationId: number;
  readonly clientId: string | null;
}

/** Versions accepted and really implemented; `flexible` is the first in the flexible encoding (KIP-482). */
interface Versions {
  readonly min: number;
  readonly max: number;
  readonly flexible?: number;
}

interface Declared<Q extends Fields, R extends Fields> {
  readonly key: number;
  readonly name: string;
  readonly versions: Versions;
  /** What of it is not here, in one line of docs/kafka.md. */
  readonly limits?: string;
  /** Advertised instead of `versions`, where a client needs to see more (Produce 0, see 00-produce.ts). */
  readonly advertised?: Versions;
  /**
   * Null sends no answer at all (Produce with acks=0). Called in the order in which requests arrive, so what
   * is done before the first await happens in that order too. A throw is logged and costs the connection:
   * no answer fits every API, and a client left without one would wait for its timeout.
   */
  handle(
    request: Shape<Q>,
    context: ClientContext,
    header: RequestHeader,
  ): Promise<Partially<Shape<R>> | null> | Partially<Shape<R>> | null;
}

export interface Api<Q extends Fields = Fields, R extends Fields = Fields> extends Declared<Q, R> {
  readonly request: MessageSchema<Q>;
  readonly response: MessageSchema<R>;
}

/** An API by its declaration: the fields of both messages, in the words of Kafka's own definitions. */
export function api<Q extends Fields, R extends Fields>({
  request,
  response,
  ...declared
}: Declared<Q, R> & { readonly request: Q; readonly response: R }): Api<Q, R> {
  const { flexible } = declared.versions;
  const options = flexible === undefined ? {} : { flexible };
  return { ...declared, request: message(options, request), response: message(options, response) };
}
