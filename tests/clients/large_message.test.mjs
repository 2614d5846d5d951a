// A device with a document that is larger than a message may be: its other documents sync, on one connection, and the owner is told.
import assert from "node:assert/strict"
import { readFileSync } from "node:fs"
import { describe, test } from "node:test"
import { Scene, eventually } from "./harness.mjs"

const LARGE = 40_500_000
/** What the server process may take at most, whatever clients send. */
const SERVER_BYTES = 128 * 1024 * 1024

/** The most memory that the process has had so far, in bytes. */
function peak(pid) {
  return Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))[1]) * 1024
}

async function status(scene) {
  return JSON.parse(await scene.server.command("status", "--json"))
}

for (const line of ["v1", "v2"])
  describe(line, () => {
    test("a document of 40 MB among twelve small ones", async t => {
      const settings = { dev: true }
      const scene = await Scene.begin(t, settings)
      const author = await scene.client(line)
      const small = await author.createMany({ count: 6, prefix: "before" })
      const large = await author.createLarge({ bytes: LARGE })
      small.push(...(await author.createMany({ count: 6, prefix: "after" })))
      const told = async () => (await status(scene)).warnings.find(({ code }) => code === "message_too_large")
      await eventually(told, "the owner is told")
      const { message, fix } = await told()
      const session = (await status(scene)).engine.opening_troubles[0].session
      for (const part of [large, session, "41 MB", "33.6 MB"]) assert.ok(message.includes(part), `${part}: ${message}`)
      assert.match(fix, /set limits\.message_bytes, limits\.inbox_bytes and limits\.inflated_bytes each to 51 MB or more/)
      assert.match(scene.server.log, new RegExp(`more of a document at once.*${large}`))

      // Another device gets all the others, also what is changed from now on.
      const other = await scene.client(line)
      assert.deepEqual(await other.findMany({ documentIds: small }), { ready: 12 })
      assert.equal(await other.find({ documentId: large, timeoutMs: 20_000 }), "unavailable")
      for (const documentId of [large, small[0]]) await author.change({ documentId, set: { later: true } })
      await other.waitFor({ documentId: small[0], has: { later: true } })
      assert.equal(await author.connections(), 1, "it was never disconnected")
      const times = scene.server.log.split("more of a document at once").length - 1
      assert.ok(times <= 2, `it sent the large one ${times} times`)
      const { pid } = await status(scene)
      assert.ok(peak(pid) < SERVER_BYTES, `${peak(pid)} bytes`)

      // Half of what the owner is told to do has the other half named, also after another start.
      const raise = async limits => {
        await scene.server.stop()
        for (const limit of limits) settings[`GROUNDMIST_SYNC_LIMITS__${limit}`] = "64 MiB"
        await scene.server.start()
      }
      const asksForMore = async () => (await told())?.fix.includes("set limits.inflated_bytes to 68 MB or more")
      // Older clients send the change as it is, newer ones the document compressed.
      if (line === "v2") {
        await raise(["MESSAGE_BYTES", "INBOX_BYTES"])
        await eventually(asksForMore, "the owner is told of the next limit")
        await raise([])
        assert.ok(await asksForMore())
      }

      // What the owner is told to do helps.
      await raise(["MESSAGE_BYTES", "INBOX_BYTES", "INFLATED_BYTES"])
      await other.state({ documentId: large, state: "ready" })
      assert.equal(await other.size({ documentId: large, key: "large" }), LARGE)
      assert.equal(await told(), undefined)
    })
  })
