// Documents between real clients: created, found, edited by several, many at once, edited offline, large.
import assert from "node:assert/strict"
import { execFileSync } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { after, before, describe, test } from "node:test"
import { fileURLToPath } from "node:url"
import { isDeepStrictEqual } from "node:util"
import { PAIRS, Scene, eventually } from "./harness.mjs"

const MANY = 500
const KEYSTROKES = 100_000

for (const [first, second] of PAIRS)
  describe(`${first} and ${second}`, () => {
    test("a document created by one is found by the other, and edits go both ways", async t => {
      const scene = await Scene.begin(t)
      const [author, reader] = await scene.clients([first, second])
      const documentId = await author.create({ value: { title: "Mist", n: 1, tags: ["a", "b"] } })
      assert.equal(await reader.find({ documentId }), "ready")
      assert.deepEqual(await reader.value({ documentId }), { title: "Mist", n: 1, tags: ["a", "b"] })
      await reader.change({ documentId, set: { n: 2 } })
      await author.waitFor({ documentId, has: { n: 2 } })
      await author.change({ documentId, set: { title: "Ground mist" } })
      const heads = await reader.waitFor({ documentId, has: { title: "Ground mist", n: 2 } })
      assert.deepEqual(heads, await author.heads({ documentId }))
    })

    test("a newcomer gets what was written before, without its author", async t => {
      const scene = await Scene.begin(t)
      const author = await scene.client(first)
      const witness = await scene.client(second)
      const documentId = await author.create({ value: {} })
      const heads = await author.change({ documentId, set: { k: "v" }, repeat: 40 })
      await witness.find({ documentId })
      await witness.waitForHeads({ documentId, heads })
      await author.close()
      await witness.close()
      const newcomer = await scene.client(second)
      assert.equal(await newcomer.find({ documentId }), "ready")
      await newcomer.waitForHeads({ documentId, heads })
      assert.equal(Object.keys(await newcomer.value({ documentId })).length, 40)
    })

    test("three clients that edit at once end with the same document", async t => {
      const scene = await Scene.begin(t)
      const clients = await scene.clients([first, second, first])
      const documentId = await clients[0].create({ value: { start: true } })
      for (const client of clients.slice(1)) await client.state({ documentId, state: "ready" })
      await Promise.all(
        clients.map((client, n) => client.change({ documentId, set: { [`from${n}-`]: "x", shared: n }, repeat: 50 })),
      )
      // 50 keys of its own from each, 50 contested ones, and the first.
      await Promise.all(clients.map(client => client.waitForKeys({ documentId, count: 201 })))
      await eventually(async () => {
        const heads = await Promise.all(clients.map(client => client.heads({ documentId })))
        return heads.every(these => isDeepStrictEqual(these.sort(), heads[0].sort()))
      }, "the same heads everywhere")
      const values = await Promise.all(clients.map(client => client.value({ documentId })))
      assert.deepEqual(values[1], values[0])
      assert.deepEqual(values[2], values[0])
    })

    test(`${MANY} documents up by one, down by another`, async t => {
      const scene = await Scene.begin(t)
      const [author, reader] = await scene.clients([first, second])
      const documentIds = await author.createMany({ count: MANY, prefix: "doc " })
      assert.deepEqual(await reader.findMany({ documentIds }), { ready: MANY })
      const values = await reader.values({ documentIds })
      values.forEach((value, n) => assert.deepEqual(value, { title: `doc ${n}`, n }))
    })

    test("edits made offline on both sides meet after reconnecting", async t => {
      const scene = await Scene.begin(t)
      const [left, right] = await scene.clients([first, second], { storage: true })
      const documentId = await left.create({ value: { base: 1 } })
      assert.equal(await right.find({ documentId }), "ready")
      await left.disconnect()
      await right.disconnect()
      await left.change({ documentId, set: { left: "l" }, repeat: 20 })
      await right.change({ documentId, set: { right: "r" }, repeat: 20 })
      const born = await left.create({ value: { title: "born offline" } })
      await left.connect()
      await right.connect()
      await left.waitForKeys({ documentId, count: 41 })
      await right.waitForKeys({ documentId, count: 41 })
      assert.deepEqual(await right.value({ documentId }), await left.value({ documentId }))
      assert.equal(await right.find({ documentId: born }), "ready")
      assert.deepEqual(await right.value({ documentId: born }), { title: "born offline" })
    })
  })

describe(`a document of ${KEYSTROKES} changes`, () => {
  const directory = mkdtempSync(join(tmpdir(), "groundmist-large-"))
  const path = join(directory, "large.automerge")
  let made

  before(() => {
    const script = join(dirname(fileURLToPath(import.meta.url)), "v2/large_document.mjs")
    made = JSON.parse(execFileSync("node", [script, String(KEYSTROKES), path], { encoding: "utf8" }))
  })
  after(() => rmSync(directory, { recursive: true, force: true }))

  for (const author of ["v1", "v2"])
    test(`imported by ${author}, found by both lines, edited by each`, async t => {
      const scene = await Scene.begin(t)
      const writer = await scene.client(author)
      const readers = await scene.clients(["v1", "v2"])
      const documentId = await writer.importFile({ path })
      for (const reader of readers) {
        await reader.state({ documentId, state: "ready", timeoutMs: 120_000 })
        await reader.waitForHeads({ documentId, heads: made.heads, timeoutMs: 120_000 })
        assert.equal(await reader.textLength({ documentId }), made.length)
      }
      await writer.change({ documentId, set: { by: "writer" } })
      for (const [n, reader] of readers.entries()) {
        await reader.waitFor({ documentId, has: { by: "writer" }, timeoutMs: 60_000 })
        await reader.change({ documentId, set: { [`reader${n}`]: true } })
      }
      await writer.waitFor({ documentId, has: { reader0: true, reader1: true }, timeoutMs: 60_000 })
    })
})
