// From the first certificate over restarts to renewals, with clients at work.
import assert from "node:assert/strict"
import { execFileSync } from "node:child_process"
import { createHash } from "node:crypto"
import { statSync } from "node:fs"
import { join } from "node:path"
import { describe, test } from "node:test"
import { Lab } from "./lab.mjs"

const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium"

describe("certificates", () => {
  test("a new server gets one, keeps it over a restart without a new order, and clients trust it", async t => {
    const lab = await Lab.begin(t)
    const appliance = await lab.appliance()
    appliance.start()
    const first = await appliance.certified()
    assert.equal(first.names, `DNS:${appliance.domain}`)
    assert.deepEqual([lab.orders, lab.validations], [1, 1])
    assert.equal(await appliance.shown("another.example.test"), undefined)
    const mode = path => statSync(path).mode & 0o777
    assert.equal(mode(join(appliance.dataDir, "groundmist.redb")), 0o600)
    assert.equal(mode(appliance.dataDir), 0o700)

    const [author, reader] = [await lab.client("v2", appliance, "author"), await lab.client("v1", appliance, "reader")]
    const documentId = await author.create({ value: { said: "over TLS" } })
    assert.equal(await reader.find({ documentId }), "ready")

    // Its page in a browser that trusts this certificate's key (SubjectPublicKeyInfo) and no other.
    const page = execFileSync(CHROMIUM, [
      "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
      `--user-data-dir=${join(lab.root, "browser")}`,
      `--ignore-certificate-errors-spki-list=${createHash("sha256").update(first.spki).digest("base64")}`,
      "--dump-dom", `https://${appliance.domain}/`,
    ], { encoding: "utf8", timeout: 60_000, stdio: ["ignore", "pipe", "ignore"] })
    assert.match(page, /groundmist/i)

    assert.equal(await appliance.stop(), 0)
    appliance.start()
    assert.equal((await appliance.certified()).serial, first.serial)
    assert.deepEqual([lab.orders, lab.validations], [1, 1])
  })

  test("it is renewed while clients work, and no socket is lost", async t => {
    const lab = await Lab.begin(t, { validity: 60 })
    const appliance = await lab.appliance()
    appliance.start()
    const serials = [(await appliance.certified()).serial]
    const [author, reader] = [await lab.client("v2", appliance, "author"), await lab.client("v1", appliance, "reader")]
    const documentId = await author.create({ value: { start: true } })
    assert.equal(await reader.find({ documentId }), "ready")
    let [written, done] = [0, false]
    const writing = (async () => {
      while (!done) {
        await author.change({ documentId, set: { [`k${written}`]: written } })
        written++
        await new Promise(resolve => setTimeout(resolve, 20))
      }
    })()
    for (let renewal = 0; renewal < 2; renewal++)
      serials.push((await appliance.certified(serials.at(-1))).serial)
    done = true
    await writing
    await reader.waitForKeys({ documentId, count: written + 1 })
    assert.equal(new Set(serials).size, 3)
    for (const client of [author, reader]) {
      assert.deepEqual(await client.errors({}), [])
      assert.equal(await client.connections({}), 1, "connected once, and still on that connection")
    }
  })

  test("an authority that refuses three nonces in ten is borne with", async t => {
    const lab = await Lab.begin(t, { nonceReject: 30 })
    const appliance = await lab.appliance()
    appliance.start()
    await appliance.certified()
    assert.match(lab.log, /badNonce|nonce/i)
    assert.equal(lab.validations, 1)
  })
})
