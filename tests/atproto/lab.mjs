// The lab: PLC directory and PDS in their own processes behind one TLS front, under names of their own, with accounts.
import { spawn } from "node:child_process"
import { mkdirSync, mkdtempSync, rmSync } from "node:fs"
import { randomBytes } from "node:crypto"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { getCACertificates, setDefaultCACertificates } from "node:tls"
import { createAccount, createWebAccount } from "./accounts.mjs"
import { certificate } from "./certificate.mjs"
import { Gateway } from "./gateway.mjs"
import "./names.mjs"

const START_MS = 60_000
const PDS_HOST = "pds.lab.internal"
const PLC_HOST = "plc.lab.internal"
const TRUSTED = getCACertificates("default")

const here = name => new URL(name, import.meta.url)

export class Lab {
  #children = []
  /** Where the PDS is, what it is called, and where did:plc identities are. */
  pds = `https://${PDS_HOST}`
  pdsHost = PDS_HOST
  pdsDid = `did:web:${PDS_HOST}`
  plc = `https://${PLC_HOST}`

  /** Start everything, with accounts `owner` and `stranger` (did:plc) and `webOwner` (did:web). */
  static async start() {
    const lab = new Lab()
    try {
      await lab.#start()
    } catch (error) {
      await lab.stop()
      throw error
    }
    return lab
  }

  async #start() {
    this.root = mkdtempSync(join(tmpdir(), "groundmist-lab-"))
    this.certificate = certificate(this.root)
    this.gateway = await Gateway.start(this.certificate)
    // This process resolves and trusts as the others do.
    process.env.LAB_GATEWAY = String(this.gateway.port)
    setDefaultCACertificates([...TRUSTED, this.certificate.ca])

    this.gateway.route(PLC_HOST, await this.#run("plc.mjs"))
    const data = join(this.root, "pds")
    mkdirSync(data)
    const pds = await this.#run("pds.mjs", {
      PDS_PORT: "0",
      PDS_HOSTNAME: PDS_HOST,
      PDS_DATA_DIRECTORY: data,
      PDS_BLOBSTORE_DISK_LOCATION: join(data, "blobs"),
      PDS_DID_PLC_URL: this.plc,
      PDS_SERVICE_HANDLE_DOMAINS: ".lab.test",
      PDS_INVITE_REQUIRED: "false",
      PDS_DISABLE_SSRF_PROTECTION: "true",
      PDS_JWT_SECRET: randomBytes(16).toString("hex"),
      PDS_ADMIN_PASSWORD: randomBytes(16).toString("hex"),
      PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX: randomBytes(32).toString("hex"),
    })
    this.gateway.route(PDS_HOST, pds)
    // It answers /.well-known/atproto-did for the handles that it gave out.
    for (const name of ["ada", "mallory", "wanda"]) this.gateway.route(`${name}.lab.test`, pds)

    this.owner = await createAccount(this.pds, "ada")
    this.stranger = await createAccount(this.pds, "mallory")
    this.webOwner = await createWebAccount(this.pds, this.gateway, "wanda")
  }

  /** How a server is told, by its environment, to ask this PLC directory and to find all names here. */
  get settings() {
    return {
      GROUNDMIST_SYNC_IDENTITY__PLC_DIRECTORY: this.plc,
      GROUNDMIST_SYNC_IDENTITY__CA_FILE: this.certificate.caFile,
      GROUNDMIST_SYNC_IDENTITY__HOSTS: this.gateway.hosts.map(host => `${host}=127.0.0.1:${this.gateway.port}`).join(","),
    }
  }

  /** Start one of our scripts under this Node; the port that it prints. */
  #run(script, env) {
    const child = spawn(process.execPath, ["--import", here("names.mjs").href, here(script).pathname], {
      stdio: ["ignore", "pipe", "pipe"],
      env: {
        ...process.env,
        ...env,
        LAB_GATEWAY: String(this.gateway.port),
        NODE_EXTRA_CA_CERTS: this.certificate.caFile,
        // Set by the test runner for its own children only.
        NODE_TEST_CONTEXT: undefined,
      },
    })
    this.#children.push(child)
    let log = ""
    child.stderr.on("data", data => (log += data))
    return new Promise((done, failed) => {
      const late = setTimeout(() => failed(new Error(`${script} not up in ${START_MS} ms: ${log}`)), START_MS)
      child.on("exit", code => failed(new Error(`${script} exited ${code}: ${log}`)))
      createInterface({ input: child.stdout }).on("line", line => {
        const { port } = line.startsWith('{"port"') ? JSON.parse(line) : {}
        if (!port) return void (log += `${line}\n`)
        clearTimeout(late)
        done(port)
      })
    })
  }

  async stop() {
    for (const child of this.#children) {
      if (child.exitCode !== null || child.signalCode !== null) continue
      child.kill("SIGKILL")
      await new Promise(done => child.on("exit", done))
    }
    await this.gateway?.stop()
    if (this.root) rmSync(this.root, { recursive: true, force: true })
  }
}
