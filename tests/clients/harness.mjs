// Starts the real server and real clients, each in its own process, and cleans up after them.
import { spawn } from "node:child_process"
import { existsSync, mkdtempSync, rmSync } from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { dirname, join, resolve } from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"

const here = dirname(fileURLToPath(import.meta.url))
const debug = resolve(here, "../../target/debug")
/** The program under test. */
export const BINARY = process.env.GROUNDMIST_SYNC ?? join(debug, "groundmist-sync")
const SAMOD_PEER = process.env.SAMOD_PEER ?? join(debug, "samod_peer")
/**
 * A directory where `@automerge/automerge-repo-sync-server` is installed: the scenarios that any
 * server should pass then run against that one, to tell a wrong scenario from a wrong server.
 */
export const REFERENCE = process.env.REFERENCE_SERVER
/** Which lines of clients meet: old with old, new with new, and mixed. */
export const PAIRS = [["v1", "v1"], ["v2", "v2"], ["v1", "v2"]]
export const NAMESPACE = "xyz.example.notes"

const START_MS = 60_000
const STOP_MS = 15_000

function run(command, args, options = {}) {
  return new Promise((done, failed) => {
    const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], ...options })
    let [out, err] = ["", ""]
    child.stdout.on("data", data => (out += data))
    child.stderr.on("data", data => (err += data))
    child.on("error", failed)
    child.on("close", code =>
      code === 0 ? done(out.trim()) : failed(new Error(`${args[0]} ${args[1]} exited ${code}: ${err.trim()}`)))
  })
}

function freePort() {
  return new Promise((done, failed) => {
    const server = createServer().on("error", failed)
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address()
      server.close(() => done(port))
    })
  })
}

/** One server on its own data directory. Keeps its port over restarts, so that clients find it again. */
export class Server {
  #child
  #log = ""
  #tokens = []
  port = 0

  /**
   * With `settings`, environment variables, it is run as an owner runs it; without, as for trying it out (`--dev`). With
   * settings and `dev` among them both: `link` then signs a browser in, once. In a control `group` (see memory.mjs) if there is one.
   */
  constructor(dataDir, settings, group) {
    this.dataDir = dataDir
    this.settings = settings
    this.group = group
  }

  async start() {
    if (REFERENCE) {
      // It cannot say which port it was given, so it is told one.
      this.port ||= await freePort()
      const index = join(REFERENCE, "node_modules/@automerge/automerge-repo-sync-server/src/index.js")
      this.#spawn("node", [index], { env: { ...process.env, PORT: String(this.port), DATA_DIR: this.dataDir } })
      await this.#line(/Listening on port/)
      return
    }
    if (!existsSync(BINARY)) throw new Error(`no server at ${BINARY}: run 'cargo build' first`)
    if (this.settings) {
      this.port ||= await freePort()
      const { dev, ...settings } = this.settings
      const args = ["serve", ...(dev ? ["--dev"] : []), "--port", String(this.port), "--data-dir", this.dataDir]
      this.#spawn(BINARY, args, { env: { ...process.env, ...settings } })
      if (dev) this.link = (await this.#line(/(https?:\S+\/sign-in\/\S+)/))[1]
      await this.#answers()
      return
    }
    this.#spawn(BINARY, ["serve", "--dev", "--port", String(this.port), "--data-dir", this.dataDir])
    const [, port, token] = await this.#line(/ws:\/\/127\.0\.0\.1:(\d+)\/\?token=(\S+)/)
    this.port = Number(port)
    this.#tokens.push(token)
  }

  #spawn(command, args, options = {}) {
    if (this.group) [command, args] = this.group.wrap(command, args)
    this.#child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], ...options })
    this.#child.exited = new Promise(done => this.#child.on("exit", (code, signal) => done({ code, signal })))
    this.#child.stderr.on("data", data => (this.#log += data))
  }

  #line(pattern) {
    const child = this.#child
    return new Promise((done, failed) => {
      const late = setTimeout(() => failed(new Error(`server not up in ${START_MS} ms: ${this.#log}`)), START_MS)
      child.on("exit", code => failed(new Error(`server exited ${code}: ${this.#log}`)))
      createInterface({ input: child.stdout }).on("line", line => {
        const match = pattern.exec(line)
        // The line that shows the token is for the owner; every other line is a log.
        if (!match) this.#log += `${line}\n`
        else {
          clearTimeout(late)
          done(match)
        }
      })
    })
  }

  async #answers() {
    const child = this.#child
    const end = Date.now() + START_MS
    while (!(await fetch(`http://127.0.0.1:${this.port}/healthz`).then(answer => answer.ok, () => false))) {
      if (child.exitCode !== null) throw new Error(`server exited ${child.exitCode}: ${this.#log}`)
      if (Date.now() > end) throw new Error(`server not up in ${START_MS} ms: ${this.#log}`)
      await new Promise(done => setTimeout(done, 20))
    }
  }

  /** Run a command against it: `command("apps", "list", "--json")`; what it printed. */
  command(...args) {
    return run(BINARY, [...args, "--data-dir", this.dataDir])
  }

  /** Have the log searched for one more secret at the end. */
  keepSecret(secret) {
    this.#tokens.push(secret)
  }

  /** A sync token from the command line, as for a headless device. */
  async token({ name, namespace = NAMESPACE, readOnly = false, expires }) {
    if (REFERENCE) return ""
    const args = ["token", "create", "--name", name, "--namespace", namespace]
    if (readOnly) args.push("--read-only")
    if (expires) args.push("--expires", expires)
    const token = await this.command(...args)
    this.#tokens.push(token)
    return token
  }

  async revoke(name) {
    await this.command("token", "revoke", name)
  }

  url(token) {
    return `ws://127.0.0.1:${this.port}/${token ? `?token=${token}` : ""}`
  }

  /** Stop by a signal and wait until it is gone; its exit code. */
  async stop(signal = "SIGTERM") {
    const child = this.#child
    if (!child || child.exitCode !== null || child.signalCode !== null) return undefined
    child.kill(signal)
    const late = setTimeout(() => child.kill("SIGKILL"), STOP_MS)
    const { code } = await child.exited
    clearTimeout(late)
    return code
  }

  /** Whether a token that this server gave out appears in what it logged. */
  get leaked() {
    return this.#tokens.some(token => token && this.#log.includes(token))
  }

  get log() {
    return this.#log
  }

  get pid() {
    return this.#child.pid
  }

  /** Whether the process that was started last still runs: nothing here starts another one by itself. */
  get isRunning() {
    return this.#child.exitCode === null && this.#child.signalCode === null
  }
}

/** A client in its own process: `await client.create({ value })` and so on for every operation it has. */
export function spawnClient(line, env = {}) {
  const [command, args] = line === "samod" ? [SAMOD_PEER, []] : ["node", [join(here, "client.mjs"), line]]
  if (line === "samod" && !existsSync(SAMOD_PEER))
    throw new Error(`no Rust peer at ${SAMOD_PEER}: run 'cargo build --manifest-path tests/samod_peer/Cargo.toml --target-dir target'`)
  const child = spawn(command, args, { stdio: ["pipe", "pipe", "inherit"], env: { ...process.env, ...env } })
  const waiting = new Map()
  let next = 1
  createInterface({ input: child.stdout }).on("line", text => {
    let answer
    try {
      answer = JSON.parse(text)
    } catch {
      return // the libraries print to stdout too
    }
    const { done, failed } = waiting.get(answer.id) ?? {}
    waiting.delete(answer.id)
    if (answer.error !== undefined) failed?.(new Error(`${line}: ${answer.error}`))
    else done?.(answer.result)
  })
  child.stdin.on("error", () => {})
  child.on("exit", code => {
    for (const { failed } of waiting.values()) failed(new Error(`${line} client exited ${code}`))
    waiting.clear()
  })
  const call = (op, args = {}) =>
    new Promise((done, failed) => {
      if (child.exitCode !== null) return failed(new Error(`${line} client has exited`))
      const id = next++
      waiting.set(id, { done, failed })
      child.stdin.write(`${JSON.stringify({ id, op, ...args })}\n`)
    })
  const close = () => {
    child.kill("SIGKILL")
    return new Promise(done => (child.exitCode !== null || child.signalCode !== null ? done() : child.on("exit", done)))
  }
  return new Proxy({ line, close }, {
    // `then` must stay undefined: a client is not a promise.
    get: (own, op) => (op in own ? own[op] : op === "then" ? undefined : args => call(op, args)),
  })
}

/** One test's server, clients and directories; all gone when the test ends. */
export class Scene {
  #clients = []
  #root = mkdtempSync(join(tmpdir(), "groundmist-clients-"))
  #count = 0

  /** Start a server, with `settings` and in a control `group` if any, and have everything cleaned up after `test`. */
  static async begin(test, settings, group) {
    const scene = new Scene()
    test.after(() => scene.#end())
    scene.server = new Server(join(scene.#root, "server"), settings, group)
    await scene.server.start()
    return scene
  }

  directory(name) {
    return join(this.#root, name)
  }

  /** A client that is connected, with a token of its own. */
  async client(line, options = {}) {
    const client = await this.clientNotYet(line, options)
    client.server = await client.connected()
    if (options.storage && line !== "samod") client.storage = await client.storageId()
    return client
  }

  /** As `client`, without waiting for the connection. */
  async clientNotYet(line, { name = `${line}-${++this.#count}`, url, storage = false, gossip, announce, ...access } = {}) {
    const client = spawnClient(line)
    this.#clients.push(client)
    // A token's life may be short: it is made when the client can use it.
    if (line !== "samod") await client.errors()
    url ??= this.server.url(await this.server.token({ name, ...access }))
    client.name = name
    client.peerId = `peer-${name}`
    await client.open({
      url, peerId: client.peerId, storage: storage ? this.directory(`storage-${name}`) : undefined, gossip, announce,
    })
    return client
  }

  /** Clients for each of `lines`, started side by side. */
  clients(lines, options) {
    return Promise.all(lines.map(line => this.client(line, options)))
  }

  async #end() {
    await Promise.all(this.#clients.map(client => client.close()))
    await this.server.stop()
    await this.server.group?.remove()
    rmSync(this.#root, { recursive: true, force: true })
    if (this.server.leaked) throw new Error("the server logged a sync token")
  }
}

/** Wait until `condition()` holds; for what no client operation can wait for. */
export async function eventually(condition, what, timeoutMs = 60_000) {
  const end = Date.now() + timeoutMs
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`not within ${timeoutMs} ms: ${what}`)
    await new Promise(resolve => setTimeout(resolve, 20))
  }
}
