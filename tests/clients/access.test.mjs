// Who gets in and what they may do: tokens that expire, are revoked, may only read, or belong elsewhere.
import assert from "node:assert/strict"
import { describe, test } from "node:test"
import { PAIRS, REFERENCE, Scene, eventually } from "./harness.mjs"

/** A revoked session's socket must be closed within this; DESIGN: within a second, and the command takes its time. */
const REVOKED_MS = 1000
/** How long nothing must happen before a test takes it that nothing will. */
const SILENCE_MS = 1500

/** How long a token lasts that expires: longer than a client takes to connect with it, which an emulated server makes long. */
const EXPIRES = process.env.EXPIRES ?? "5s"

const skip = REFERENCE && "that server lets anyone in"
const silence = () => new Promise(resolve => setTimeout(resolve, SILENCE_MS))

for (const [first, second] of PAIRS)
  describe(`${first} and ${second}`, { skip }, () => {
    test("no token, a wrong one and another server's one are refused", async t => {
      const scene = await Scene.begin(t)
      const other = await Scene.begin(t)
      const foreign = await other.server.token({ name: "elsewhere" })
      const good = await scene.server.token({ name: "good" })
      // One letter of the signature changed: the middle of it, where every bit counts.
      const at = good.length - 20
      const forged = `${good.slice(0, at)}${good[at] === "A" ? "B" : "A"}${good.slice(at + 1)}`
      for (const token of [undefined, "nonsense", foreign, forged]) {
        const client = await scene.clientNotYet(first, { name: "stranger", url: scene.server.url(token) })
        await eventually(async () => (await client.errors()).some(error => error.includes("401")), `a refusal for ${token}`)
        await assert.rejects(client.connected({ timeoutMs: 300 }))
        await client.close()
      }
    })

    test("a token that expires closes its live socket, and is refused from then on", async t => {
      const scene = await Scene.begin(t)
      const keeper = await scene.client(second)
      const brief = await scene.client(first, { expires: EXPIRES })
      const documentId = await brief.create({ value: { title: "in time" } })
      assert.equal(await keeper.find({ documentId }), "ready")
      await eventually(async () => (await brief.errors()).some(error => error.includes("401")), "a refusal after expiry")
      await brief.change({ documentId, set: { late: true } })
      await silence()
      assert.deepEqual(await keeper.value({ documentId }), { title: "in time" })
    })

    test("a revoked token closes its sockets within a second, for good, and no other's", async t => {
      const scene = await Scene.begin(t)
      const keeper = await scene.client(second)
      const gone = await scene.client(first, { name: "lost-phone" })
      const documentId = await gone.create({ value: { title: "before" } })
      assert.equal(await keeper.find({ documentId }), "ready")
      await scene.server.revoke("lost-phone")
      await gone.disconnected({ timeoutMs: REVOKED_MS })
      await eventually(async () => (await gone.errors()).some(error => error.includes("401")), "a refusal on reconnecting")
      await gone.change({ documentId, set: { late: true } })
      await scene.server.stop()
      await scene.server.start()
      await keeper.connected()
      await silence()
      assert.equal(await gone.isConnected(), false)
      assert.deepEqual(await keeper.value({ documentId }), { title: "before" })
      await keeper.change({ documentId, set: { still: "here" } })
      const newcomer = await scene.client(first)
      assert.equal(await newcomer.find({ documentId }), "ready")
      await newcomer.waitFor({ documentId, has: { still: "here" } })
    })

    test("a read-only token sees everything and changes nothing", async t => {
      const scene = await Scene.begin(t)
      const writer = await scene.client(first)
      const reader = await scene.client(second, { readOnly: true })
      const documentId = await writer.create({ value: { title: "one" } })
      assert.equal(await reader.find({ documentId }), "ready")
      const heads = await writer.change({ documentId, set: { title: "two" } })
      await reader.waitForHeads({ documentId, heads })
      await reader.change({ documentId, set: { title: "mine", intruder: true } })
      const own = await reader.create({ value: { title: "a reader's own" } })
      // Still served after having tried, and what it wrote has gone nowhere.
      const later = await writer.change({ documentId, set: { more: 1 } })
      await reader.waitFor({ documentId, has: { more: 1 } })
      await silence()
      assert.deepEqual(await writer.heads({ documentId }), later)
      assert.deepEqual(await writer.value({ documentId }), { title: "two", more: 1 })
      const newcomer = await scene.client(first)
      assert.equal(await newcomer.find({ documentId }), "ready")
      await newcomer.waitForHeads({ documentId, heads: later })
      assert.equal(await newcomer.find({ documentId: own }), "unavailable")
    })

    test("two namespaces do not see each other in any way", async t => {
      const scene = await Scene.begin(t)
      const options = { storage: true, gossip: true }
      const [writer, friend] = await scene.clients([first, second], { ...options, namespace: "xyz.example.notes" })
      const [spy, accomplice] = await scene.clients([first, second], { ...options, namespace: "xyz.example.tasks" })
      const storageIds = [writer.server.storageId, writer.storage, friend.storage]
      await spy.subscribeToRemotes({ storageIds })
      await accomplice.subscribeToRemotes({ storageIds })

      // Stored: not there for the other namespace. At another client only: not asked for there.
      const documentId = await writer.create({ value: { secret: 1 } })
      assert.equal(await friend.find({ documentId }), "ready")
      assert.equal(await spy.find({ documentId }), "unavailable")
      const shy = await scene.client(first, { announce: false, namespace: "xyz.example.notes" })
      const hidden = await shy.create({ value: { secret: 2 } })
      assert.equal(await spy.find({ documentId: hidden }), "unavailable")

      // Nor the other way round.
      const disguised = await scene.client(first, { namespace: "xyz.example.tasks", storage: true })
      const twin = await disguised.create({ value: { theirs: true } })
      assert.equal(await accomplice.find({ documentId: twin }), "ready")
      assert.equal(await friend.find({ documentId: twin }), "unavailable")
      await disguised.close()

      // Changes, presence and saved heads stay on their side.
      await writer.change({ documentId, set: { secret: 3 } })
      await friend.waitFor({ documentId, has: { secret: 3 } })
      for (let n = 0; n < 5; n++) await writer.broadcast({ documentId, message: { n } })
      await friend.waitForEphemeral({ count: 5 })
      await accomplice.broadcast({ documentId: twin, message: "psst" })
      await silence()
      assert.deepEqual(await spy.ephemeral(), [])
      assert.deepEqual(await writer.ephemeral(), [])
      for (const [client, own] of [[spy, undefined], [accomplice, twin]]) {
        const heard = (await client.remoteHeadsEvents()).filter(event => event.documentId !== own)
        assert.deepEqual(heard, [])
      }
      for (const storageId of storageIds) assert.equal(await spy.remoteHeads({ documentId, storageId }), null)
      assert.equal(await spy.state({ documentId, state: "unavailable" }), "unavailable")
    })

    test("the same document id in two namespaces is two documents", async t => {
      const scene = await Scene.begin(t)
      const here = await scene.client(first, { storage: true, name: "carrier", namespace: "xyz.example.notes" })
      const documentId = await here.create({ value: { place: "notes" } })
      const shared = await scene.client(second, { namespace: "xyz.example.notes" })
      assert.equal(await shared.find({ documentId }), "ready")
      await here.close()
      // The same device, with its storage, joins the other namespace and so brings the document along.
      const token = await scene.server.token({ name: "carrier-there", namespace: "xyz.example.tasks" })
      const there = await scene.client(first, { storage: true, name: "carrier", url: scene.server.url(token) })
      assert.equal(await there.find({ documentId }), "ready")
      await there.change({ documentId, set: { place: "tasks" } })
      const witness = await scene.client(second, { namespace: "xyz.example.tasks" })
      assert.equal(await witness.find({ documentId }), "ready")
      await witness.waitFor({ documentId, has: { place: "tasks" } })
      await shared.change({ documentId, set: { more: "notes only" } })
      await silence()
      assert.deepEqual(await shared.value({ documentId }), { place: "notes", more: "notes only" })
      assert.deepEqual(await witness.value({ documentId }), { place: "tasks" })
      const newcomer = await scene.client(second, { namespace: "xyz.example.notes" })
      assert.equal(await newcomer.find({ documentId }), "ready")
      await newcomer.waitFor({ documentId, has: { place: "notes", more: "notes only" } })
    })
  })
