// One machine from the first installation to the last trace.
import assert from "node:assert/strict"
import { execFileSync } from "node:child_process"
import { appendFileSync, readFileSync } from "node:fs"
import { connect as connectPlain } from "node:net"
import { join } from "node:path"
import { test } from "node:test"
import { connect } from "node:tls"
import { fileURLToPath } from "node:url"
import { Lab } from "../acme/lab.mjs"
import { NAMESPACE } from "../clients/harness.mjs"
import { hexHeads } from "../clients/heads.mjs"
import { Machine, Repository } from "./machine.mjs"

const { SUITE, MACHINE_ROOT, REPOSITORIES } = process.env
const OWNER = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
const CONFIG = "/etc/groundmist-sync/config.toml"
const DATA = "/var/lib/private/groundmist-sync"
const SOCKETS = ["groundmist-sync-https.socket", "groundmist-sync-http.socket"]
const SET_SCHEMA = fileURLToPath(new URL("../../target/debug/examples/set_schema", import.meta.url))
const KNOCK_MS = 30_000
/** How many changes have to be acknowledged before a backup is taken. */
const ACKNOWLEDGED = 20
/** What systemd-analyze calls the exposure, in tenths. */
const MAX_EXPOSURE = 11

/** Somebody who connects now: "refused" if nobody has the port, "cut" if the connection ended without an answer, else "answered". */
function knock(options) {
  return new Promise(done => {
    const socket = options.ca ? connect(options) : connectPlain(options)
    socket.setTimeout(KNOCK_MS, () => socket.destroy())
    socket.on("error", ({ code }) => code === "ECONNREFUSED" && done("refused"))
    socket.on("data", () => (done("answered"), socket.destroy()))
    socket.on("close", () => done("cut"))
    socket.write(`GET /healthz HTTP/1.1\r\nHost: ${options.servername ?? "localhost"}\r\nConnection: close\r\n\r\n`)
  })
}

test(`the life of the package in Debian ${SUITE}`, async t => {
  const lab = await Lab.begin(t)
  const repository = await Repository.serve(t, join(REPOSITORIES, "repository"))
  const machine = await Machine.boot(t, MACHINE_ROOT)
  const { domain } = machine
  await lab.point(domain, "127.0.0.1")
  appendFileSync("/etc/hosts", `127.0.0.1 ${domain}\n`)

  const https = () => ({ host: "127.0.0.1", port: 443, servername: domain, ca: readFileSync(lab.issuer) })
  const http = port => ({ host: "127.0.0.1", port })
  const isServed = async () => (await knock(https())) === "answered"
  const served = () => machine.until(isServed, "an answer over TLS")
  /** The clients of the steps before knock, and have it tried a few times; by itself it tries no more. */
  const givesUp = async () => {
    await machine.until(() => machine.show("Result", SOCKETS[0]) === "trigger-limit-hit", "the end of trying")
    assert.deepEqual([machine.show("ActiveState"), machine.show("ExecMainStatus"), machine.show("NRestarts")], ["failed", "78", "0"])
  }
  const serial = () => new Promise((done, failed) => {
    const socket = connect(https(), () => (done(socket.getPeerCertificate().serialNumber), socket.destroy()))
    socket.on("error", failed)
  })
  const answers = lines => {
    machine.write("/root/answers", lines.map(([name, type, value]) => `groundmist-sync groundmist-sync/${name} ${type} ${value}\n`).join(""))
    machine.run("debconf-set-selections", "/root/answers")
  }
  const whose = [["domain", "string", domain], ["owner", "string", OWNER], ["email", "string", "alice@example.org"]]
  const install = (...more) => machine.apt("install", ...more, "groundmist-sync")
  const installed = () => machine.try("dpkg-query", "--show", "--showformat=${Version} ${db:Status-Status}", "groundmist-sync").stdout
  /** All documents and their heads. */
  const documents = () => JSON.parse(machine.output("groundmist-sync", "docs", "list", "--namespace", NAMESPACE, "--json"))
    .documents.map(({ document }) => [document, headsOf(document)])
  const headsOf = id => JSON.parse(machine.output("groundmist-sync", "docs", "show", NAMESPACE, id, "--json")).heads.sort()
  const stop = () => machine.run("systemctl", "stop", ...SOCKETS, "groundmist-sync.service")
  const setSchema = number => execFileSync(SET_SCHEMA, [join(MACHINE_ROOT, DATA, "groundmist.redb"), String(number)])
  /** Everything in its directory is the server's, and nobody else's. */
  const isTheServers = () => {
    const [uid, gid] = machine.output("stat", "--format=%u %g", `${DATA}/.`).trim().split(" ")
    assert.notEqual(uid, "0")
    assert.equal(machine.output("find", DATA, "-mindepth", "1", "(", "-not", "-uid", uid, "-or", "-not", "-gid", gid, "-or", "-perm", "/077", "-not", "-type", "s", ")"), "")
  }
  let documentId, reader, house

  // What makes the authority a test's, and hangs noticed in seconds. It is beside the package's own files, as an owner would do it.
  machine.write("/etc/lab-ca.pem", readFileSync(lab.caFile, "utf8"))
  const environment = [
    `GROUNDMIST_SYNC_ACME__DIRECTORY=${lab.directory}`, "GROUNDMIST_SYNC_ACME__CA_FILE=/etc/lab-ca.pem",
    `GROUNDMIST_SYNC_IDENTITY__NAME_SERVERS=${lab.address}:8053`, "GROUNDMIST_SYNC_ACME__RETRY=1s",
  ]
  machine.write("/etc/systemd/system/groundmist-sync.service.d/lab.conf",
    ["[Service]", "WatchdogSec=20s", ...environment.map(variable => `Environment=${variable}`), ""].join("\n"))
  machine.run("systemctl", "daemon-reload")
  machine.write("/etc/apt/sources.list.d/groundmist-sync.sources", repository.sources)

  await t.test("a repository that somebody has changed is refused", async () => {
    const swap = (what, from, to) => (path, bytes) =>
      what.test(path) ? Buffer.from(bytes.toString("latin1").replace(from, to), "latin1") : bytes
    // The list of hashes, a list of packages that keeps its length, then a package itself.
    for (const change of [swap(/InRelease$|Release$/, "Suite: stable", "Suite: stabel"), swap(/Packages/, "5", "6")]) {
      repository.change = change
      await assert.rejects(machine.apt("update", "-o", "APT::Update::Error-Mode=any"), /not signed|[Ss]ignature|Hash Sum mismatch|unexpected size/)
    }
    repository.change = (path, bytes) => bytes
    await machine.apt("update")
    repository.change = (path, bytes) => (/\.deb$/.test(path) ? Buffer.from(bytes).fill(0, bytes.length - 4096) : bytes)
    await assert.rejects(install(), /Hash Sum mismatch/)
    repository.change = (path, bytes) => bytes
    assert.equal(installed(), "")
  })

  await t.test("without answers it is installed, not started, and says what to run; purged on request it leaves nothing", async () => {
    assert.match(await install(), /sudo groundmist-sync setup/)
    for (const unit of ["groundmist-sync.service", ...SOCKETS]) assert.equal(machine.isActive(unit), false, unit)
    assert.equal(await knock(http(443)), "refused")
    assert.equal(machine.exists(CONFIG), false)
    machine.command("config", "set", `domain=${domain}`, `owner=${OWNER}`)
    machine.run("systemctl", "start", "groundmist-sync")
    await served()
    answers([["purge_documents", "boolean", "true"]])
    assert.match(await machine.apt("purge", "groundmist-sync"), /are deleted, as you had said/)
    const left = machine.run("find", "/etc", "/var/lib", "/run", "/usr", "-name", "*groundmist*", "-not", "-path", "*/apt/*").trim().split("\n")
    assert.deepEqual(left.filter(path => !/lab\.conf|groundmist-sync\.service\.d$|\.sources$/.test(path)), [])
  })

  await t.test("answered beforehand, one apt install leads to a synced change", async () => {
    answers(whose)
    const begun = Date.now()
    assert.match(await install(), /it is running/)
    const ready = Date.now()
    await served()
    const certified = Date.now()
    const [author, other] = await Promise.all([lab.client("v2", machine, "author"), lab.client("v1", machine, "reader")])
    documentId = await author.create({ value: { said: "over TLS" } })
    await other.find({ documentId })
    await other.waitFor({ documentId, has: { said: "over TLS" } })
    reader = other
    const seconds = (from, to) => ((to - from) / 1000).toFixed(1)
    t.diagnostic(`from apt install to a synced change ${seconds(begun, Date.now())} s: apt ${seconds(begun, ready)}, certificate ${seconds(ready, certified)}`)
    assert.deepEqual(["domain", "owner", "acme.contact"].map(key => machine.command("config", "get", key).trim()), [domain, OWNER, "alice@example.org"])
  })

  await t.test("it is confined, and root's commands reach it", () => {
    const [, exposure] = /level for \S+: ([0-9.]+)/.exec(
      machine.run("systemd-analyze", "security", "--no-pager", `--threshold=${MAX_EXPOSURE}`, "groundmist-sync.service"))
    t.diagnostic(`exposure by systemd-analyze ${exposure}`)
    assert.match(machine.command("status"), /listening on \[::\]:443 \(https\), \[::\]:80 \(http\)/)
    const { stdout } = machine.try("groundmist-sync", "doctor")
    for (const check of ["configuration", "server", "permissions", "disk"]) assert.match(stdout, new RegExp(`^ok +${check}`, "m"))
    assert.equal(machine.run("stat", "--format=%a", DATA).trim(), "700")
    const uid = machine.run("stat", "--format=%u", DATA).trim()
    assert.ok(Number(uid) >= 61184, `a user of its own, not ${uid}`)
  })

  await t.test("a reload takes what can change at once", async () => {
    machine.write(CONFIG, `# The owner's own words.\n${machine.read(CONFIG)}\n[log]\nlevel = "debug"\n`)
    machine.run("systemctl", "reload", "groundmist-sync")
    await machine.logged(/log\.level: debug/)
  })

  await t.test("a large document is opened in a process of its own, within the unit's walls", async () => {
    const painter = await lab.client("v2", machine, "painter")
    const id = await painter.create({ value: { title: "a picture" } })
    await painter.paste({ documentId: id, key: "picture", characters: 400_000, equal: true })
    await machine.logged(/opening a document in a process of its own/)
    const heads = await painter.heads({ documentId: id })
    const shown = () => JSON.parse(machine.try("groundmist-sync", "docs", "show", NAMESPACE, id, "--json").stdout || "{}")
    await machine.until(() => `${shown().heads}` === `${heads}`, "the picture on the disk")
    assert.doesNotMatch(machine.command("status"), /could not be opened|too large/)
  })

  await t.test("the daily backup is off, and works", () => {
    const timer = machine.try("systemctl", "is-enabled", "groundmist-sync-backup.timer").stdout.trim()
    assert.equal(timer, "disabled")
    machine.run("systemctl", "start", "groundmist-sync-backup.service")
    const [name, ...more] = machine.run("ls", "/var/backups/groundmist-sync").trim().split("\n")
    assert.match(name, /^groundmist-sync-.*\.backup$/)
    assert.deepEqual(more, [])
    assert.match(machine.command("restore", "--check", `/var/backups/groundmist-sync/${name}`), /whole: [0-9]+ documents? /)
  })

  await t.test("hung, it is started anew, and clients come back", async () => {
    await machine.until(() => reader.isConnected(), "the client to be back after the step before")
    const [pid, connections] = [machine.show("MainPID"), await reader.connections()]
    machine.run("systemctl", "kill", "--kill-whom=main", "--signal=STOP", "groundmist-sync")
    await machine.until(() => !["0", pid].includes(machine.show("MainPID")) && machine.isActive(), "another process")
    assert.match(machine.journal, /Watchdog timeout/)
    assert.match(machine.command("status"), /the server ended unexpectedly/)
    await machine.until(async () => (await reader.connections()) > connections, "the client to be back")
    await served()
  })

  await t.test("an upgrade under load refuses nobody and loses nothing, and edits stay", async () => {
    const [before, pid] = [machine.read(CONFIG), machine.show("MainPID")]
    repository.directory = join(REPOSITORIES, "repository-next")
    await machine.apt("update")
    let upgrading = true
    const knocks = { answered: 0, refused: 0, cut: 0 }
    const knocking = async () => {
      while (upgrading) knocks[await knock(https())]++
    }
    let changes = 0
    const token = await machine.token("moved")
    const [writer, other] = await Promise.all([lab.client("v2", machine, "writer"), lab.client("v1", machine, "other")])
    const written = await writer.create({ value: {} })
    assert.equal(await other.find({ documentId: written }), "ready")
    const writing = async () => {
      while (upgrading) await [writer, other][changes % 2].change({ documentId: written, set: { [`change${changes++}`]: true } })
    }
    const load = [knocking(), knocking(), writing()]
    // What one client has from the other came through the server, which had kept it by then.
    const acknowledged = async () => {
      const keys = await Promise.all([writer, other].map(async client => Object.keys(await client.value({ documentId: written }))))
      const number = key => Number(key.slice("change".length))
      return [...keys[1].filter(key => number(key) % 2 === 0), ...keys[0].filter(key => number(key) % 2 === 1)]
    }
    await machine.until(async () => (await acknowledged()).length >= ACKNOWLEDGED, "changes that are acknowledged")
    house = { written, token, config: before, heads: headsOf(documentId), acknowledged: await acknowledged() }
    await machine.runMeanwhile("groundmist-sync", "backup", "/root/under-load.backup")
    const said = await install()
    await machine.until(() => knocks.answered > 0 && isServed(), "an answer after the upgrade")
    upgrading = false
    await Promise.all(load)
    t.diagnostic(`during the upgrade ${JSON.stringify(knocks)}, ${changes} changes`)
    assert.match(installed(), /\+next installed/)
    assert.match(said, /it is running/)
    assert.notEqual(machine.show("MainPID"), pid)
    assert.equal(knocks.refused, 0)
    assert.equal(machine.read(CONFIG), before)
    const fresh = await lab.client("v2", machine, "fresh")
    assert.equal(await fresh.find({ documentId: written }), "ready")
    await fresh.waitForKeys({ documentId: written, count: changes })
    // What came after the backup is theirs alone when the house has moved.
    await Promise.all([writer.disconnect(), other.disconnect()])
    Object.assign(house, { changes, away: [writer, other] })
  })

  await t.test("a configuration that has to be put right is not tried again and again", async () => {
    const before = machine.read(CONFIG)
    machine.write(CONFIG, before.replace(domain, "no name"))
    assert.notEqual(machine.try("systemctl", "restart", "groundmist-sync").status, 0)
    assert.match(machine.journal, /"no name" is not a host name/)
    await givesUp()
    machine.write(CONFIG, before)
    machine.run("systemctl", "restart", "groundmist-sync")
    await served()
  })

  await t.test("an older version refuses the data of a newer one in words, and does so once", async () => {
    stop()
    setSchema(99)
    const version = machine.run("apt-cache", "madison", "groundmist-sync").split("\n").map(line => line.split("|")[1]?.trim()).find(version => version && !version.includes("+"))
    const said = await machine.apt("install", "--allow-downgrades", `groundmist-sync=${version}`)
    assert.match(said, /it does not run[^]*written by a newer version/)
    await givesUp()
    setSchema(3)
    machine.run("systemctl", "start", "groundmist-sync")
    await served()
  })

  await t.test("an upgrade brings data of an older version up to date, keeps a copy, and loses nothing", async () => {
    const before = documents()
    for (const id of [documentId, house.written]) assert.ok(before.some(([document]) => document === id), id)
    stop()
    setSchema(1)
    assert.match(await install(), /it is running/)
    assert.match(installed(), /\+next installed/)
    await served()
    assert.match(machine.journal, /kept a copy of the store before migrating it/)
    assert.deepEqual(documents(), before)
    isTheServers()
    assert.equal(machine.output("stat", "--format=%a", `${DATA}/groundmist.redb.v1-backup`).trim(), "600")
    const fresh = await lab.client("v1", machine, "migrated")
    assert.equal(await fresh.find({ documentId: house.written }), "ready")
    await fresh.waitForKeys({ documentId: house.written, count: house.changes })
  })

  await t.test("removed it keeps data and configuration, and installed again it goes on with them", async () => {
    const [before, certificate] = [machine.read(CONFIG), await serial()]
    await machine.apt("remove", "groundmist-sync")
    assert.equal(await knock(http(443)), "refused")
    assert.equal(machine.read(CONFIG), before)
    const orders = lab.orders
    await install()
    await served()
    assert.deepEqual([machine.read(CONFIG), await serial(), lab.orders], [before, certificate, orders])
    const fresh = await lab.client("v1", machine, "again")
    assert.equal(await fresh.find({ documentId }), "ready")
    await fresh.waitFor({ documentId, has: { said: "over TLS" } })
  })

  await t.test("purged it keeps the documents unless told otherwise, and says where", async () => {
    assert.match(await machine.apt("purge", "groundmist-sync"), new RegExp(`your documents are kept in ${DATA}`))
    assert.deepEqual([machine.exists(CONFIG), machine.exists(join(DATA, "groundmist.redb"))], [false, true])
  })

  await t.test("with a configuration for a proxy, it leaves the ports alone", async () => {
    machine.write(CONFIG, `domain = "${domain}"\nowner = "${OWNER}"\ntls = "off"\n`)
    await install()
    assert.deepEqual(await Promise.all([knock(http(443)), knock(http(80)), knock(http(3030))]), ["refused", "refused", "answered"])
    assert.equal(machine.run("debconf-show", "groundmist-sync").includes(domain), true)
  })

  // As docs/BACKUP.md has it; the machine is both, the old one and, purged, the new one.
  await t.test("moved to a new machine by a backup taken under load, it has what was acknowledged, and devices know it", async () => {
    house.documents = documents()
    stop()
    machine.command("backup", "/root/stopped.backup")
    machine.run("systemctl", "disable", "groundmist-sync", ...SOCKETS)
    answers([["purge_documents", "boolean", "true"]])
    await machine.apt("purge", "groundmist-sync")
    for (const place of [DATA, "/var/lib/groundmist-sync"]) assert.equal(machine.exists(place), false, place)

    assert.match(await install(), /sudo groundmist-sync setup/)
    machine.write("/root/config.toml", house.config)
    assert.equal(machine.exists("/etc/groundmist-sync"), false)
    machine.run("install", "-D", "-m", "644", "/root/config.toml", CONFIG)
    const orders = lab.orders
    machine.command("restore", "/root/under-load.backup")
    assert.equal(machine.isActive(), false)
    machine.run("systemctl", "start", "groundmist-sync")
    await served()
    for (const unit of ["groundmist-sync.service", ...SOCKETS]) {
      assert.equal(machine.isActive(unit), true, unit)
      assert.equal(machine.output("systemctl", "is-enabled", unit).trim(), "enabled", unit)
    }
    isTheServers()
    assert.equal(lab.orders, orders, "the certificate has moved too")

    assert.deepEqual(headsOf(documentId), house.heads)
    const device = await lab.client("v2", { domain, token: () => house.token }, "moved")
    for (const id of [documentId, house.written]) {
      assert.equal(await device.find({ documentId: id }), "ready")
      assert.deepEqual(hexHeads(await device.heads({ documentId: id })), headsOf(id))
    }
    const keys = Object.keys(await device.value({ documentId: house.written }))
    assert.deepEqual(house.acknowledged.filter(key => !keys.includes(key)), [])
    t.diagnostic(`the backup has ${keys.length} of ${house.changes} changes; acknowledged before it: ${house.acknowledged.length}`)
    assert.deepEqual(await Promise.all(house.away.map(client => client.isConnected())), [false, false])
    assert.ok(keys.length < house.changes, "it was taken under load")
    // With the token that it has had since before the backup.
    await house.away[0].connect()
    await device.waitForKeys({ documentId: house.written, count: house.changes })
  })

  await t.test("a backup goes in the place of what is there only when told so, and that is kept", async () => {
    stop()
    const refused = machine.try("groundmist-sync", "restore", "/root/stopped.backup")
    assert.notEqual(refused.status, 0)
    assert.match(refused.stderr, /holds [0-9,]+ documents[^]*say --force/)
    machine.command("restore", "--force", "/root/stopped.backup")
    machine.run("systemctl", "start", "groundmist-sync")
    await served()
    isTheServers()
    const kept = machine.output("ls", DATA).split("\n").filter(name => name.startsWith("groundmist.redb.before-restore-"))
    assert.equal(kept.length, 1)
    assert.deepEqual(documents(), house.documents)
    const fresh = await lab.client("v1", machine, "restored")
    assert.equal(await fresh.find({ documentId: house.written }), "ready")
    await fresh.waitForKeys({ documentId: house.written, count: house.changes })
  })

  await t.test("install.sh and setup, from nothing to a server that is there after a reboot", async () => {
    answers([["purge_documents", "boolean", "true"]])
    await machine.apt("purge", "groundmist-sync")
    const [sources, pin] = ["/etc/apt/sources.list.d/groundmist-sync.sources", "/etc/apt/preferences.d/groundmist-sync"]
    machine.run("rm", "-r", sources, "/var/lib/apt/lists")
    repository.directory = join(REPOSITORIES, "repository")
    machine.write("/root/repository/groundmist-sync.sources", repository.sources)
    machine.write("/root/install.sh", readFileSync(join(REPOSITORIES, "install.sh"), "utf8"))
    const said = await machine.runMeanwhile("env", "GROUNDMIST_REPOSITORY=file:/root/repository", ...environment,
      "sh", "/root/install.sh", "--domain", domain, "--owner", OWNER, "--email", "alice@example.org", "--yes")
    assert.match(said, new RegExp(`Your server is at https://${domain}`))
    assert.equal(await isServed(), true, "setup ends when it is served")
    assert.equal(machine.command("config", "get", "owner").trim(), OWNER)

    // Whatever the repository has, only groundmist-sync comes from it; older versions too.
    const candidate = name => /Candidate: (\S+)/.exec(machine.run("apt-cache", "policy", name))[1]
    assert.notEqual(candidate("hostname"), "99")
    const kept = machine.read(pin)
    machine.run("rm", pin)
    assert.equal(candidate("hostname"), "99", "it is the pin that does it")
    machine.write(pin, kept)
    const versions = machine.run("apt-cache", "madison", "groundmist-sync").trim().split("\n").map(line => line.split("|")[1].trim())
    assert.deepEqual(versions, [installed().split(" ")[0], `${installed().split(" ")[0]}~rc1`])

    const [author, other] = await Promise.all([lab.client("v2", machine, "before"), lab.client("v1", machine, "beside")])
    const written = await author.create({ value: { said: "before the reboot" } })
    await other.find({ documentId: written })
    await other.waitFor({ documentId: written, has: { said: "before the reboot" } })
    const before = [await serial(), lab.orders]
    await machine.reboot()
    await served()
    assert.deepEqual([await serial(), lab.orders], before)
    const fresh = await lab.client("v1", machine, "after")
    assert.equal(await fresh.find({ documentId: written }), "ready")
    await fresh.waitFor({ documentId: written, has: { said: "before the reboot" } })
  })
})
