// An app in a real browser, on another origin than ours and the PDS's: what the browser lets it do and see.
import assert from "node:assert/strict"
import { after, before, describe, test } from "node:test"
import { BrowserApp } from "./browser/browser.mjs"
import { Lab } from "./lab.mjs"
import { SYNC, admitted, approve, asked, begin, sync } from "./server.mjs"
import { decode } from "./tokens.mjs"

describe("an app in Chromium", () => {
  let lab, app
  before(async () => {
    lab = await Lab.start()
    app = await BrowserApp.start(lab, "webnotes")
  })
  after(async () => {
    await app?.stop()
    await lab?.stop()
  })

  test("signs in at the PDS's page, and its token names it", async () => {
    await app.signIn(lab.owner)
    const { payload } = decode(await app.call("token"))
    assert.deepEqual([payload.sub, payload.client_id], [lab.owner.did, app.clientId])
  })

  test("waits for approval, gets in, and opens its WebSocket; refreshed too", async t => {
    const scene = await begin(t, lab)
    const authenticate = () => app.call("post", `${SYNC}/authenticate`, asked())
    const early = await authenticate()
    assert.equal(early.status, 403)
    assert.equal(early.body.error, "app_not_approved")
    await approve(scene, app)
    for (const refresh of [false, true]) {
      if (refresh) await app.call("refresh")
      const { status, body } = await authenticate()
      const token = admitted(scene, { status, body, text: JSON.stringify(body) })
      assert.equal(await app.call("socket", `wss://sync.lab.internal/?token=${token}`), "open")
      await sync(scene, token)
    }
    assert.equal(await app.call("socket", "wss://sync.lab.internal/?token=nonsense"), 1006)
  })

  test("keeps its session when it is refused", async t => {
    await begin(t, lab, { owner: lab.stranger.did })
    const { status, challenge, body } = await app.call("post", `${SYNC}/authenticate`, asked())
    assert.ok([401, 403].includes(status), JSON.stringify(body))
    assert.doesNotMatch(challenge ?? "", /invalid_token/)
    assert.equal(await app.call("kept"), true)
  })
})
