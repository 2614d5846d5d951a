// A booted Debian in the network of this process, and the repository that it installs from.
import assert from "node:assert/strict"
import { execFileSync, spawn, spawnSync } from "node:child_process"
import { readFileSync } from "node:fs"
import { createServer } from "node:http"
import { join } from "node:path"
import { eventually } from "../clients/harness.mjs"

export const PATIENCE_MS = 120_000
const STOP_MS = 30_000
/** RTMIN+3: systemd as the first process powers off (systemd(1), SIGNALS). */
const POWER_OFF = "SIGRTMIN+3"
/** What systemd-nspawn exits with when the machine in it is rebooted (with --keep-unit). */
const REBOOTS = 133
const ENVIRONMENT = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TERM=dumb", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"]

/** What a process is called; nothing if it has ended meanwhile, as nspawn's helpers do. */
function nameOf(pid) {
  try {
    return readFileSync(`/proc/${pid}/comm`, "utf8").trim()
  } catch (error) {
    if (!["ENOENT", "ESRCH"].includes(error.code)) throw error
    return ""
  }
}

export class Machine {
  #child
  #leader
  #console = ""
  #controlGroup = `/sys/fs/cgroup/groundmist-test-${process.pid}`
  domain = "sync.example.test"

  /** Boots what is under `root`; powered off when the test ends. */
  static async boot(test, root) {
    const machine = new Machine()
    machine.root = root
    test.after(() => machine.#end())
    await machine.#begin()
    return machine
  }

  async #begin() {
    // Machines side by side would take each other's processes for their own.
    const own = 'mkdir -p "$0" && echo $$ >"$0/cgroup.procs" && exec systemd-nspawn "$@"'
    this.#child = spawn("sh", [
      "-c", own, this.#controlGroup, "--quiet", "--register=no", "--keep-unit", `--directory=${this.root}`, "--machine=groundmist-test", `--kill-signal=${POWER_OFF}`,
      "--resolv-conf=off", "--timezone=off", "--console=pipe", "--boot",
    ], { stdio: ["ignore", "pipe", "pipe"] })
    for (const stream of [this.#child.stdout, this.#child.stderr]) stream.on("data", data => (this.#console += data))
    await eventually(() => this.#isUp(), "the system to be up", PATIENCE_MS).catch(error => {
      throw new Error(`${error.message}:\n${this.#console}`)
    })
  }

  /** Down and up again, as the owner would have it. */
  async reboot() {
    const gone = new Promise(done => this.#child.on("exit", done))
    this.run("systemctl", "reboot")
    // nspawn leaves it to whoever started it to start it anew.
    assert.equal(await gone, REBOOTS, this.#console)
    this.#leader = undefined
    await this.#begin()
  }

  #isUp() {
    if (this.#child.exitCode !== null) throw new Error(`it did not boot:\n${this.#console}`)
    const children = readFileSync(`/proc/${this.#child.pid}/task/${this.#child.pid}/children`, "utf8").trim().split(" ")
    this.#leader = children.filter(Boolean).find(pid => /^(systemd|init)$/.test(nameOf(pid)))
    if (!this.#leader) return false
    return /^(running|degraded)/.test(this.try("systemctl", "is-system-running").stdout)
  }

  #inside(words) {
    return ["-t", this.#leader, "-a", "--", "/usr/bin/env", "-i", ...ENVIRONMENT, ...words]
  }

  /** What a command says, `{ status, stdout, stderr }`, whether or not it succeeds. */
  try(...words) {
    return spawnSync("nsenter", this.#inside(words), { encoding: "utf8", maxBuffer: 64 << 20 })
  }

  /** What a command that must succeed says on stdout. */
  output(...words) {
    return this.#must(words).stdout
  }

  /** As `output`, with what it says on stderr. */
  run(...words) {
    const { stdout, stderr } = this.#must(words)
    return stdout + stderr
  }

  #must(words) {
    const said = this.try(...words)
    if (said.status !== 0) throw new Error(`${words.join(" ")}: exit code ${said.status}\n${said.stdout}${said.stderr}\n${this.journal}`)
    return said
  }

  /** As `run`, while this process goes on. */
  runMeanwhile(...words) {
    const child = spawn("nsenter", this.#inside(words), { stdio: ["ignore", "pipe", "pipe"] })
    let said = ""
    for (const stream of [child.stdout, child.stderr]) stream.on("data", data => (said += data))
    return new Promise((done, failed) =>
      child.on("close", code => (code === 0 ? done(said) : failed(new Error(`${words.join(" ")}: exit code ${code}\n${said}\n${this.journal}`)))))
  }

  /** Through apt, from the repositories that the machine knows, and without a question. */
  apt(...words) {
    return this.runMeanwhile("apt-get", "-q", "-y", "-o", "Dpkg::Use-Pty=0", "-o", "Acquire::Retries=0", ...words)
  }

  command(...words) {
    return this.run("groundmist-sync", ...words)
  }

  /** A sync token; also what `lab.client` asks for. */
  async token(name) {
    const { status, stdout, stderr } = this.try("groundmist-sync", "token", "create", "--name", name, "--namespace", "xyz.example.notes")
    if (status !== 0) throw new Error(`token create: exit code ${status}: ${stderr}`)
    return stdout.trim()
  }

  write(path, text) {
    execFileSync("nsenter", this.#inside(["sh", "-c", `mkdir -p "$(dirname '${path}')" && cat >'${path}'`]), { input: text })
  }

  read(path) {
    return this.try("cat", path).stdout
  }

  exists(path) {
    return this.try("test", "-e", path).status === 0
  }

  /** A property of a unit, as systemd has it now. */
  show(property, unit = "groundmist-sync.service") {
    return this.run("systemctl", "show", "--value", `--property=${property}`, unit).trim()
  }

  isActive(unit = "groundmist-sync.service") {
    return this.try("systemctl", "is-active", unit).stdout.trim() === "active"
  }

  /** What the server has logged, and systemd about it. */
  get journal() {
    return this.try("journalctl", "--quiet", "--no-pager", "--output=cat", "--unit=groundmist-sync.service").stdout
  }

  logged(pattern) {
    return eventually(() => pattern.test(this.journal), `${pattern} in the journal`, PATIENCE_MS).catch(error => {
      throw new Error(`${error.message}:\n${this.journal}`)
    })
  }

  until(condition, what) {
    return eventually(condition, what, PATIENCE_MS).catch(error => {
      throw new Error(`${error.message}\n--- the server's journal:\n${this.journal}`)
    })
  }

  async #end() {
    if (!this.#child || this.#child.exitCode !== null) return
    const gone = new Promise(done => this.#child.on("exit", done))
    const late = setTimeout(() => this.#child.kill("SIGKILL"), STOP_MS)
    if (this.#leader) spawnSync("kill", ["-s", "RTMIN+3", this.#leader])
    else this.#child.kill("SIGKILL")
    await gone
    clearTimeout(late)
    spawnSync("find", [this.#controlGroup, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";"])
  }
}

/** Serves a directory that packaging/apt-repository made; `change` may damage what goes out. */
export class Repository {
  change = (path, bytes) => bytes

  static async serve(test, directory) {
    const repository = new Repository()
    repository.directory = directory
    const server = createServer((request, answer) => {
      const path = decodeURIComponent(new URL(request.url, "http://localhost").pathname)
      let bytes
      try {
        bytes = readFileSync(join(repository.directory, path))
      } catch {
        return answer.writeHead(404).end()
      }
      answer.end(repository.change(path, bytes))
    })
    test.after(() => (server.closeAllConnections(), server.close()))
    await new Promise(done => server.listen(8000, "127.0.0.1", done))
    return repository
  }

  /** What the owner downloads once. */
  get sources() {
    return readFileSync(join(this.directory, "groundmist-sync.sources"), "utf8")
  }
}
