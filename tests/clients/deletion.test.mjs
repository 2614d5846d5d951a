// The owner deletes a document that real clients have: none of them brings it back, and all have it again when she restores it.
import assert from "node:assert/strict"
import { describe, test } from "node:test"
import { NAMESPACE, PAIRS, Scene, eventually } from "./harness.mjs"

const docs = async (server, ...args) => JSON.parse(await server.command("docs", ...args, "--json"))

for (const [first, second] of PAIRS)
  describe(`${first} and ${second}`, () => {
    test("a device that was away comes back with a deleted document and brings nothing back", async t => {
      const scene = await Scene.begin(t)
      const { server } = scene
      const [away, other] = await scene.clients([first, second], { storage: true })
      const documentId = await away.create({ value: { title: "Mist" } })
      assert.equal(await other.find({ documentId }), "ready")
      const before = await docs(server, "show", NAMESPACE, documentId)

      await away.disconnect()
      await docs(server, "delete", NAMESPACE, documentId, "--yes")
      await away.change({ documentId, set: { away: "edited" } })
      await other.change({ documentId, set: { connected: "edited" } })
      await away.connect()
      await away.connected({})
      // What comes after it has come: the server has read what the device had to say.
      const marker = await away.create({ value: { marker: 1 } })
      assert.equal(await other.find({ documentId: marker }), "ready")
      await away.change({ documentId, set: { back: "edited" } })
      const newcomer = await scene.client(second)
      assert.equal(await newcomer.find({ documentId }), "unavailable")
      const meanwhile = await docs(server, "show", NAMESPACE, documentId)
      assert.deepEqual([meanwhile.heads, meanwhile.changes], [before.heads, before.changes])
      assert.notEqual(meanwhile.deleted, null)

      await docs(server, "restore", NAMESPACE, documentId)
      // All of it meets again, and new edits go both ways.
      for (const client of [away, other])
        await client.waitFor({ documentId, has: { title: "Mist", away: "edited", connected: "edited", back: "edited" } })
      await other.change({ documentId, set: { after: 1 } })
      await away.waitFor({ documentId, has: { after: 1 } })
      const late = await scene.client(first)
      assert.equal(await late.find({ documentId }), "ready")
      await late.waitFor({ documentId, has: { after: 1 } })
    })

    test("what is deleted for good is gone, also after a restart, and other documents go on", async t => {
      const scene = await Scene.begin(t)
      const { server } = scene
      const [author, reader] = await scene.clients([first, second])
      const [gone, kept] = [await author.create({ value: { n: 1 } }), await author.create({ value: { n: 2 } })]
      for (const documentId of [gone, kept]) assert.equal(await reader.find({ documentId }), "ready")
      await docs(server, "delete", NAMESPACE, gone, "--yes")
      await docs(server, "purge", NAMESPACE, gone, "--yes")
      await server.stop()
      await server.start()
      await author.connected({})
      await author.change({ documentId: gone, set: { again: true } })
      await author.change({ documentId: kept, set: { again: true } })
      await reader.waitFor({ documentId: kept, has: { again: true } })
      assert.deepEqual(await reader.value({ documentId: gone }), { n: 1 })
      await eventually(async () => (await docs(server, "list")).documents.length === 1, "one document")
      await assert.rejects(docs(server, "show", NAMESPACE, gone), /purged|for good/)
      const newcomer = await scene.client(first)
      assert.equal(await newcomer.find({ documentId: gone }), "unavailable")
    })
  })
