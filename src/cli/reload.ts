/** `sluice reload`: the gateway that runs takes over what its files say now, or says why not. */
import type { Command } from "commander";
import pc from "picocolors";
import type { Reloaded } from "../config/reloader.ts";
import { type GatewayOptions, gatewayOf, gatewayOptions } from "./gateway.ts";

interface Options extends GatewayOptions {
  readonly json?: boolean;
}

export function register(program: Command): void {
  gatewayOptions(
    program
      .command("reload")
      .description(
        "Make the gateway that runs take over its configuration anew. Exit code 78 when it is wrong; then the old one goes on.",
      ),
  )
    .option("--json", "one JSON document")
    .action(run);
}

async function run(options: Options): Promise<void> {
  const reloaded = await (await gatewayOf(options)).ask<Reloaded>("POST /reload");
  if (options.json) return console.log(JSON.stringify(reloaded, null, 2));
  const { file, version, changed } = reloaded;
  const what =
    changed.length === 0 ? "says what the gateway runs on already" : `taken over: ${changed.join(", ")}`;
  console.log(`${pc.green("ok")}  ${file} (version ${version}) ${what}`);
}
