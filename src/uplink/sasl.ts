/**
 * SASL over Kafka's own requests (KIP-43, KIP-152): PLAIN (RFC 4616), SCRAM (RFC 5802), OAUTHBEARER (RFC 7628).
 * Secrets are read anew for each connection, so that a changed password or token file needs no restart.
 */
import { createHash, createHmac, pbkdf2, randomBytes, timingSafeEqual } from "node:crypto";
import { readFile } from "node:fs/promises";
import { promisify } from "node:util";
import { messageOf } from "../errors.ts";
import { saslHandshake } from "../kafka/apis/17-sasl-handshake.ts";
import { saslAuthenticate } from "../kafka/apis/36-sasl-authenticate.ts";
import type { KafkaClient } from "../kafka/client.ts";

import { KafkaError, NamedError } from "./words.ts";

export type Sasl =
  | {
      readonly mechanism: "plain" | "scram-sha-256" | "scram-sha-512";
      readonly username: string;
      readonly password?: string | undefined;
      readonly passwordFile?: string | undefined;
    }
  | {
      readonly mechanism: "oauthbearer";
      readonly tokenFile?: string | undefined;
      readonly clientCredentials?: ClientCredentials | undefined;
    };

export interface ClientCredentials {
  readonly url: string;
  readonly clientId: string;
  readonly clientSecret?: string | undefined;
  readonly clientSecretFile?: string | undefined;
  readonly scope?: string | undefined;
}

const TOKEN_TIMEOUT_MS = 10_000;
const MAX_ITERATIONS = 1_000_000;
const pbkdf2Later = promisify(pbkdf2);

/** Resolves with how long the session lasts, in milliseconds; 0 without an end. */
export async function authenticate(client: KafkaClient, sasl: Sasl): Promise<number> {
  const mechanism = sasl.mechanism.toUpperCase();
  const { errorCode, mechanisms } = await client.ask(saslHandshake, 1, { mechanism });
  if (errorCode !== 0) {
    throw new NamedError(
      "SASL_MECHANISM",
      `the listener takes ${mechanisms.join(", ") || "no SASL"}, not ${mechanism}`,
      "Set sasl.mechanism to one of those.",
    );
  }
  switch (sasl.mechanism) {
    case "plain": {
      const password = await secret("sasl.password", sasl.password, sasl.passwordFile);
      return (await step(client, Buffer.from(`\0${sasl.username}\0${password}`))).lifetimeMs;
    }
    case "oauthbearer":
      return bearer(client, await tokenOf(sasl));
    default: {
      const password = await secret("sasl.password", sasl.password, sasl.passwordFile);
      return scram(client, sasl.username, password, sasl.mechanism.endsWith("256") ? "sha256" : "sha512");
    }
  }
}

async function step(client: KafkaClient, authBytes: Buffer): Promise<{ bytes: Buffer; lifetimeMs: number }> {
  const answer = await client.ask(saslAuthenticate, 1, { authBytes });
  if (answer.errorCode !== 0) throw new KafkaError(answer.errorCode, "SaslAuthenticate", answer.errorMessage);
  return { bytes: answer.authBytes, lifetimeMs: answer.sessionLifetimeMs };
}

async function bearer(client: KafkaClient, token: string): Promise<number> {
  const { bytes, lifetimeMs } = await step(client, Buffer.from(`n,,\x01auth=Bearer ${token}\x01\x01`));
  // RFC 7628, 3.2.3: a refusal is told in JSON and has to be confirmed.
  if (bytes.length === 0) return lifetimeMs;
  await step(client, Buffer.from("\x01"));
  throw new NamedError("SASL_TOKEN", `the cluster refused the token: ${bytes.toString().slice(0, 200)}`);
}

async function scram(
  client: KafkaClient,
  username: string,
  password: string,
  hash: "sha256" | "sha512",
): Promise<number> {
  const name = username.replace(/=/g, "=3D").replace(/,/g, "=2C");
  const nonce = randomBytes(24).toString("base64");
  const clientFirst = `n=${name},r=${nonce}`;
  const serverFirst = (await step(client, Buffer.from(`n,,${clientFirst}`))).bytes.toString();
  const { r = "", s = "", i = "" } = fieldsOf(serverFirst);
  const iterations = Number(i);
  if (!r.startsWith(nonce) || r === nonce || !(iterations >= 4096 && iterations <= MAX_ITERATIONS)) {
    throw new NamedError("SASL_SCRAM", "the cluster's SCRAM challenge is not sound");
  }
  const keyBytes = hash === "sha256" ? 32 : 64;
  const salt = Buffer.from(s, "base64");
  const salted = await pbkdf2Later(password.normalize("NFKC"), salt, iterations, keyBytes, hash);
  const hmac = (key: Buffer, text: string): Buffer => createHmac(hash, key).update(text).digest();
  const clientKey = hmac(salted, "Client Key");
  const withoutProof = `c=biws,r=${r}`;
  const authMessage = `${clientFirst},${serverFirst},${withoutProof}`;
  const signature = hmac(createHash(hash).update(clientKey).digest(), authMessage);
  const proof = clientKey.map((byte, index) => byte ^ (signature[index] as number));
  const final = await step(client, Buffer.from(`${withoutProof},p=${Buffer.from(proof).toString("base64")}`));
  // Who does not know the password cannot make this: it is how the cluster shows that it is the right one.
  const expected = hmac(hmac(salted, "Server Key"), authMessage);
  const shown = Buffer.from(fieldsOf(final.bytes.toString()).v ?? "", "base64");
  if (shown.length !== expected.length || !timingSafeEqual(shown, expected)) {
    throw new NamedError("SASL_SERVER", "the cluster could not prove that it knows the password");
  }
  return final.lifetimeMs;
}

function fieldsOf(text: string): Record<string, string> {
  return Object.fromEntries(text.split(",").map((part) => [part[0] ?? "", part.slice(2)]));
}

async function secret(name: string, value: string | undefined, file: string | undefined): Promise<string> {
  if (value !== undefined) return value;
  if (file === undefined)
    throw new NamedError("NO_SECRET", `${name} is not set`, `Set ${name} or ${name}File.`);
  try {
    return (await readFile(file, "utf8")).trimEnd();
  } catch (error) {
    throw new NamedError("NO_SECRET", `${name}File cannot be read: ${messageOf(error)}`);
  }
}

async function tokenOf(sasl: Extract<Sasl, { mechanism: "oauthbearer" }>): Promise<string> {
  if (sasl.clientCredentials === undefined) return secret("sasl.token", undefined, sasl.tokenFile);
  const { url, clientId, clientSecret, clientSecretFile, scope } = sasl.clientCredentials;
  const password = await secret("sasl.clientCredentials.clientSecret", clientSecret, clientSecretFile);
  const fields = { grant_type: "client_credentials", ...(scope === undefined ? {} : { scope }) };
  const basic = Buffer.from(`${encodeURIComponent(clientId)}:${encodeURIComponent(password)}`).toString(
    "base64",
  );
  let words: string;
  try {
    const response = await fetch(url, {
      method: "POST",
      headers: { authorization: `Basic ${basic}` },
      body: new URLSearchParams(fields),
      signal: AbortSignal.timeout(TOKEN_TIMEOUT_MS),
    });
    const token = ((await response.json()) as { access_token?: unknown }).access_token;
    if (response.ok && typeof token === "string") return token;
    words = `it answered ${response.status}`;
  } catch (error) {
    words = messageOf((error as Error).cause ?? error);
  }
  throw new NamedError(
    "SASL_TOKEN",
    `no token from ${url}: ${words}`,
    "Check sasl.clientCredentials: url, clientId and secret.",
  );
}
