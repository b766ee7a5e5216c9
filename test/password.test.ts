import { expect, it } from "vitest";
import { isPassword, passwordProblem } from "../src/password.ts";

/** "secret", as mosquitto_passwd 2.0 writes it. */
const HASHES = [
  "$7$101$zBiRTUnQMjfxiFWw$qSReTQSjg5QpUimqWNZmb4U9kIIt7OfkZVewCldiT8UzYT461qXlUnQe9ZHu212uOwrsg2MdQPk1QLb/Z+d6wQ==",
  "$6$lSWS3RYAtWPUR5Qd$l5d3qPNN4kkTBMPWf6qAI1plyCvfnpqqGBqxmNiHmFECrjSz9O+ljnncBwaZJ0eVE8kT561SUEwTMuMAtLbrVw==",
];

it.each(["secret", ...HASHES])("%s takes the password and no other", async (expected) => {
  expect(passwordProblem(expected)).toBeUndefined();
  expect(await isPassword(Buffer.from("secret"), expected)).toBe(true);
  for (const wrong of ["", "Secret", "secret ", expected.startsWith("$") ? expected : "x"]) {
    expect(await isPassword(Buffer.from(wrong), expected)).toBe(false);
  }
});

it.each([
  ["", /empty/],
  ["$argon2id$v=19$m=65536$c2FsdA$aGFzaA", /no hash that is known/],
  [HASHES[0]?.slice(0, -4) ?? "", /no hash that is known/],
  [HASHES[0]?.replace("$101$", "$0$") ?? "", /0 iterations/],
  [HASHES[0]?.replace("$101$", "$9999999$") ?? "", /9999999 iterations/],
])("%s is refused", (text, words) => {
  expect(passwordProblem(text)).toMatch(words);
});
