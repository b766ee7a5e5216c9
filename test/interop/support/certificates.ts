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
  /** A broker's as `broker`, signed by nobody but itself. */
  readonly own: string;
}

/** What `openssl ca` wants to know, which alone sets any date. */
const AUTHORITY = `[ca]
default_ca = authority
[authority]
database = index
serial = serial
new_certs_dir = .
default_md = sha256
policy = policy
[policy]
commonName = supplied
`;

export async function makeCertificates(
  folder: string,
  { isExpired = false }: { isExpired?: boolean } = {},
): Promise<Certificates> {
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
    const made = ["-in", `${name}.csr`, "-out", `${name}.pem`, "-extfile", "names"];
    if (isExpired && name === "broker") {
      await writeFile(at("ca.cnf"), AUTHORITY);
      await writeFile(at("index"), "");
      await writeFile(at("serial"), "01\n");
      const dates = ["-startdate", "20200101000000Z", "-enddate", "20200102000000Z"];
      const authority = ["-config", "ca.cnf", "-cert", "ca.pem", "-keyfile", "ca.key"];
      await openssl(["ca", "-batch", "-notext", ...authority, ...made, ...dates]);
    } else {
      const authority = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"];
      await openssl(["x509", "-req", ...authority, ...made, "-days", "2"]);
    }
  }
  const own = ["-keyout", "own.key", "-out", "own.pem", "-days", "2", "-subj", "/CN=127.0.0.1"];
  await openssl(["req", "-x509", ...key, ...own]);
  const [ownKey, ownCert, brokerKey, broker, ca] = await Promise.all(
    ["own.key", "own.pem", "broker.key", "broker.pem", "ca.pem"].map((name) => readFile(at(name), "utf8")),
  );
  await writeFile(at("broker-store.pem"), `${brokerKey}${broker}${ca}`);
  await writeFile(at("own-store.pem"), `${ownKey}${ownCert}`);
  return {
    own: at("own-store.pem"),
    ca: at("ca.pem"),
    broker: at("broker-store.pem"),
    cert: at("client.pem"),
    key: at("client.key"),
  };
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
