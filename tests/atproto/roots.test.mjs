// Devices of one app that meet in one document: a real PDS, a real app, real clients with a storage of their own.
import assert from "node:assert/strict"
import { after, before, describe, test } from "node:test"
import { App } from "./app.mjs"
import { visit } from "./browser/owner.mjs"
import { Lab } from "./lab.mjs"
import { SYNC, admitted, approve, asked, begin } from "./server.mjs"

const idOf = url => url.replace("automerge:", "")

/** One device: it is signed in, and begins with a document of its own, which it stores before it goes online. */
class Device {
  static async begin(scene, app, account, line, name) {
    const device = new Device()
    device.scene = scene
    device.line = line
    device.name = name
    device.session = await app.signIn(account)
    device.client = await scene.clientNotYet(line, { name, url: "ws://127.0.0.1:1/", storage: true })
    device.own = await device.client.create({ value: { [name]: "made offline" } })
    device.root = `automerge:${device.own}`
    return device
  }

  /** Authenticate with the root document that it has, as today's apps do at each load. */
  async authenticate(expected) {
    const answer = await this.session.post(SYNC, asked(undefined, this.root))
    this.root = answer.body.rootDocUrl
    this.token = admitted(this.scene, answer, expected)
  }

  /** Load anew: another process, with what the device stored. */
  async load(expected) {
    await this.authenticate(expected)
    await this.client.close()
    this.client = await this.scene.client(this.line, { name: this.name, url: this.scene.server.url(this.token), storage: true })
  }

  /** Its own document is on the server, by what it stored. */
  async uploads() {
    assert.equal(await this.client.find({ documentId: this.own }), "ready")
  }
}

describe("the document that an app's devices start from", () => {
  let lab, notes
  before(async () => {
    lab = await Lab.start()
    notes = await App.create(lab, "notes")
  })
  after(() => lab?.stop())

  for (const order of [[0, 1], [1, 0]])
    test(`two devices within a second, the ${["first", "second"][order[0]]} uploads first: both end at one document, and nothing is lost`, async t => {
      const scene = await begin(t, lab)
      await approve(scene, notes)
      const devices = await Promise.all([["v1", "one"], ["v2", "two"]].map(([line, name]) => Device.begin(scene, notes, lab.owner, line, name)))
      const { root } = devices[0]
      await devices[0].authenticate(root)
      await devices[1].authenticate(root)
      for (const index of order) {
        await devices[index].load(root)
        await devices[index].uploads()
      }
      for (const load of [1, 2])
        for (const device of devices) {
          await device.load(root)
          assert.equal(await device.client.find({ documentId: idOf(root) }), "ready")
          await device.client.change({ documentId: idOf(root), set: { [`${device.name} ${load}`]: "shared" } })
        }
      const all = { one: "made offline", "one 1": "shared", "one 2": "shared", "two 1": "shared", "two 2": "shared" }
      for (const device of devices) {
        await device.client.waitFor({ documentId: idOf(root), has: all })
        await device.uploads()
      }
      // A third one, which stored nothing, sees both.
      const third = await scene.client("v2", { url: scene.server.url(devices[1].token) })
      for (const { own, name } of devices) {
        assert.equal(await third.find({ documentId: own }), "ready")
        await third.waitFor({ documentId: own, has: { [name]: "made offline" } })
      }
    })

  test("on her page the owner forgets a document that never came, and a device that is told so begins anew", async t => {
    const { scene, owner } = await visit(t, lab)
    await approve(scene, notes)
    const gone = await notes.signIn(lab.owner)
    const dead = "automerge:pEbmSWqJdBuPadRGm8tDZXgWR6"
    admitted(scene, await gone.post(SYNC, asked(undefined, dead)), dead)
    const second = await Device.begin(scene, notes, lab.owner, "v2", "second")
    await second.authenticate(dead)
    const card = owner.entry("Apps", "It may read and write")
    await card.getByText("a document that has not arrived yet").waitFor()
    await card.getByText(dead).waitFor()
    await owner.press(card, "Forget")
    await owner.answer("Forget")
    await owner.section("Apps").getByText("the next document that one of them offers").first().waitFor()
    await owner.section("Activity").getByText("You made notes.lab.internal start from another document.").waitFor()
    // It repeats what it was told, which counts no more; then it offers its own.
    await second.authenticate(null)
    second.root = `automerge:${second.own}`
    await second.load(second.root)
    await second.uploads()
    await card.getByText("Its devices start from the document:").waitFor()
    await card.getByText(second.root).waitFor()
    admitted(scene, await gone.post(SYNC, asked(undefined, dead)), second.root)
  })
})
