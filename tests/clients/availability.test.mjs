// Documents that the server does not have: asked for from others, refused, and found when they turn up.
import assert from "node:assert/strict"
import { describe, test } from "node:test"
import { PAIRS, Scene } from "./harness.mjs"

/** A document id in the right form that nobody has. */
const NOBODYS = "6gMHXjsZV9fBM4QUsWbzRir28qx"

for (const [first, second] of PAIRS)
  describe(`${first} and ${second}`, () => {
    test("what nobody has is unavailable, alone or with others connected", async t => {
      const scene = await Scene.begin(t)
      const absent = await scene.client(first)
      await absent.disconnect()
      const documentId = await absent.create({ value: { here: true } })
      const seeker = await scene.client(second)
      assert.equal(await seeker.find({ documentId }), "unavailable")
      const others = await scene.clients([first, second])
      assert.equal(await others[0].find({ documentId }), "unavailable")
    })

    test("unavailable at first, then available when its author shows up", async t => {
      const scene = await Scene.begin(t)
      const author = await scene.client(first, { storage: true })
      await author.disconnect()
      const documentId = await author.create({ value: { title: "late" } })
      const seekers = await scene.clients([second, first])
      for (const seeker of seekers) assert.equal(await seeker.find({ documentId }), "unavailable")
      await author.connect()
      for (const seeker of seekers) {
        await seeker.state({ documentId, state: "ready" })
        await seeker.waitFor({ documentId, has: { title: "late" } })
      }
      // And from then on they are in step.
      await seekers[0].change({ documentId, set: { answer: 42 } })
      await author.waitFor({ documentId, has: { answer: 42 } })
      await seekers[1].waitFor({ documentId, has: { answer: 42 } })
    })

    test("a document that only another connected client has is asked for there", async t => {
      const scene = await Scene.begin(t)
      const author = await scene.client(first, { announce: false })
      const bystander = await scene.client(second)
      const documentId = await author.create({ value: { title: "only here" } })
      const seeker = await scene.client(second)
      assert.equal(await seeker.find({ documentId }), "ready")
      await seeker.waitFor({ documentId, has: { title: "only here" } })
      await author.change({ documentId, set: { more: 1 } })
      await seeker.waitFor({ documentId, has: { more: 1 } })
      await seeker.change({ documentId, set: { back: 1 } })
      await author.waitFor({ documentId, has: { back: 1 } })
      await bystander.state({ documentId, state: "ready" })
    })

    test("asking while the author is still uploading never ends in unavailable", async t => {
      const scene = await Scene.begin(t)
      const [author, seeker] = await scene.clients([first, second])
      // Asked for at the moment of creation, again and again: the answer must wait for the upload.
      for (let n = 0; n < 40; n++) {
        const documentId = await author.create({ value: { n } })
        assert.equal(await seeker.find({ documentId }), "ready", `document ${n}`)
        await seeker.waitFor({ documentId, has: { n } })
      }
    })
  })

test("an id that is nobody's stays unavailable while all else goes on", async t => {
  const scene = await Scene.begin(t)
  const [old, recent] = await scene.clients(["v1", "v2"])
  assert.equal(await old.find({ documentId: NOBODYS }), "unavailable")
  assert.equal(await recent.find({ documentId: NOBODYS }), "unavailable")
  const documentId = await old.create({ value: { ok: true } })
  assert.equal(await recent.find({ documentId }), "ready")
})
