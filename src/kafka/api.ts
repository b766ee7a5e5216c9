/**
 * How one Kafka API is declared: its key, the versions really implemented, both messages, and the handler.
 * ApiVersions is answered from what is registered, so nothing can be advertised that is not here.
 */

import type { GroupCoordinator } from "../groups/coordinator.ts";
import type { Log } from "../log/log.ts";
import type { Logger } from "../logger.ts";
import type { Fields, MessageSchema, Partially, Shape } from "../wire/schema.ts";

/** Where a client reached us, or is told to. */
export interface Endpoint {
  readonly host: string;
  readonly port: number;
}

/** What a handler may use. One per server. */
export interface BrokerServices {
  readonly log: Log;
  readonly groups: GroupCoordinator;
  readonly logger: Logger;
  /** Persistent identity of the data folder, Kafka's `cluster.id`. */
  readonly clusterId: string;
  readonly autoCreate: { readonly enabled: boolean; readonly partitions: number };
  /** Every registered API, for ApiVersions. */
  readonly apis: readonly Api[];
}

/** One request on its way. */
export interface RequestContext extends BrokerServices {
  readonly version: number;
  readonly correlationId: number;
  readonly clientId: string | null;
  readonly clientHost: string;
  /** The address that this client is to be told (the one it reached us on, or the configured one). */
  readonly advertised: Endpoint;
  /** Aborted when the connection ends, so that whoever waits stops waiting. */
  readonly signal: AbortSignal;
}

export interface Api<Q extends Fields = Fields, R extends Fields = Fields> {
  readonly key: number;
  readonly name: string;
  /** Versions accepted and really implemented. */
  readonly versions: { readonly min: number; readonly max: number };
  /** Advertised instead of `versions`, where a client needs to see more (Produce 0, see 00-produce.ts). */
  readonly advertised?: { readonly min: number; readonly max: number };
  readonly request: MessageSchema<Q>;
  readonly response: MessageSchema<R>;
  /** Null sends no answer at all (Produce with acks=0). A throw becomes UNKNOWN_SERVER_ERROR and is logged. */
  handle(
    request: Shape<Q>,
    context: RequestContext,
  ): Promise<Partially<Shape<R>> | null> | Partially<Shape<R>> | null;
}

/** Gives a declaration its types; the identity otherwise. */
export function api<Q extends Fields, R extends Fields>(declaration: Api<Q, R>): Api {
  return declaration as unknown as Api;
}
