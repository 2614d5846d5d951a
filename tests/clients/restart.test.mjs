// The server goes away in the middle and comes back on the same data: clients carry on as if nothing happened.
import assert from "node:assert/strict"
import { describe, test } from "node:test"
import { PAIRS, REFERENCE, Scene } from "./harness.mjs"

for (const [first, second] of PAIRS)
  for (const signal of ["SIGTERM", "SIGKILL"])
    describe(`${first} and ${second}, ${signal}`, () => {
      test("clients reconnect by themselves and everything written meanwhile arrives", async t => {
        const scene = await Scene.begin(t)
        const [author, reader] = await scene.clients([first, second])
        const documentId = await author.create({ value: { phase: "before" } })
        assert.equal(await reader.find({ documentId }), "ready")
        const code = await scene.server.stop(signal)
        if (signal === "SIGTERM" && !REFERENCE) assert.equal(code, 0, scene.server.log)
        await author.change({ documentId, set: { author: "a" }, repeat: 10 })
        await reader.change({ documentId, set: { reader: "r" }, repeat: 10 })
        const born = await author.create({ value: { born: "while the server was away" } })
        await scene.server.start()
        for (const client of [author, reader]) await client.waitForKeys({ documentId, count: 21 })
        assert.deepEqual(await reader.value({ documentId }), await author.value({ documentId }))
        assert.equal(await reader.find({ documentId: born }), "ready")
      })

      test("edits under way when it stops are not lost", async t => {
        const scene = await Scene.begin(t)
        const [author, reader] = await scene.clients([first, second])
        const documentId = await author.create({ value: { start: true } })
        assert.equal(await reader.find({ documentId }), "ready")
        // One change every few milliseconds, before, while and after the server is away.
        let stop = false
        let written = 0
        const writing = (async () => {
          while (!stop) {
            await author.change({ documentId, set: { [`k${written}`]: written } })
            written++
            await new Promise(resolve => setTimeout(resolve, 5))
          }
        })()
        await reader.waitFor({ documentId, has: { k9: 9 } })
        await scene.server.stop(signal)
        const before = written
        await scene.server.start()
        await author.connected()
        await reader.waitFor({ documentId, has: { [`k${before}`]: before } })
        stop = true
        await writing
        await reader.waitForKeys({ documentId, count: written + 1 })
        assert.ok(before >= 10 && written > before)
      })

      test("what the server had is there for a newcomer, its authors gone", async t => {
        const scene = await Scene.begin(t)
        const author = await scene.client(first)
        const witness = await scene.client(second)
        const documentIds = await author.createMany({ count: 30, prefix: "kept " })
        // The witness saw them through the server, so the server must keep them.
        assert.deepEqual(await witness.findMany({ documentIds }), { ready: 30 })
        await author.close()
        await witness.close()
        await scene.server.stop(signal)
        await scene.server.start()
        const newcomer = await scene.client(second)
        assert.deepEqual(await newcomer.findMany({ documentIds }), { ready: 30 })
        const values = await newcomer.values({ documentIds })
        values.forEach((value, n) => assert.deepEqual(value, { title: `kept ${n}`, n }))
      })
    })
