// `setup` from nothing to a certificate, on a machine where the name leads, and on one where it leads elsewhere.
import assert from "node:assert/strict"
import { spawn } from "node:child_process"
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { createServer } from "node:net"
import { join } from "node:path"
import { describe, test } from "node:test"
import { BINARY, eventually } from "../clients/harness.mjs"
import { Lab } from "./lab.mjs"

const OWNER = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"

/** Runs `setup` there. `systemctl` on its path is a stand-in that starts the server; the package's tests meet the real one. */
async function setUp(t, lab, appliance, more = []) {
  const bin = join(lab.root, "bin")
  const [file, pid] = [join(lab.root, "etc/config.toml"), join(lab.root, "pid")]
  mkdirSync(bin, { recursive: true })
  writeFileSync(join(bin, "systemctl"), `#!/bin/sh
case $1 in
show) echo loaded;;
is-active) exit 3;;
enable) '${BINARY}' serve --config '${file}' </dev/null >/dev/null 2>'${join(lab.root, "log")}' &
  echo $! >'${pid}';;
esac
`, { mode: 0o755 })
  const { GROUNDMIST_SYNC_DOMAIN, ...env } = appliance.environment()
  const args = ["setup", "--config", file, "--domain", appliance.domain, "--owner", OWNER, "--yes", "--json", ...more]
  const child = spawn(BINARY, args, { stdio: ["ignore", "pipe", "pipe"], env: { ...env, PATH: `${bin}:${env.PATH}` } })
  const said = { out: "", err: "" }
  child.stdout.on("data", data => (said.out += data))
  child.stderr.on("data", data => (said.err += data))
  const code = await new Promise(done => child.on("close", done))
  if (existsSync(pid)) {
    // Read now: the lab's directory is gone before this runs.
    const number = readFileSync(pid, "utf8").trim()
    t.after(async () => {
      process.kill(Number(number))
      await eventually(() => !existsSync(`/proc/${number}/exe`), "the server to end")
    })
  }
  assert.notEqual(said.out, "", said.err)
  return { code, ...JSON.parse(said.out), shown: said.err }
}

describe("setup", () => {
  test("a name that leads here: it says so beforehand, and ends with a certificate", async t => {
    const lab = await Lab.begin(t)
    const appliance = await lab.appliance()
    const done = await setUp(t, lab, appliance)
    assert.deepEqual([done.code, done.started, done.errors], [0, true, []], done.shown)
    assert.match(done.shown, /port 443 is free/)
    // The authority of this test is in a private network, as the name is: that is worth a warning, and no more.
    assert.match(done.warnings.map(({ found }) => found).join("\n"), /only devices in it reach this server/)
    assert.ok(done.certificate.valid_until > Date.now())
    assert.equal((await appliance.shown()).trusted, true)
    assert.deepEqual([lab.orders, lab.validations], [1, 1])
  })

  test("a port that another program has, and a name that leads there: warned of, and nothing is ordered", async t => {
    const lab = await Lab.begin(t)
    const appliance = await lab.appliance()
    const other = createServer(socket => socket.end("HTTP/1.1 400 Bad Request\r\n\r\n"))
    await new Promise(listening => other.listen(443, appliance.address, listening))
    t.after(() => other.close())
    const done = await setUp(t, lab, appliance, ["--no-start"])
    assert.deepEqual([done.code, done.started], [0, false])
    assert.match(done.warnings.map(({ about, found }) => `${about}: ${found}`).join("\n"), /^port 443: .*another program uses this port/m)
    await lab.point(appliance.domain, "127.0.0.77")
    const away = createServer(socket => socket.end("HTTP/1.1 400 Bad Request\r\n\r\n"))
    await new Promise(listening => away.listen(443, "127.0.0.77", listening))
    t.after(() => away.close())
    await new Promise(closed => other.close(closed))
    const { warnings } = await setUp(t, lab, appliance, ["--no-start"])
    assert.match(warnings.map(({ about, found }) => `${about}: ${found}`).join("\n"), /^certificate: .*leads to 127\.0\.0\.77, and what answers there/m)
    assert.deepEqual([lab.orders, lab.validations], [0, 0])
  })
})
