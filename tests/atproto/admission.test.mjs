// Apps that get in: asked for, approved once by the owner, and then a real client syncs with the token they got.
import { P256Keypair } from "@atproto/crypto"
import assert from "node:assert/strict"
import { after, before, describe, test } from "node:test"
import { NAMESPACE, eventually } from "../clients/harness.mjs"
import { App, METHOD } from "./app.mjs"
import { didWebDocument } from "./did_web.mjs"
import { Lab } from "./lab.mjs"
import {
  AUDIENCES, ROOTS, SYNC, admitted, approve, asked, begin, enterByService, pending, refused, serviceTokenOf, sessions, sync,
} from "./server.mjs"

/** DESIGN: a revoked app's sockets close within a second, and the command takes its time. */
const REVOKED_MS = 1000
const OTHER_NAMESPACE = "xyz.example.tasks"
const XRPC = `/xrpc/${METHOD}`

describe("apps that the owner approves", () => {
  let lab, notes, tasks, vault
  before(async () => {
    lab = await Lab.start()
    notes = await App.create(lab, "notes")
    tasks = await App.create(lab, "tasks")
    vault = await App.create(lab, "vault", { confidential: true })
  })
  after(() => lab?.stop())

  for (const who of ["owner", "webOwner"])
    test(`today's app of ${who === "owner" ? "a did:plc" : "a did:web"} owner waits for approval, then syncs`, async t => {
      const account = lab[who]
      const scene = await begin(t, lab, { owner: account.did })
      const session = await notes.signIn(account)
      refused(await session.post(SYNC, asked()), 403, /^app_not_approved$/)
      const waiting = await pending(scene)
      for (const fact of [notes.clientId, NAMESPACE, account.did]) assert.ok(waiting.includes(fact), waiting)
      await approve(scene, notes)
      assert.ok(!(await pending(scene)).includes(notes.clientId))
      const first = admitted(scene, await session.post(SYNC, asked()))
      assert.ok((await sessions(scene)).includes(notes.clientId))

      // Her second device signs in by itself, and is told the first one's root document.
      const device = await notes.signIn(account)
      const second = admitted(scene, await device.post(SYNC, asked(NAMESPACE, ROOTS[1])), ROOTS[0])
      assert.notEqual(second, first)
      await sync(scene, first, second)
      assert.ok(session.kept && device.kept)
    })

  test("the root document is kept for each app and namespace, over a restart", async t => {
    const scene = await begin(t, lab)
    const session = await notes.signIn(lab.owner)
    await approve(scene, notes)
    await approve(scene, notes, OTHER_NAMESPACE)
    admitted(scene, await session.post(SYNC, asked()))
    admitted(scene, await session.post(SYNC, asked(OTHER_NAMESPACE, ROOTS[1])), ROOTS[1])
    await scene.server.stop("SIGKILL")
    await scene.server.start()
    admitted(scene, await session.post(SYNC, asked(NAMESPACE, ROOTS[1])), ROOTS[0])
    admitted(scene, await session.post(SYNC, asked(OTHER_NAMESPACE, ROOTS[0])), ROOTS[1])
  })

  test("with a proof for the PDS the PDS itself vouches, and notices when the app was signed out", async t => {
    // Only so: with probing off, nothing else can vouch.
    const scene = await begin(t, lab, { settings: { GROUNDMIST_SYNC_ACCESS__PROBE: "false" } })
    await approve(scene, notes)
    const session = await notes.signIn(lab.owner)
    const without = await session.post(SYNC, asked())
    refused(without, 401, /^unverifiable_token$/)
    const { want, htm, htu } = without.body
    assert.deepEqual({ want, htm, htu }, { want: "pdsProof", htm: "GET", htu: `${lab.pds}/xrpc/com.atproto.server.getSession` })
    await sync(scene, admitted(scene, await session.postWithProof(SYNC, asked())))

    await session.refresh()
    admitted(scene, await session.postWithProof(SYNC, asked()))
    await session.revoke()
    refused(await session.postWithProof(SYNC, asked()), 401, /./)
  })

  test("the probe takes a refreshed token, and a revoked one until it expires", async t => {
    const scene = await begin(t, lab)
    await approve(scene, notes)
    const session = await notes.signIn(lab.owner)
    await session.refresh()
    admitted(scene, await session.post(SYNC, asked()))
    await session.revoke()
    admitted(scene, await session.post(SYNC, asked()))
  })

  test("behind a proxy that is trusted, an app's own address is what the owner sees", async t => {
    const address = "203.0.113.9"
    const scene = await begin(t, lab, { settings: { GROUNDMIST_SYNC_LISTEN__TRUSTED_PROXIES: "127.0.0.1" } })
    const host = new URL(SYNC).hostname
    t.after(lab.gateway.fault(host, request => ((request.headers["x-forwarded-for"] = address), false)))
    const session = await notes.signIn(lab.owner)
    refused(await session.post(SYNC, asked()), 403, /^app_not_approved$/)
    const [waiting] = JSON.parse(await pending(scene)).pending
    assert.equal(waiting.address, address)
    await approve(scene, notes)
    admitted(scene, await session.post(SYNC, asked()))
    const trail = JSON.parse(await scene.server.command("apps", "log", "--json"))
    const entered = JSON.stringify(trail)
    assert.ok(entered.includes(address) && !entered.includes("127.0.0.1"), entered)
  })

  for (const who of ["owner", "webOwner"])
    test(`service auth and the app's attestation, in every form, for ${who === "owner" ? "a did:plc" : "a did:web"} owner`, async t => {
      const account = lab[who]
      const scene = await begin(t, lab, { owner: account.did })
      const session = await vault.signIn(account)
      const ask = async (aud, path) =>
        enterByService(await session.serviceAuth(aud), await vault.attestation(aud), { path })
      refused(await ask(AUDIENCES[0]), 403, /^app_not_approved$/)
      assert.ok((await pending(scene)).includes(vault.clientId))
      await approve(scene, vault)
      let token
      for (const path of ["/authenticate", XRPC])
        for (const aud of AUDIENCES) token = admitted(scene, await ask(aud, path))
      await sync(scene, token)
      // The owner is proved, the app is not.
      const alone = await enterByService(await session.serviceAuth(AUDIENCES[0]), null)
      refused(alone, 403, /^app_unproven$/)
      assert.match(alone.text, /\/connect/)
    })

  test("service auth by a P-256 key, behind a decoy in the DID document", async t => {
    const key = await P256Keypair.create()
    const did = "did:web:petra.lab.internal"
    const document = didWebDocument({ did, handle: "petra.lab.test", pds: lab.pds, key: key.did() })
    lab.gateway.serve("petra.lab.internal", "/.well-known/did.json", document)
    const scene = await begin(t, lab, { owner: did })
    await approve(scene, vault)
    const token = await serviceTokenOf(did, key)
    admitted(scene, await enterByService(token, await vault.attestation(AUDIENCES[0])))
    const decoy = await P256Keypair.create()
    refused(await enterByService(await serviceTokenOf(did, decoy), await vault.attestation(AUDIENCES[0])), 401, /./)
  })

  test("a signing key that the owner rotated is looked up anew", async t => {
    const [old, next] = [await P256Keypair.create(), await P256Keypair.create()]
    const did = "did:web:rota.lab.internal"
    const publish = key => lab.gateway.serve("rota.lab.internal", "/.well-known/did.json",
      didWebDocument({ did, handle: "rota.lab.test", pds: lab.pds, key: key.did() }))
    publish(old)
    const scene = await begin(t, lab, { owner: did })
    await approve(scene, vault)
    const ask = async key => enterByService(await serviceTokenOf(did, key), await vault.attestation(AUDIENCES[0]))
    admitted(scene, await ask(old))
    publish(next)
    admitted(scene, await ask(next))
    refused(await ask(old), 401, /./)
  })

  test("approval is for one app and one namespace", async t => {
    const scene = await begin(t, lab)
    await approve(scene, notes)
    const session = await notes.signIn(lab.owner)
    admitted(scene, await session.post(SYNC, asked()))
    refused(await session.post(SYNC, asked(OTHER_NAMESPACE)), 403, /^app_not_approved$/)
    refused(await (await tasks.signIn(lab.owner)).post(SYNC, asked()), 403, /^app_not_approved$/)
  })

  test("a read-only app reads, and what it writes goes nowhere", async t => {
    const scene = await begin(t, lab)
    await approve(scene, notes)
    await approve(scene, tasks, NAMESPACE, "--read-only")
    const full = admitted(scene, await (await notes.signIn(lab.owner)).post(SYNC, asked()))
    const limited = admitted(scene, await (await tasks.signIn(lab.owner)).post(SYNC, asked()))
    const { writer, reader, documentId } = await sync(scene, full, limited)
    await reader.change({ documentId, set: { title: "theirs" } })
    await writer.change({ documentId, set: { more: true } })
    await reader.waitFor({ documentId, has: { more: true } })
    assert.deepEqual(await writer.value({ documentId }), { title: "mine", more: true })
  })

  test("a denied app stays out, however often it asks", async t => {
    const scene = await begin(t, lab)
    const session = await notes.signIn(lab.owner)
    refused(await session.post(SYNC, asked()), 403, /^app_not_approved$/)
    await scene.server.command("apps", "deny", notes.clientId, "--namespace", NAMESPACE)
    for (let n = 0; n < 2; n++) refused(await session.post(SYNC, asked()), 403, /^app_denied$/)
    assert.ok(!(await pending(scene)).includes(notes.clientId))
  })

  test("a revoked app is out within a second, over a restart, until approved again", async t => {
    const scene = await begin(t, lab)
    await approve(scene, notes)
    await approve(scene, tasks)
    const session = await notes.signIn(lab.owner)
    const token = admitted(scene, await session.post(SYNC, asked()))
    const other = admitted(scene, await (await tasks.signIn(lab.owner)).post(SYNC, asked()))
    const { writer, reader } = await sync(scene, token, other)
    await scene.server.command("apps", "revoke", notes.clientId, "--namespace", NAMESPACE)
    await writer.disconnected({ timeoutMs: REVOKED_MS })
    await eventually(async () => (await writer.errors()).some(error => error.includes("401")), "a refusal on reconnecting")
    assert.ok(await reader.isConnected())
    refused(await session.post(SYNC, asked()), 403, /^app_not_approved$/)
    await scene.server.stop()
    await scene.server.start()
    refused(await session.post(SYNC, asked()), 403, /^app_not_approved$/)
    await approve(scene, notes)
    admitted(scene, await session.post(SYNC, asked()))
  })

  test("with first-use whatever app proves the owner's DID gets in, and nobody else's", async t => {
    const scene = await begin(t, lab, { settings: { GROUNDMIST_SYNC_ACCESS__APPROVE: "first-use" } })
    refused(await (await notes.signIn(lab.stranger)).post(SYNC, asked()), [401, 403], /./)
    admitted(scene, await (await notes.signIn(lab.owner)).post(SYNC, asked()))
  })
})
