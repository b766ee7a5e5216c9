/** An uplink in the words that a person is told. */
import { Command } from "commander";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { register, resetTo } from "../../src/cli/uplink.ts";
import { lastsText, runwayText } from "../../src/cli/uplink-text.ts";
import { ControlServer } from "../../src/control/server.ts";
import { lockFolder } from "../../src/log/folder-lock.ts";
import type { UplinkReport } from "../../src/uplink/report.ts";
import type { VerifiedPartition } from "../../src/uplink/verify.ts";
import { silentLogger } from "../support/log.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const HOUR = 3_600_000;

test.each([
  [41 * HOUR, "41 h"],
  [18 * 60_000, "18 min"],
  [72 * HOUR, "3 d"],
  [1.5 * HOUR, "90 min"],
  [5_500, "5.5 s"],
])("%d ms are told as %s", (ms, text) => {
  expect(lastsText(ms)).toBe(text);
});

describe("the runway", () => {
  const told = (runway: object, waitingRecords = 1_234) =>
    runwayText({ waitingRecords, waitingBytes: 4_096, runway } as unknown as UplinkReport);

  test("says what waits, how long the disk lasts, how long the drain takes", () => {
    expect(told({ diskMs: 41 * HOUR, drainMs: 18 * 60_000 })).toBe(
      "1,234 records wait, 4.0 KiB; at today's rate the disk lasts 41 h; the drain takes 18 min",
    );
  });

  test("says nothing of what is not known, and that a drain never ends", () => {
    expect(told({})).toBe("1,234 records wait, 4.0 KiB");
    expect(told({ drainMs: null })).toBe("1,234 records wait, 4.0 KiB; more comes in than goes out");
    expect(told({ drainMs: 0 }, 0)).toBe("nothing waits");
  });
});

test("--to takes places, offsets and times, and says what it takes", () => {
  expect(resetTo("remote", 0)).toEqual({ kind: "remote" });
  expect(resetTo("end", 0)).toEqual({ kind: "end" });
  expect(resetTo("42", 0)).toEqual({ kind: "offset", offset: 42 });
  expect(resetTo("2h", 3 * HOUR)).toEqual({ kind: "time", timestampMs: HOUR });
  expect(() => resetTo("somewhere", 0)).toThrow(/--to cannot be "somewhere"/);
});

test("on a terminal, verify says how far it is, and that is gone before the table", async () => {
  const folder = await temporaryFolder();
  const server = new ControlServer(silentLogger);
  const unlock = await lockFolder(folder, server.accept);
  onTestFinished(async () => {
    vi.restoreAllMocks();
    process.stderr.isTTY = wasTTY;
    await server.close();
    await unlock();
  });
  const counts = { records: 1, missing: 0, different: 0, duplicates: 0, outOfOrder: 0, examples: [] };
  server.route("POST /uplinks/verify", async function* (): AsyncGenerator<VerifiedPartition> {
    yield { stream: "s", partition: 0, topic: "t", from: 0, to: 1, checksum: "00000000", ...counts };
  });
  const wasTTY = process.stderr.isTTY;
  process.stderr.isTTY = true;
  let seen = "";
  vi.spyOn(process.stderr, "write").mockImplementation((text) => {
    seen += String(text);
    return true;
  });
  vi.spyOn(console, "log").mockImplementation((text) => {
    seen += `${text}\n`;
  });
  const program = new Command();
  register(program);
  await program.parseAsync(["uplink", "verify", "--data", folder], { from: "user" });
  // Up over the line, and everything from there on is cleared.
  const order = ["1 partition compared", "\u001b[1A\r\u001b[0J", "PARTITION"].map((text) =>
    seen.indexOf(text),
  );
  expect(order).toEqual(order.toSorted((a, b) => a - b));
  expect(order).not.toContain(-1);
});
