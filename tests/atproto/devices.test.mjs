// Devices that authenticate at every page load, as today's apps do: a real PDS, real sign-ins, real clients.
import assert from "node:assert/strict"
import { after, before, describe, test } from "node:test"
import { eventually } from "../clients/harness.mjs"
import { App } from "./app.mjs"
import { Lab } from "./lab.mjs"
import { ROOTS, SYNC, admitted, approve, asked, begin, refused, sessions } from "./server.mjs"

/** What `sessions list` says, the device with the most connections first: both came in the same second, in either order. */
const listed = async scene => JSON.parse(await sessions(scene)).sessions.sort((one, other) => other.connections - one.connections)
const connections = async scene => (await listed(scene)).map(session => session.connections)

describe("devices that authenticate at every page load", () => {
  let lab, notes
  before(async () => {
    lab = await Lab.start()
    notes = await App.create(lab, "notes")
  })
  after(() => lab?.stop())

  for (const [way, post] of [["as today's apps do", "post"], ["with a proof for the PDS", "postWithProof"]])
    test(`two devices, several tabs and reloads, a restart and a revocation: ${way}`, async t => {
      const scene = await begin(t, lab)
      await approve(scene, notes)
      const [laptop, phone] = [await notes.signIn(lab.owner), await notes.signIn(lab.owner)]
      const load = async (device, more) => {
        const token = admitted(scene, await device[post](SYNC, { ...asked(), ...more }))
        return { token, client: await scene.client("v1", { url: scene.server.url(token) }) }
      }
      const tabs = [await load(laptop), await load(phone), await load(laptop), await load(laptop)]
      assert.deepEqual(await connections(scene), [3, 1])
      // Another tab, and a reload of one, end no token and no connection.
      await tabs[2].client.close()
      tabs.push(await load(laptop))
      await eventually(async () => String(await connections(scene)) === "3,1", "the closed tab to be gone")
      const documentId = await tabs[0].client.create({ value: { title: "mine" } })
      for (const { client } of [tabs[1], tabs[4]]) assert.equal(await client.find({ documentId }), "ready")

      // One that only reads, on the same device, is the same session, and neither widens nor narrows the others.
      const reader = await load(laptop, { readOnly: true })
      assert.deepEqual(await connections(scene), [4, 1])
      assert.equal(await reader.client.find({ documentId }), "ready")
      await reader.client.change({ documentId, set: { lost: "a reader's" } })
      await tabs[0].client.change({ documentId, set: { kept: "a writer's" } })
      await tabs[1].client.waitFor({ documentId, has: { title: "mine", kept: "a writer's" } })
      const late = await load(phone)
      assert.equal(await late.client.find({ documentId }), "ready")
      await late.client.waitFor({ documentId, has: { title: "mine", kept: "a writer's" } })

      // Refreshed, the access token has the same key.
      await laptop.refresh()
      await load(laptop)
      await scene.server.stop("SIGKILL")
      await scene.server.start()
      for (const { token } of tabs) await scene.client("v2", { url: scene.server.url(token) })
      const both = await listed(scene)
      assert.equal(both.length, 2)
      await scene.server.command("sessions", "revoke", both[0].id)
      await assert.rejects(scene.client("v2", { url: scene.server.url(tabs[4].token) }))
      const back = await load(laptop)
      assert.equal(await back.client.find({ documentId }), "ready")
      await assert.rejects(scene.client("v2", { url: scene.server.url(tabs[0].token) }), "what was revoked stays so")
      await scene.server.command("apps", "revoke", notes.clientId)
      refused(await laptop[post](SYNC, asked(undefined, ROOTS[0])), 403, /^app_not_approved$/)
    })
})
