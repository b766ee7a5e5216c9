/** Passwords as text, or as mosquitto_passwd hashes them, so that a password file of Mosquitto's can be taken over. */
import { createHash, pbkdf2, timingSafeEqual } from "node:crypto";
import { promisify } from "node:util";

/** `$7$iterations$salt$hash`: PBKDF2 with SHA-512, the default of mosquitto_passwd 2.0; `$6$salt$hash`: SHA-512. */
const HASHED = /^\$(?:7\$(\d{1,7})|6)\$([A-Za-z0-9+/]+=*)\$([A-Za-z0-9+/]{86}==)$/;
const MAX_ITERATIONS = 1_000_000;
const HASH_BYTES = 64;
const pbkdf2Later = promisify(pbkdf2);

/** Why a text can be neither a password nor its hash (completes "password …"), or undefined. */
export function passwordProblem(text: string): string | undefined {
  if (text === "") return "must not be empty";
  if (!text.startsWith("$")) return undefined;
  const match = HASHED.exec(text);
  if (match === null) return "begins with $ and is no hash that is known here";
  const iterations = Number(match[1] ?? 1);
  return iterations >= 1 && iterations <= MAX_ITERATIONS
    ? undefined
    : `has ${iterations} iterations; 1 to ${MAX_ITERATIONS} are possible`;
}

/** Whether `given` is the password that `expected` is, or is the hash of. Takes as long for any of the same kind. */
export async function isPassword(given: Buffer, expected: string): Promise<boolean> {
  const [, iterations, salt = "", hash = ""] = HASHED.exec(expected) ?? [];
  if (hash === "") return timingSafeEqual(sha512(given), sha512(Buffer.from(expected)));
  const salted = Buffer.from(salt, "base64");
  const found =
    iterations === undefined
      ? sha512(given, salted)
      : await pbkdf2Later(given, salted, Number(iterations), HASH_BYTES, "sha512");
  return timingSafeEqual(found, Buffer.from(hash, "base64"));
}

function sha512(...parts: readonly Buffer[]): Buffer {
  const hash = createHash("sha512");
  for (const part of parts) hash.update(part);
  return hash.digest();
}
