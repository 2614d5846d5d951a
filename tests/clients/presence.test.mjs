// What passes between clients beside documents: ephemeral messages and who has saved what.
import assert from "node:assert/strict"
import { describe, test } from "node:test"
import { PAIRS, REFERENCE, Scene, eventually } from "./harness.mjs"
import { hexHeads } from "./heads.mjs"

for (const [first, second] of PAIRS)
  describe(`${first} and ${second}`, () => {
    test("an ephemeral message reaches every other client once", async t => {
      const scene = await Scene.begin(t)
      const [author, near, far] = await scene.clients([first, second, first])
      const documentId = await author.create({ value: { title: "presence" } })
      for (const client of [near, far]) await client.state({ documentId, state: "ready" })
      // A client has opened the document once its sync reaches the others.
      await near.change({ documentId, set: { near: true } })
      await far.change({ documentId, set: { far: true } })
      for (const client of [author, near, far]) await client.waitFor({ documentId, has: { near: true, far: true } })
      for (let n = 0; n < 20; n++) await author.broadcast({ documentId, message: { cursor: n } })
      await near.broadcast({ documentId, message: { from: "near" } })
      const expected = Array.from({ length: 20 }, (_, n) => n)
      for (const client of [near, far]) {
        await client.waitForEphemeral({ count: client === near ? 20 : 21 })
        const fromAuthor = (await client.ephemeral()).filter(({ senderId }) => senderId === author.peerId)
        assert.deepEqual(fromAuthor.map(({ message }) => message.cursor), expected)
      }
      assert.deepEqual((await author.waitForEphemeral({ count: 1 })).map(({ message }) => message), [{ from: "near" }])
      // A marker that came after all of them shows that no second copy is under way.
      await far.broadcast({ documentId, message: { from: "far" } })
      assert.equal((await near.waitForEphemeral({ count: 21 })).length, 21)
      assert.equal((await author.waitForEphemeral({ count: 2 })).length, 2)
      assert.equal((await far.ephemeral()).length, 21)
    })

    test("a client is told that the server has saved its document", { skip: REFERENCE && "gossip is off there" }, async t => {
      const scene = await Scene.begin(t)
      const [author, reader] = await scene.clients([first, second], { storage: true, gossip: true })
      const { storageId } = author.server
      assert.ok(storageId, "the server has a storage id")
      assert.equal(reader.server.storageId, storageId)
      assert.equal(author.server.metadata.isEphemeral, false)
      for (const client of [author, reader]) await client.subscribeToRemotes({ storageIds: [storageId] })
      const documentId = await author.create({ value: { n: 0 } })
      assert.equal(await reader.find({ documentId }), "ready")
      const heads = await author.change({ documentId, set: { n: 1 } })
      for (const client of [author, reader])
        await eventually(
          async () => String(hexHeads(await client.remoteHeads({ documentId, storageId }))) === String(heads),
          `${client.name} knows that the server is at the last change`,
        )
      const told = (await reader.remoteHeadsEvents()).filter(event => event.storageId === storageId)
      assert.ok(told.some(event => String(hexHeads(event.heads)) === String(heads)))
      // The server keeps its identity, and so the promise, over a restart.
      await scene.server.stop("SIGKILL")
      await scene.server.start()
      const newcomer = await scene.client(second)
      assert.equal(newcomer.server.storageId, storageId)
      assert.equal(await newcomer.find({ documentId }), "ready")
      await newcomer.waitForHeads({ documentId, heads })
    })

    test("a client is told what another client's storage holds", { skip: REFERENCE && "gossip is off there" }, async t => {
      const scene = await Scene.begin(t)
      const [author, watcher] = await scene.clients([first, second], { storage: true, gossip: true })
      await watcher.subscribeToRemotes({ storageIds: [author.storage] })
      const documentId = await author.create({ value: { n: 0 } })
      assert.equal(await watcher.find({ documentId }), "ready")
      const heads = await author.change({ documentId, set: { n: 1 } })
      await watcher.waitForHeads({ documentId, heads })
      await eventually(
        async () => String(hexHeads(await watcher.remoteHeads({ documentId, storageId: author.storage }))) === String(heads),
        "the watcher knows what the author's storage holds",
      )
    })
  })
