/** Who may connect, and what CONNECT may say. Without any users everybody may, by whatever name. */
import type { ConnectPacket } from "aedes";
import { isPassword } from "../password.ts";
import { publishProblem } from "./topic-rules.ts";

export interface Access {
  /** Passwords, or their hashes, by user name. */
  readonly users: Readonly<Record<string, string>>;
  /** Whether, though there are users, those may connect who give no name. */
  readonly anonymous: boolean;
}

export const EVERYBODY: Access = { users: {}, anonymous: true };

export async function mayConnect(
  access: Access,
  username: string | undefined,
  password: Buffer | undefined,
): Promise<boolean> {
  const expected = passwordOf(access, username);
  if (expected === undefined) return isOpen(access, username);
  return password !== undefined && (await isPassword(password, expected));
}

/** Whether a client that connected under `before` is still somebody who might. */
export function mayStay(before: Access, now: Access, username: string | undefined): boolean {
  const [then, expected] = [passwordOf(before, username), passwordOf(now, username)];
  return expected === undefined ? isOpen(now, username) : expected === then;
}

function passwordOf({ users }: Access, username: string | undefined): string | undefined {
  return username !== undefined && Object.hasOwn(users, username) ? users[username] : undefined;
}

/** For those who give no name, or one that nobody has. */
const isOpen = ({ users, anonymous }: Access, username: string | undefined): boolean =>
  Object.keys(users).length === 0 || (anonymous && username === undefined);

/** Why a client is not taken; the return code of the CONNACK that says so (MQTT 3.1.1, section 3.2.2.3), if one does. */
export interface ConnectProblem {
  readonly words: string;
  readonly returnCode?: number;
}

const IDENTIFIER_REJECTED = 2;
export const STOPPING: ConnectProblem = { words: "the gateway is stopping", returnCode: 3 };
/** As aedes takes it. */
export const BAD_LOGIN = Object.assign(new Error("bad user name or password"), { returnCode: 4 });

export function connectProblem(
  { clientId, clean, will }: Pick<ConnectPacket, "clientId" | "clean" | "will">,
  maxClientIdBytes: number,
): ConnectProblem | undefined {
  if (clientId === "" && clean === false) {
    return { words: "a kept session without a client id", returnCode: IDENTIFIER_REJECTED }; // [MQTT-3.1.3-8]
  }
  if (Buffer.byteLength(clientId) > maxClientIdBytes) {
    return { words: `a client id of more than ${maxClientIdBytes} bytes`, returnCode: IDENTIFIER_REJECTED };
  }
  const topicProblem = will === undefined ? undefined : publishProblem(will.topic);
  return topicProblem === undefined ? undefined : { words: `a will to ${topicProblem}` };
}
