// The owner's commands against the real PDS: publish and doctor, and a handle that somebody else has by now.
import assert from "node:assert/strict"
import { spawn } from "node:child_process"
import { randomBytes } from "node:crypto"
import { after, before, describe, test } from "node:test"
import { BINARY, Scene, eventually } from "../clients/harness.mjs"
import { xrpc } from "./accounts.mjs"
import { Lab } from "./lab.mjs"

const HOST = "sync.lab.internal"
const COLLECTION = "xyz.groundmist.sync"

describe("the owner's commands", () => {
  let lab
  before(async () => (lab = await Lab.start()))
  after(() => lab?.stop())

  const begin = (t, owner) => Scene.begin(t, { ATPROTO_DID: owner, ...lab.settings })

  /** Run one on a server's data, for `owner`, with `input` to read; never fails by itself. */
  const command = ({ server }, owner, args, input = "") =>
    new Promise((done, failed) => {
      const env = { ...process.env, ...lab.settings, ATPROTO_DID: owner }
      const child = spawn(BINARY, [...args, "--json", "--data-dir", server.dataDir], { env })
      let [out, err] = ["", ""]
      child.stdout.on("data", data => (out += data))
      child.stderr.on("data", data => (err += data))
      child.stdin.on("error", () => {})
      child.stdin.end(input)
      child.on("error", failed)
      child.on("close", code => done({ code, out, err, json: () => JSON.parse(out) }))
    })

  const doctor = async (scene, owner) => {
    const ran = await command(scene, owner, ["doctor", "--host", HOST])
    const { ok, checks } = ran.json()
    assert.equal(ran.code, ok ? 0 : 1)
    return Object.fromEntries(checks.map(({ check, outcome, found }) => [check, { outcome, found }]))
  }

  const appPassword = async ({ did, password }) => {
    const signIn = { body: { identifier: did, password } }
    const { accessJwt } = await xrpc(lab.pds, "com.atproto.server.createSession", signIn)
    const named = { token: accessJwt, body: { name: randomBytes(4).toString("hex") } }
    return (await xrpc(lab.pds, "com.atproto.server.createAppPassword", named)).password
  }

  const record = async ({ did }) => {
    const query = { repo: did, collection: COLLECTION, rkey: did }
    const found = xrpc(lab.pds, "com.atproto.repo.getRecord", { query })
    return found.then(({ value }) => value, error => assert.match(error.message, /RecordNotFound/))
  }

  for (const kind of ["owner", "webOwner"])
    test(`the record of ${kind} is published, found good by doctor, and removed`, async t => {
      const account = lab[kind]
      const scene = await begin(t, account.did)
      const publish = ["publish", "--host", HOST, "--yes"]
      assert.equal((await doctor(scene, account.did)).record.outcome, "warning")

      const wrong = await command(scene, account.did, publish, "aaaa-bbbb-cccc-dddd\n")
      assert.equal(wrong.code, 1)
      assert.equal(JSON.parse(wrong.err).error, "wrong_password")
      assert.equal(await record(account), undefined)

      const password = await appPassword(account)
      const written = await command(scene, account.did, publish, `${password}\n`)
      assert.equal(written.code, 0, written.err)
      assert.ok(!(written.out + written.err).includes(password))
      assert.deepEqual(await record(account), { $type: COLLECTION, host: HOST })
      assert.equal(written.json().before, null)

      const found = await doctor(scene, account.did)
      assert.deepEqual(Object.entries(found).filter(([, { outcome }]) => outcome === "failure"), [])
      for (const check of ["configuration", "server", "owner", "PDS", "clock", "record"])
        assert.equal(found[check]?.outcome, "ok", check)

      // Removing it needs the password again, and nothing is left then.
      const removed = await command(scene, account.did, ["publish", "--remove", "--yes"], password)
      assert.equal(removed.code, 0, removed.err)
      assert.equal(await record(account), undefined)
    })

  test("the owner's handle passes to somebody else, and the owner stays the owner", async t => {
    const { owner, stranger } = lab
    const scene = await begin(t, owner.handle)
    await eventually(async () => (await doctor(scene, owner.handle)).server.outcome === "ok", "the owner is known")

    for (const [account, name] of [[owner, "lovelace"], [stranger, "ada"]]) {
      lab.gateway.route(`${name}.lab.test`, lab.gateway.routeOf(lab.pdsHost))
      await xrpc(lab.pds, "com.atproto.identity.updateHandle", {
        token: account.accessJwt, body: { handle: `${name}.lab.test` },
      })
    }
    const led = await (await fetch(`https://${owner.handle}/.well-known/atproto-did`)).text()
    assert.equal(led, stranger.did)

    for (const restart of [false, true]) {
      if (restart) {
        await scene.server.stop()
        await scene.server.start()
      }
      const found = await doctor(scene, owner.handle)
      assert.equal(found["owner's handle"].outcome, "warning")
      assert.ok(found["owner's handle"].found.includes(stranger.did))
      assert.equal(found.owner.outcome, "ok")
      assert.ok(found.owner.found.includes(owner.did))
    }
    // And the password goes to the owner's account, not to the new one of that name.
    const publish = ["publish", "--host", HOST, "--yes"]
    const written = await command(scene, owner.handle, publish, await appPassword(owner))
    assert.equal(written.code, 0, written.err)
    assert.deepEqual(await record(owner), { $type: COLLECTION, host: HOST })
    assert.equal(await record(stranger), undefined)
  })
})
