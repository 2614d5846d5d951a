// A certificate authority (pebble) and its DNS (pebble-challtestsrv), and appliances that get their certificates there.
// Everything of one test has a loopback address of its own, so that tests do not meet.
import { execFileSync, spawn, spawnSync } from "node:child_process"
import { X509Certificate } from "node:crypto"
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { createServer } from "node:https"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { connect } from "node:tls"
import { BINARY, eventually, spawnClient } from "../clients/harness.mjs"

if (!process.env.ACME_NAMESPACE) throw new Error("these tests need a network of their own: start them with tests/acme/run")

export const PATIENCE_MS = 90_000
const STOP_MS = 15_000
const HANDSHAKE_MS = 10_000
/** Newer ones of its DNS servers open one more port unless told. */
const NO_DOH = spawnSync("pebble-challtestsrv", ["-help"], { encoding: "utf8" }).stderr.includes("-doh") ? ["-doh", ""] : []
let labs = 0

/** An address of 127.0.0.0/8 that nobody else has. */
const freshAddress = () => `127.${1 + ((process.pid >> 8) & 127)}.${process.pid & 255}.${++labs}`

function stopped(child, signal) {
  if (!child || child.exitCode !== null || child.signalCode !== null) return Promise.resolve(child?.exitCode)
  child.kill(signal)
  const late = setTimeout(() => child.kill("SIGKILL"), STOP_MS)
  return new Promise(done => child.on("exit", code => (clearTimeout(late), done(code))))
}

export class Lab {
  #children = {}
  #clients = []
  #log = ""
  appliances = []

  /** `validity` in seconds; `nonceReject`: how many of a hundred nonces are refused; `authority: false`: not up yet. */
  static async begin(test, options = {}) {
    const lab = new Lab()
    test.after(() => lab.#end())
    await lab.#begin(options)
    return lab
  }

  async #begin({ validity, nonceReject = 0, authority = true }) {
    this.options = { validity, nonceReject }
    this.root = mkdtempSync(join(tmpdir(), "groundmist-acme-"))
    this.address = freshAddress()
    this.directory = `https://${this.address}:14000/dir`
    this.#ownRoot()
    this.#children.dns = this.#spawn("pebble-challtestsrv", [
      "-dns01", `${this.address}:8053`, "-http01", "", "-https01", "", "-tlsalpn01", "", ...NO_DOH,
      "-defaultIPv4", "", "-defaultIPv6", "", "-management", `${this.address}:8055`,
    ])
    await eventually(() => this.dns("clear-a", { host: "nobody.test" }).then(() => true, () => false), "the DNS server")
    if (authority) await this.startAuthority()
  }

  #file(name, text) {
    const path = join(this.root, name)
    if (text !== undefined) writeFileSync(path, text)
    return path
  }

  /** The authority's own HTTPS is trusted by a root of its own: `caFile`. */
  #ownRoot() {
    const openssl = (...args) => execFileSync("openssl", args, { stdio: ["ignore", "ignore", "pipe"] })
    const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    const at = name => this.#file(name)
    openssl("req", "-x509", ...key, "-days", "2", "-subj", "/CN=root of the test authority's HTTPS",
      "-addext", "keyUsage=critical,keyCertSign", "-keyout", at("ca.key"), "-out", at("ca.pem"))
    openssl("req", ...key, "-subj", "/CN=authority", "-keyout", at("api.key"), "-out", at("api.csr"))
    this.#file("ext", `subjectAltName=IP:${this.address}\nbasicConstraints=CA:FALSE\n`)
    openssl("x509", "-req", "-in", at("api.csr"), "-CA", at("ca.pem"), "-CAkey", at("ca.key"), "-CAcreateserial",
      "-days", "2", "-extfile", at("ext"), "-out", at("api.pem"))
    this.caFile = at("ca.pem")
    this.tls = { ca: readFileSync(at("ca.pem")), cert: readFileSync(at("api.pem")), key: readFileSync(at("api.key")) }
  }

  async startAuthority() {
    const pebble = {
      listenAddress: `${this.address}:14000`, managementListenAddress: `${this.address}:15000`,
      certificate: this.#file("api.pem"), privateKey: this.#file("api.key"), httpPort: 80, tlsPort: 443,
      ocspResponderURL: "", externalAccountBindingRequired: false, certificateValidityPeriod: this.options.validity,
    }
    // Newer ones take it from a profile.
    const { validity } = this.options
    if (validity) pebble.profiles = { default: { description: "the only one", validityPeriod: validity } }
    const config = this.#file("pebble.json", JSON.stringify({ pebble }))
    this.#children.pebble = this.#spawn("pebble", ["-config", config, "-dnsserver", `${this.address}:8053`], {
      PEBBLE_VA_NOSLEEP: "1", PEBBLE_WFE_NONCEREJECT: String(this.options.nonceReject), PEBBLE_AUTHZREUSE: "0",
    })
    const root = () => this.#curl(`https://${this.address}:15000/roots/0`)
    await eventually(() => { try { return this.#file("issuer.pem", root()) } catch { return false } }, "the authority")
    /** Whom clients must trust: another root each time that the authority starts. */
    this.issuer = this.#file("issuer.pem")
  }

  stopAuthority() {
    return stopped(this.#children.pebble, "SIGKILL")
  }

  /** In the authority's place: something that takes connections and never answers; or, with `change`, its directory, changed. */
  async standIn(change, hang = path => !change) {
    const server = createServer(this.tls, (request, answer) => {
      if (hang(request.url)) return
      const directory = JSON.parse(this.#curl(this.directory))
      answer.end(JSON.stringify(change(directory)))
    })
    await new Promise(done => server.listen(0, this.address, done))
    this.#children[`stand-in ${server.address().port}`] = { stop: () => (server.closeAllConnections(), server.close()) }
    return `https://${this.address}:${server.address().port}/dir`
  }

  #curl(url) {
    return execFileSync("curl", ["-sf", "--max-time", "10", "--cacert", this.caFile, url], { encoding: "utf8" })
  }

  #spawn(command, args, env = {}) {
    const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, ...env } })
    for (const stream of [child.stdout, child.stderr]) stream.on("data", data => (this.#log += data))
    return child
  }

  /** Tell the DNS server: `dns("add-a", { host, addresses })`. */
  async dns(what, body) {
    const answer = await fetch(`http://${this.address}:8055/${what}`, { method: "POST", body: JSON.stringify(body) })
    if (!answer.ok) throw new Error(`${what}: HTTP status ${answer.status}`)
    return answer.text()
  }

  point(name, address) {
    return this.dns("add-a", { host: `${name}.`, addresses: [address] })
  }

  /** How often the authority has come to verify a name, and how many orders it has taken. */
  get validations() {
    return this.#log.split("Pulled a task from the Tasks queue").length - 1
  }

  get orders() {
    return this.#log.split("POST /order-plz").length - 1
  }

  get log() {
    return this.#log
  }

  /** A server with a name of its own, which DNS leads to unless `dns` is false. Not started. */
  async appliance({ settings = {}, dns = true } = {}) {
    const address = freshAddress()
    const appliance = new Appliance(this, `sync-${labs}.example.test`, address, settings)
    this.appliances.push(appliance)
    // Clients have a hosts file; the server must not believe it.
    appendFileSync("/etc/hosts", `${address} ${appliance.domain}\n`)
    if (dns) await this.point(appliance.domain, address)
    return appliance
  }

  /** A real client, connected by TLS that trusts the authority alone. */
  async client(line, appliance, name) {
    const client = spawnClient(line, { NODE_EXTRA_CA_CERTS: this.issuer })
    this.#clients.push(client)
    const url = `wss://${appliance.domain}/?token=${await appliance.token(name)}`
    await client.open({ url, peerId: `peer-${name}` })
    await client.connected({})
    return client
  }

  async #end() {
    await Promise.all(this.#clients.map(client => client.close()))
    for (const appliance of this.appliances) await appliance.stop()
    for (const child of Object.values(this.#children)) await (child.stop ? child.stop() : stopped(child, "SIGKILL"))
    const leaked = this.appliances.some(({ log }) => /PRIVATE KEY|token=/.test(log))
    rmSync(this.root, { recursive: true, force: true })
    if (leaked) throw new Error("a secret was logged")
  }
}

/** The program under test, as its owner runs it: a name, an authority, and its data. */
export class Appliance {
  #child
  log = ""

  constructor(lab, domain, address, settings) {
    this.lab = lab
    this.domain = domain
    this.address = address
    this.dataDir = join(lab.root, domain)
    this.settings = settings
  }

  /** What it is started with. */
  environment(settings = {}) {
    return {
      ...process.env,
      GROUNDMIST_SYNC_DOMAIN: this.domain,
      GROUNDMIST_SYNC_DATA_DIR: this.dataDir,
      GROUNDMIST_SYNC_LISTEN__HTTPS: `${this.address}:443`,
      GROUNDMIST_SYNC_LISTEN__HTTP: `${this.address}:80`,
      GROUNDMIST_SYNC_ACME__DIRECTORY: this.lab.directory,
      GROUNDMIST_SYNC_ACME__CA_FILE: this.lab.caFile,
      GROUNDMIST_SYNC_ACME__RETRY: "1s",
      GROUNDMIST_SYNC_IDENTITY__NAME_SERVERS: `${this.lab.address}:8053`,
      ...this.settings,
      ...settings,
    }
  }

  start(settings = {}) {
    const env = this.environment(settings)
    this.#child = spawn(BINARY, ["serve", "--config", "/dev/null"], { stdio: ["ignore", "pipe", "pipe"], env })
    for (const stream of [this.#child.stdout, this.#child.stderr])
      stream.on("data", data => (this.log += data))
  }

  /** Wait until it has logged this, since `from` (a length of the log). */
  logged(pattern, from = 0) {
    return eventually(() => {
      if (pattern.test(this.log.slice(from))) return true
      if (this.#child.exitCode !== null) throw new Error(`the server exited ${this.#child.exitCode}: ${this.log}`)
      return false
    }, `${pattern} in the log:\n${this.log}`, PATIENCE_MS).catch(error => {
      throw new Error(`${error.message}\n--- log:\n${this.log}`)
    })
  }

  /** What a command says; also `status` of a server in trouble, which exits with 1. */
  command(...args) {
    const ran = spawnSync(BINARY, [...args, "--data-dir", this.dataDir], { encoding: "utf8" })
    if (!ran.stdout) throw new Error(`${args}: ${ran.stderr}`)
    return ran.stdout.trim()
  }

  async token(name) {
    return this.command("token", "create", "--name", name, "--namespace", "xyz.example.notes")
  }

  /** The certificate that a client is shown, if any: `{ serial, trusted, names, until, spki }`. */
  shown(servername = this.domain) {
    return new Promise(done => {
      const ca = this.lab.issuer && readFileSync(this.lab.issuer)
      const options = { host: this.address, port: 443, servername, ca, rejectUnauthorized: false, timeout: HANDSHAKE_MS }
      const socket = connect(options, () => {
        const certificate = socket.getPeerCertificate()
        const { serialNumber: serial, subjectaltname: names, valid_to: until } = certificate
        const spki = new X509Certificate(certificate.raw).publicKey.export({ type: "spki", format: "der" })
        done({ serial, names, until: new Date(until), trusted: socket.authorized, spki })
        socket.destroy()
      })
      socket.on("error", () => done(undefined)).on("timeout", () => socket.destroy(new Error("late")))
    })
  }

  /** Wait until a certificate is shown that is trusted, and another than `serial`. */
  async certified(serial) {
    let shown
    const good = async () => {
      shown = await this.shown()
      return shown?.trusted && shown.serial !== serial
    }
    await eventually(good, "a certificate", PATIENCE_MS).catch(error => {
      throw new Error(`${error.message}\n--- log:\n${this.log}`)
    })
    return shown
  }

  stop(signal = "SIGTERM") {
    return stopped(this.#child, signal)
  }
}
