// What goes wrong: it is said in words, the authority is not bothered with it, and it ends when the cause does.
import assert from "node:assert/strict"
import { execFileSync, spawnSync } from "node:child_process"
import { createServer } from "node:http"
import { dirname, join } from "node:path"
import { describe, test } from "node:test"
import { BINARY, eventually } from "../clients/harness.mjs"
import { Lab } from "./lab.mjs"

const DAMAGE = process.env.DAMAGE_CERTIFICATE ?? join(dirname(BINARY), "examples/damage_certificate")

/** Overwrites the middle of what a stopped server keeps. */
const damage = (appliance, what) => execFileSync(DAMAGE, [join(appliance.dataDir, "groundmist.redb"), what])

/** Something else on port 443 of an address. */
async function otherServer(t, address) {
  const server = createServer((_, answer) => answer.end("somebody else's"))
  await new Promise(done => server.listen(443, address, done))
  t.after(() => (server.closeAllConnections(), server.close()))
}

describe("trouble", () => {
  test("no DNS, then a name that leads elsewhere, then here: nothing is asked before that, whatever is restarted", async t => {
    const lab = await Lab.begin(t)
    const appliance = await lab.appliance({ dns: false })
    appliance.start()
    await appliance.logged(/no certificate for \S+: DNS knows the name \S+, but no address for it. Where you manage/)
    const elsewhere = "127.0.99.1"
    await otherServer(t, elsewhere)
    await lab.point(appliance.domain, elsewhere)
    await appliance.logged(/leads to 127\.0\.99\.1, and what answers there on port 443 is not this server: it does not speak TLS/)
    for (let restart = 0; restart < 5; restart++) {
      await appliance.stop("SIGKILL")
      const from = appliance.log.length
      appliance.start()
      await appliance.logged(/leads to 127\.0\.99\.1/, from)
    }
    assert.deepEqual([lab.orders, lab.validations], [0, 0])
    assert.equal(await appliance.shown(), undefined)
    await lab.dns("clear-a", { host: `${appliance.domain}.` })
    await lab.point(appliance.domain, appliance.address)
    await appliance.certified()
    assert.deepEqual([lab.orders, lab.validations], [1, 1])
  })

  test("an IPv6 address that is dead is named, and nothing is asked", async t => {
    const lab = await Lab.begin(t)
    const appliance = await lab.appliance()
    await lab.dns("add-aaaa", { host: `${appliance.domain}.`, addresses: ["2001:db8::1"] })
    appliance.start()
    await appliance.logged(/leads here, but also to 2001:db8::1, where nothing answers .* remove that AAAA record/)
    assert.deepEqual([lab.orders, lab.validations], [0, 0])
    await lab.dns("clear-aaaa", { host: `${appliance.domain}.` })
    await appliance.certified()
  })

  test("CAA records that name another authority, or that DNS does not give", async t => {
    const lab = await Lab.begin(t)
    const directory = await lab.standIn(directory => ({ ...directory, meta: { caaIdentities: ["authority.test"] } }))
    const appliance = await lab.appliance({ settings: { GROUNDMIST_SYNC_ACME__DIRECTORY: directory } })
    await lab.dns("add-caa", { host: "example.test.", policies: [{ tag: "issue", value: "other.test" }] })
    appliance.start()
    await appliance.logged(/CAA records of example\.test do not let this authority \(authority\.test\) .* only other\.test.* add the CAA record: 0 issue "authority\.test"/)
    await lab.dns("set-servfail", { host: "example.test." })
    await appliance.logged(/DNS does not say whether certificates may be made for \S+ \(CAA\)/)
    assert.deepEqual([lab.orders, lab.validations], [0, 0])
    await lab.dns("clear-caa", { host: "example.test." })
    await lab.dns("add-caa", { host: "example.test.", policies: [{ tag: "issue", value: "authority.test; x=y" }] })
    await lab.dns("clear-servfail", { host: "example.test." })
    await appliance.certified()
  })

  test("an authority that is down at the start, and comes", async t => {
    const lab = await Lab.begin(t, { authority: false })
    const appliance = await lab.appliance()
    appliance.start()
    await appliance.logged(/no certificate for \S+: the certificate authority at \S+ cannot be reached: .*refused/)
    // It runs all the same, and tells who asks.
    const told = () => spawnSync(BINARY, ["status", "--data-dir", appliance.dataDir], { encoding: "utf8" }).stdout
    await eventually(() => told().includes("cannot be reached"), `the reason in \`status\`: ${told()}`)
    await lab.startAuthority()
    await appliance.certified()
  })

  test("an authority that takes connections and never answers, at once or in the middle of the order", async t => {
    const lab = await Lab.begin(t)
    const [silent, stuck] = [await lab.appliance(), await lab.appliance()]
    silent.start({ GROUNDMIST_SYNC_ACME__DIRECTORY: await lab.standIn() })
    let hanging = true
    const directory = await lab.standIn(
      original => (hanging ? { ...original, newNonce: `${new URL(directory).origin}/nonce` } : original),
      path => path !== "/dir",
    )
    stuck.start({ GROUNDMIST_SYNC_ACME__DIRECTORY: directory })
    await silent.logged(/no certificate for \S+: the certificate authority at \S+ did not answer within 10 s/)
    assert.equal(await silent.stop(), 0)
    silent.start()
    await silent.certified()
    await stuck.logged(/no certificate for \S+: the certificate authority took too long \(registering this server\)/)
    hanging = false
    await stuck.certified() // the order is made anew, without a restart
  })

  test("an order that fails is not made again at once, however often the server is restarted", async t => {
    const lab = await Lab.begin(t)
    const nobody = "127.0.99.2"
    // As with Let's Encrypt.
    const appliance = await lab.appliance({ dns: false, settings: { GROUNDMIST_SYNC_ACME__RETRY: "5m" } })
    await lab.point(appliance.domain, nobody)
    appliance.start()
    await appliance.logged(/WARN .*nothing answers at \S+, 127\.0\.99\.2 \(Connection refused.* port 443 is forwarded/)
    await appliance.logged(/no certificate for \S+: the certificate authority could not verify that \S+ is this server: ".*Check that the A and AAAA records.*next attempt at/)
    for (const signal of ["SIGTERM", "SIGKILL", "SIGKILL", "SIGTERM"]) {
      await appliance.stop(signal)
      const from = appliance.log.length
      appliance.start()
      // What failed before the restart is known, and when to try again.
      await appliance.logged(/could not verify .* next attempt at/, from)
    }
    assert.deepEqual([lab.orders, lab.validations], [1, 1])
  })

  test("a certificate that expired is shown until there is a new one, the authority being away meanwhile", async t => {
    const lab = await Lab.begin(t, { validity: 30 })
    const appliance = await lab.appliance()
    appliance.start()
    const { serial, until } = await appliance.certified()
    await lab.stopAuthority()
    await appliance.stop()
    await eventually(() => Date.now() > until, "its end", 120_000)
    appliance.start()
    await appliance.logged(/the certificate for \S+ expired at \S+; it is shown until there is a new one/)
    await appliance.logged(/expired at \S+ and could not be renewed: the certificate authority/)
    const shown = await appliance.shown()
    assert.deepEqual([shown.serial, shown.trusted], [serial, false])
    await lab.startAuthority()
    await appliance.certified(serial)
  })

  test("a damaged certificate and a damaged account key in the store are replaced", async t => {
    const lab = await Lab.begin(t)
    const appliance = await lab.appliance()
    appliance.start()
    let { serial } = await appliance.certified()
    for (const [parts, words] of [
      [["chain"], /the certificate for \S+ in the store cannot be used, so a new one is ordered/],
      [["chain", "account"], /the account at the certificate authority is damaged, so another account is made/],
    ]) {
      assert.equal(await appliance.stop(), 0)
      for (const part of parts) damage(appliance, part)
      const from = appliance.log.length
      appliance.start()
      ;({ serial } = await appliance.certified(serial))
      assert.match(appliance.log.slice(from), words)
    }
    assert.equal(lab.orders, 3)
  })
})
