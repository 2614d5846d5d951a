// samod, the Rust automerge-repo, as a client: with the newest JavaScript line and with itself.
import assert from "node:assert/strict"
import { describe, test } from "node:test"
import { Scene } from "./harness.mjs"

for (const [first, second] of [["samod", "samod"], ["samod", "v2"], ["v2", "samod"], ["v1", "samod"]])
  describe(`${first} and ${second}`, () => {
    test("create, find, and edits both ways", async t => {
      const scene = await Scene.begin(t)
      const [author, reader] = await scene.clients([first, second])
      const documentId = await author.create({ value: { title: "Mist", n: 1 } })
      assert.equal(await reader.find({ documentId }), "ready")
      await reader.waitFor({ documentId, has: { title: "Mist", n: 1 } })
      await reader.change({ documentId, set: { n: 2 } })
      await author.waitFor({ documentId, has: { n: 2 } })
      await author.change({ documentId, set: { a: "x" }, repeat: 50 })
      await reader.change({ documentId, set: { b: "y" }, repeat: 50 })
      for (const client of [author, reader]) await client.waitForKeys({ documentId, count: 102 })
      assert.deepEqual(await reader.value({ documentId }), await author.value({ documentId }))
    })

    test("100 documents up by one, down by another", async t => {
      const scene = await Scene.begin(t)
      const [author, reader] = await scene.clients([first, second])
      const documentIds = await author.createMany({ count: 100, prefix: "doc " })
      assert.deepEqual(await reader.findMany({ documentIds }), { ready: 100 })
      for (const [n, documentId] of documentIds.entries())
        await reader.waitFor({ documentId, has: { title: `doc ${n}`, n } })
    })

    test("offline edits meet, over a restart of the server", async t => {
      const scene = await Scene.begin(t)
      const [left, right] = await scene.clients([first, second])
      const documentId = await left.create({ value: { base: 1 } })
      assert.equal(await right.find({ documentId }), "ready")
      await left.disconnect()
      await left.change({ documentId, set: { left: "l" }, repeat: 20 })
      await right.change({ documentId, set: { right: "r" }, repeat: 20 })
      await scene.server.stop("SIGKILL")
      await scene.server.start()
      await left.connect()
      for (const client of [left, right]) await client.waitForKeys({ documentId, count: 41 })
      assert.deepEqual(await right.value({ documentId }), await left.value({ documentId }))
    })

    test("unavailable at first, then available when its author shows up", async t => {
      const scene = await Scene.begin(t)
      const [author, seeker] = await scene.clients([first, second], { storage: true })
      await author.disconnect()
      const documentId = await author.create({ value: { title: "late" } })
      assert.equal(await seeker.find({ documentId }), "unavailable")
      await author.connect()
      await seeker.state({ documentId, state: "ready" })
      await seeker.waitFor({ documentId, has: { title: "late" } })
    })

    test("an ephemeral message reaches the other once", async t => {
      const scene = await Scene.begin(t)
      const [author, reader] = await scene.clients([first, second])
      const documentId = await author.create({ value: { title: "presence" } })
      assert.equal(await reader.find({ documentId }), "ready")
      await reader.change({ documentId, set: { here: true } })
      await author.waitFor({ documentId, has: { here: true } })
      for (let n = 0; n < 10; n++) await author.broadcast({ documentId, message: { n } })
      await reader.broadcast({ documentId, message: { n: "back" } })
      const seen = (await reader.waitForEphemeral({ count: 10 })).map(({ message }) => message.n)
      assert.deepEqual(seen, Array.from({ length: 10 }, (_, n) => n))
      const back = (await author.waitForEphemeral({ count: 1 })).map(({ message }) => message.n)
      assert.deepEqual(back, ["back"])
    })
  })

test("asked in vain, it has the document when it comes", async t => {
  const scene = await Scene.begin(t)
  const author = await scene.client("v2", { storage: true })
  await author.disconnect()
  const documentId = await author.create({ value: { title: "late" } })
  const [seeker, asked] = await scene.clients(["v2", "samod"])
  // Not before the Rust peer has said that it lacks it; from then on it never asks for it again by itself.
  assert.equal(await seeker.find({ documentId }), "unavailable")
  await author.connect()
  await seeker.state({ documentId, state: "ready" })
  await asked.state({ documentId, state: "ready" })
  assert.deepEqual(await asked.value({ documentId }), { title: "late" })
})
