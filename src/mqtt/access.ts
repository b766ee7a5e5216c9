/** Who may connect. Without any users everybody may, by whatever name. */
import { isPassword } from "../password.ts";

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
