// Apps that share documents only with peers whose id says that they are a storage server.
import assert from "node:assert/strict"
import { test } from "node:test"
import { PAIRS, Scene, eventually } from "./harness.mjs"

for (const [author, reader] of PAIRS)
  test(`${author} shares with storage servers only: ${reader} finds the document after the author left`, async t => {
    const scene = await Scene.begin(t)
    const writer = await scene.client(author, { announce: "storage-server" })
    assert.match(writer.server.peerId, /^storage-server-groundmist-/)
    assert.ok(writer.server.peerId.endsWith(writer.server.storageId), "the peer id names the storage id")
    const documentId = await writer.create({ value: { title: "kept" } })
    await eventually(
      async () => (await scene.server.command("docs", "list", "--json")).includes(documentId),
      "the server lists the document",
    )
    await writer.close()
    const later = await scene.client(reader, { announce: "storage-server" })
    assert.equal(await later.find({ documentId }), "ready")
    await later.waitFor({ documentId, has: { title: "kept" } })
  })

test("the server keeps its peer id over a restart", async t => {
  const scene = await Scene.begin(t)
  const before = (await scene.client("v2")).server.peerId
  await scene.server.stop()
  await scene.server.start()
  assert.equal((await scene.client("v2")).server.peerId, before)
})
