/** The other end of `server.ts`: how a verb asks the gateway that runs on a data folder. */
import { type IncomingMessage, request } from "node:http";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { SluiceError } from "../errors.ts";
import { socketPath } from "../log/folder-lock.ts";
import { ERROR_TRAILER } from "./server.ts";

/** `EX_UNAVAILABLE` of sysexits.h. */
const NOT_RUNNING_EXIT_CODE = 69;
/** Errors of a socket that nobody listens on. */
const NOBODY = new Set(["ENOENT", "ECONNREFUSED", "ENOTDIR"]);

export class ControlClient {
  private readonly dataDir: string;

  constructor(dataDir: string) {
    this.dataDir = dataDir;
  }

  /**
   * One question, one JSON document; `what` is method and path with its query, such as "GET /status". Rejects
   * with the gateway's own SluiceError, or with NOT_RUNNING (exit code 69).
   */
  async ask<T>(what: string, body?: unknown): Promise<T> {
    const response = await this.send(what, body);
    try {
      return answerIn(response, await text(response)) as T;
    } catch (error) {
      throw this.inWords(error);
    }
  }

  /** One question, answered by a JSON document a line until either side ends it. Rejects as `ask`, then and later. */
  async *lines<T>(what: string, body?: unknown, signal?: AbortSignal): AsyncGenerator<T> {
    const response = await this.send(what, body, signal);
    try {
      for await (const line of createInterface({ input: response, crlfDelay: Number.POSITIVE_INFINITY })) {
        yield answerIn(response, line) as T;
      }
      const error = response.trailers[ERROR_TRAILER];
      if (error !== undefined) throw errorIn(JSON.parse(decodeURIComponent(error)));
    } catch (error) {
      throw this.inWords(error);
    } finally {
      response.destroy();
    }
  }

  private send(what: string, body: unknown, signal?: AbortSignal): Promise<IncomingMessage> {
    const [method, path] = what.split(" ");
    return new Promise((resolve, reject) => {
      const outgoing = request({ socketPath: this.path(), method, path, agent: false, signal }, resolve);
      outgoing.once("error", (error) => reject(this.inWords(error)));
      outgoing.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }

  private path(): string {
    try {
      return socketPath(this.dataDir);
    } catch (error) {
      throw this.inWords(error);
    }
  }

  private inWords(error: unknown): unknown {
    const { dataDir } = this;
    const code = (error as NodeJS.ErrnoException).code ?? "";
    if (code === "EACCES" || code === "EPERM") {
      return new SluiceError("NOT_ALLOWED", `only who may write in ${dataDir} may ask its gateway`, {
        mend: "Run this as the user that the gateway runs as.",
        exitCode: 77,
      });
    }
    // What was cut short is no JSON either.
    if (code === "ECONNRESET" || error instanceof SyntaxError) {
      return new SluiceError("GONE", "the gateway was gone before it had answered", {
        mend: "Its log says why; ask again when it runs.",
        exitCode: NOT_RUNNING_EXIT_CODE,
      });
    }
    if (!NOBODY.has(code)) return error;
    return new SluiceError("NOT_RUNNING", `no gateway runs on the data folder ${dataDir}`, {
      mend: "Start one with sluice up, or name its data folder with --data.",
      exitCode: NOT_RUNNING_EXIT_CODE,
    });
  }
}

function answerIn({ statusCode = 0 }: IncomingMessage, json: string): unknown {
  const answer = JSON.parse(json);
  if (statusCode < 400) return answer;
  throw errorIn(answer.error);
}

interface ErrorFields {
  readonly code: string;
  readonly message: string;
  readonly mend?: string;
  readonly exitCode: number;
}

function errorIn({ code, message, mend, exitCode }: ErrorFields): SluiceError {
  return new SluiceError(code, message, { mend, exitCode });
}
