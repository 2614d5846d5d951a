// The lab's own certificate authority, and the one certificate for all its names.
import { execFileSync } from "node:child_process"
import { X509Certificate, createHash } from "node:crypto"
import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"

const NAMES = "DNS:*.lab.internal,DNS:*.lab.test"
const DAYS = "2"

/** Made with openssl in `directory`; what the gateway serves, whom to trust, and the key's hash, by which Chromium trusts it. */
export function certificate(directory) {
  const at = name => join(directory, name)
  const openssl = (...args) => execFileSync("openssl", args, { stdio: ["ignore", "ignore", "pipe"] })
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
  openssl("req", "-x509", ...key, "-days", DAYS, "-subj", "/CN=lab authority",
    "-addext", "keyUsage=critical,keyCertSign", "-keyout", at("ca.key"), "-out", at("ca.pem"))
  openssl("req", ...key, "-subj", "/CN=lab", "-keyout", at("lab.key"), "-out", at("lab.csr"))
  writeFileSync(at("ext"), `subjectAltName=${NAMES}\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n`)
  openssl("x509", "-req", "-in", at("lab.csr"), "-CA", at("ca.pem"), "-CAkey", at("ca.key"), "-CAcreateserial",
    "-days", DAYS, "-extfile", at("ext"), "-out", at("lab.pem"))
  const cert = readFileSync(at("lab.pem"), "utf8")
  const spki = new X509Certificate(cert).publicKey.export({ type: "spki", format: "der" })
  return {
    caFile: at("ca.pem"),
    ca: readFileSync(at("ca.pem"), "utf8"),
    cert,
    key: readFileSync(at("lab.key"), "utf8"),
    spkiHash: createHash("sha256").update(spki).digest("base64"),
  }
}
