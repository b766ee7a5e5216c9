/** From a frame to a request, and from an answer to the pieces that go out (protocol guide, "Headers"). */
import { ProtocolError } from "../errors.ts";
import { Reader, Writer } from "../wire/buffer.ts";
import { decode, encode, type Fields, type Partially, type Shape } from "../wire/schema.ts";
import type { Api, RequestHeader } from "./api.ts";
import { ErrorCode } from "./error-code.ts";

const API_VERSIONS_KEY = 18;

export interface Request extends RequestHeader {
  readonly api: Api;
  readonly body: Shape<Fields>;
}

/** Throws `ProtocolError` on an unknown API or version and on whatever cannot be decoded. */
export function parseRequest(frame: Buffer, apis: ReadonlyMap<number, Api>, maxElements: number): Request {
  const reader = new Reader(frame);
  reader.elementsLeft = maxElements;
  const key = reader.int16();
  const version = reader.int16();
  const correlationId = reader.int32();
  const api = apis.get(key);
  if (api === undefined) throw new ProtocolError(`unknown API key ${key} (version ${version})`);
  const { min, max } = api.advertised ?? api.versions;
  if (version < min || version > max) {
    if (key === API_VERSIONS_KEY) return unknownApiVersions(api, correlationId);
    throw new ProtocolError(`${api.name} version ${version}; ${min} to ${max} are served`);
  }
  // The client id keeps the old encoding even in the flexible header, which only adds tagged fields.
  const clientId = reader.string(false);
  if (version >= api.request.flexibleFrom) reader.taggedFields();
  try {
    return { api, version, correlationId, clientId, body: decode(api.request, version, reader) };
  } catch (error) {
    if (!(error instanceof ProtocolError)) throw error;
    throw new ProtocolError(`${api.name} version ${version} cannot be decoded: ${error.message}`);
  }
}

/** The whole reply frame; record batches in it are the very buffers of the answer. */
export function encodeReply(request: Request, answer: Partially<Shape<Fields>>): Buffer[] {
  const { api, version, correlationId } = request;
  const writer = new Writer();
  writer.int32(0); // the length, known at the end
  writer.int32(correlationId);
  // KIP-511: an ApiVersions response always has the old header, whatever its version, because a client that
  // does not know yet whom it talks to must be able to read it.
  if (version >= api.response.flexibleFrom && api.key !== API_VERSIONS_KEY) writer.uvarint(0);
  encode(api.response, version, answer, writer);
  const length = writer.length - 4;
  const pieces = writer.finish();
  (pieces[0] as Buffer).writeInt32BE(length, 0);
  return pieces;
}

/**
 * KIP-511: an ApiVersions version unknown here is answered with a v0 body that says which are known. What
 * follows in its header is anyone's guess; the correlation id is all that is needed.
 */
function unknownApiVersions(api: Api, correlationId: number): Request {
  const { min, max } = api.versions;
  const answer = {
    errorCode: ErrorCode.UNSUPPORTED_VERSION,
    apiKeys: [{ apiKey: API_VERSIONS_KEY, minVersion: min, maxVersion: max }],
  };
  return { api: { ...api, handle: () => answer }, version: 0, correlationId, clientId: null, body: {} };
}
