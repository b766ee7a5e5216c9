/**
 * How a gateway that runs is asked: HTTP over the socket of its data folder. Who may open that socket is who may
 * write in the folder, so nothing here needs a password and nothing of it is reachable from the network.
 *
 *     curl --unix-socket data/gateway.sock http://gateway/status
 *
 * A route answers with a value (one JSON document) or with an async iterable (a JSON document a line, as they
 * come). What it throws reaches the asking person as it is: code, message, mend; behind lines that have gone out
 * it is in the trailer.
 */
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { messageOf, SluiceError } from "../errors.ts";
import type { Logger } from "../logger.ts";

const MAX_BODY_BYTES = 4 << 20;
const MAX_CONNECTIONS = 64;
/** The trailer (RFC 9110, section 6.5) of lines that ended by an error: its JSON, encoded as a URI's component. */
export const ERROR_TRAILER = "sluice-error";
/** From the first byte of a request to its last. */
const REQUEST_TIMEOUT_MS = 10_000;

export interface ControlRequest {
  readonly query: URLSearchParams;
  /** The request's JSON document; undefined when there is none. */
  readonly body: unknown;
  /** Aborted when whoever asked is gone, or the gateway stops. */
  readonly gone: AbortSignal;
}

export type Route = (request: ControlRequest) => unknown;

export class ControlServer {
  private readonly logger: Logger;
  private readonly routes = new Map<string, Route>();
  private readonly open = new Set<AbortController>();
  private readonly sockets = new Set<Socket>();
  private server: Server | undefined;

  constructor(logger: Logger) {
    this.logger = logger;
  }

  /** `what` is method and path, such as "GET /status"; given before anybody can ask. */
  route(what: string, route: Route): void {
    this.routes.set(what, route);
  }

  /** Takes a connection to the data folder's socket. */
  readonly accept = (socket: Socket): void => {
    if (this.sockets.size >= MAX_CONNECTIONS) {
      socket.destroy();
      return;
    }
    this.sockets.add(socket);
    socket.once("close", () => this.sockets.delete(socket));
    this.server ??= createServer({ requestTimeout: REQUEST_TIMEOUT_MS }, (request, response) => {
      void this.answer(request, response);
    });
    this.server.emit("connection", socket);
  };

  /** Ends streams and connections; the socket itself is the data folder's. */
  async close(): Promise<void> {
    for (const controller of this.open) controller.abort();
    for (const socket of this.sockets) socket.destroySoon();
  }

  private async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const controller = new AbortController();
    this.open.add(controller);
    response.once("close", () => controller.abort());
    try {
      const url = new URL(request.url ?? "/", "http://gateway");
      const route = this.routes.get(`${request.method} ${url.pathname}`);
      if (route === undefined) {
        throw new SluiceError("NO_ROUTE", `this gateway knows no ${request.method} ${url.pathname}`, {
          mend: "It may be of another version than the one asking.",
        });
      }
      const body = await jsonOf(request);
      const answer = await route({ query: url.searchParams, body, gone: controller.signal });
      if (isStream(answer)) await sendLines(answer, response, controller.signal);
      else send(response, 200, answer);
    } catch (error) {
      this.fail(response, error);
    } finally {
      this.open.delete(controller);
    }
  }

  private fail(response: ServerResponse, error: unknown): void {
    if (!(error instanceof SluiceError))
      this.logger.error({ err: error }, "a request of the data folder failed");
    const fields = errorFields(error);
    if (!response.headersSent) {
      send(response, error instanceof SluiceError ? 400 : 500, { error: fields });
    } else {
      response.addTrailers({ [ERROR_TRAILER]: encodeURIComponent(JSON.stringify(fields)) });
      response.end();
    }
  }
}

function errorFields(error: unknown) {
  const { code, mend, exitCode } =
    error instanceof SluiceError ? error : { code: "INTERNAL", mend: undefined, exitCode: 70 };
  return { code, message: messageOf(error), mend, exitCode };
}

function send(response: ServerResponse, status: number, value: unknown): void {
  if (response.destroyed) return;
  response.writeHead(status, { "content-type": "application/json" });
  response.end(`${JSON.stringify(value ?? null)}\n`);
}

function isStream(answer: unknown): answer is AsyncIterable<unknown> {
  return typeof answer === "object" && answer !== null && Symbol.asyncIterator in answer;
}

async function sendLines(
  lines: AsyncIterable<unknown>,
  response: ServerResponse,
  gone: AbortSignal,
): Promise<void> {
  response.writeHead(200, { "content-type": "application/x-ndjson", trailer: ERROR_TRAILER });
  response.flushHeaders();
  for await (const line of lines) {
    if (gone.aborted) break;
    // Whoever is gone reads no more.
    if (!response.write(`${JSON.stringify(line)}\n`)) {
      await once(response, "drain", { signal: gone }).catch(() => {});
    }
  }
  response.end();
}

async function jsonOf(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > MAX_BODY_BYTES) throw new SluiceError("TOO_LARGE", `more than ${MAX_BODY_BYTES} bytes`);
    chunks.push(chunk);
  }
  if (bytes === 0) return undefined;
  try {
    return JSON.parse(Buffer.concat(chunks).toString());
  } catch (error) {
    throw new SluiceError("NOT_JSON", `the request is not JSON: ${messageOf(error)}`);
  }
}
