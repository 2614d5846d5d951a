// What the owner's page says and draws of answers that a young server with which all is well never gives.
import assert from "node:assert/strict"
import { after, before, describe, test } from "node:test"
import { Owner } from "./browser/owner.mjs"
import { Lab } from "./lab.mjs"
import { begin } from "./server.mjs"

describe("what the owner's page says", () => {
  let lab
  before(async () => (lab = await Lab.start()))
  after(() => lab?.stop())

  test("without an owner there is no name, and none is shown", async t => {
    const scene = await begin(t, lab, { owner: null, settings: { dev: true } })
    const owner = await Owner.open(t, lab)
    await owner.signInByLink(scene)
    await owner.section("Status").getByText("All is well.").waitFor()
    assert.match(await owner.page.getByRole("banner").innerText(), /^Groundmist Sync\s+Sign out$/)
    assert.doesNotMatch(await owner.page.locator("body").innerText(), /\b(null|undefined|NaN)\b/)
  })
})
