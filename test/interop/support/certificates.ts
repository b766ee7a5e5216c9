/** Certificates for a test: an authority, a broker's and a client's, by openssl. */

import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { run } from "./process.ts";
import { tool } from "./tools.ts";

export interface Certificates {
  readonly ca: string;
  /** Key and chain in one file, as Kafka's PEM key store wants it. */
  readonly broker: string;
  readonly cert: string;
  readonly key: string;
}

/** `days` may be negative: then the broker's certificate has expired. */
export async function makeCertificates(folder: string, days = 2): Promise<Certificates> {
  const openssl = (args: readonly string[]) => run(tool("openssl"), args, { cwd: folder });
  const at = (name: string) => join(folder, name);
  const key = ["-newkey", "rsa:2048", "-nodes"];
  await openssl([
    "req",
    "-x509",
    ...key,
    "-keyout",
    "ca.key",
    "-out",
    "ca.pem",
    "-days",
    "2",
    "-subj",
    "/CN=Test CA",
  ]);
  await writeFile(at("names"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n");
  for (const name of ["broker", "client"]) {
    await openssl(["req", ...key, "-keyout", `${name}.key`, "-out", `${name}.csr`, "-subj", `/CN=${name}`]);
    const validity =
      days < 0 && name === "broker"
        ? ["-not_before", "20200101000000Z", "-not_after", "20200102000000Z"]
        : ["-days", "2"];
    const signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names"];
    await openssl(["x509", "-req", "-in", `${name}.csr`, "-out", `${name}.pem`, ...signed, ...validity]);
  }
  const [brokerKey, broker, ca] = await Promise.all(
    ["broker.key", "broker.pem", "ca.pem"].map((name) => readFile(at(name), "utf8")),
  );
  await writeFile(at("broker-store.pem"), `${brokerKey}${broker}${ca}`);
  return { ca: at("ca.pem"), broker: at("broker-store.pem"), cert: at("client.pem"), key: at("client.key") };
}

/** Kafka's properties of an SSL listener of that name; with `clients` it asks for their certificates. */
export function tlsProperties(listener: string, { ca, broker }: Certificates, clients = false) {
  const prefix = `listener.name.${listener.toLowerCase()}.ssl`;
  return {
    [`${prefix}.keystore.type`]: "PEM",
    [`${prefix}.keystore.location`]: broker,
    [`${prefix}.truststore.type`]: "PEM",
    [`${prefix}.truststore.location`]: ca,
    [`${prefix}.client.auth`]: clients ? "required" : "none",
  };
}
