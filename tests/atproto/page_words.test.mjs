// What the owner's page says and draws of answers that a young server with which all is well never gives.
import assert from "node:assert/strict"
import { after, before, describe, test } from "node:test"
import { eventually } from "../clients/harness.mjs"
import { App } from "./app.mjs"
import { LOOKS, Owner, visit } from "./browser/owner.mjs"
import { Lab } from "./lab.mjs"
import { SYNC, asked, begin, refused } from "./server.mjs"

const [HOUR_MS, DAY_MS] = [3_600_000, 86_400_000]
const onDay = ms => new Intl.DateTimeFormat("en-GB", { dateStyle: "medium" }).format(ms)

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

  /** The page with the real answer to `path`, changed by `change`. */
  async function withAnswer(owner, path, change) {
    const real = await owner.page.evaluate(path => fetch(path).then(answer => answer.json()), path)
    await owner.page.unroute(`**${path}`)
    await owner.page.route(`**${path}`, route => route.fulfill({ json: change(real) }))
    await owner.page.reload()
    await owner.page.locator("#facts dd").first().waitFor()
  }

  /** Name, value and what there is to say of each fact. */
  const facts = async owner => Object.fromEntries(await owner.page.locator("#facts > div").evaluateAll(nodes =>
    nodes.map(node => [node.querySelector("dt").innerText, [...node.querySelectorAll("dd > p")].map(part => part.innerText).join(" | ")])))

  test("each fact of the status in words, when all is well", async t => {
    const { owner } = await visit(t, lab)
    const now = Date.now()
    await withAnswer(owner, "/api/status", real => ({
      ...real, version: "1.2.3", uptime_seconds: 7200, rss_bytes: 30e6, memory_budget_bytes: 64e6, domain: "sync.example.com",
      engine: { ...real.engine, connections: 1, memory_bytes: 2e6, memory: { graphs: 1.2e6, connections: 0.8e6, incoming: 0, decoding: 0, outgoing: 3000 },
        largest_holders: [{ namespace: "xyz.notes", client: "https://notes.example/client.json", session: "s1", bytes: 12e6 }] },
      storage: { ...real.storage, documents: 1204, file_bytes: 1_500_000 },
      disk: { free_bytes: 12e9, total_bytes: 64e9 },
      certificate: { mode: "acme", ordering: false, failures: 0, valid_until: now + 60 * DAY_MS, renewal_due: now + 30 * DAY_MS },
      record: { state: "published", host: "sync.example.com" },
      backup: { running: false, last: { created: now - 3 * HOUR_MS - 1000, documents: 7, bytes: 3_000_000 } },
      warnings: [],
    }))
    assert.deepEqual(await facts(owner), {
      "Connected now": "1 connection | ",
      Documents: "1,204 | 1.5 MB on disk.",
      Disk: "12 GB free | Of 64 GB.",
      Certificate: `Valid until ${onDay(now + 60 * DAY_MS)} | It renews itself from ${onDay(now + 30 * DAY_MS)} on.`,
      "Address in your account": "Published | Your account tells your apps that their server is here.",
      "Last backup": "Made 3 hours ago | 7 documents in 3.0 MB.",
      Memory: "30 MB | Documents use 1.2 MB and what apps have open 800 kB, of the 64 MB they may. Messages that wait use 0 bytes, and those to be sent 3.0 kB. notes.example has the most open on one device, 12 MB.",
      Version: "1.2.3 | Running since 2 hours ago.",
    })
    assert.equal(await owner.page.locator("#state").innerText(), "All is well.")
  })

  test("what is wrong is said first, and names and commands stay as they are written", async t => {
    const { owner } = await visit(t, lab)
    const now = Date.now()
    const reason = "sync.example.com leads to 192.0.2.1, which is not this server"
    const fix = "make one: `sudo groundmist-sync backup FILE`, or daily: `sudo systemctl enable --now groundmist-sync-backup.timer`"
    await withAnswer(owner, "/api/status", real => ({
      ...real, domain: "sync.example.com", disk: { free_bytes: 0, total_bytes: 0 },
      certificate: { mode: "acme", ordering: false, failures: 2, valid_until: now - DAY_MS, last_error: reason, next_attempt: now + 2 * HOUR_MS + 30_000 },
      record: { state: "other", host: "other.example" },
      backup: { running: false, last: { created: now - 9 * DAY_MS - 1000, documents: 1, bytes: 900 }, last_error: "the disk is full" },
      warnings: [
        { code: "not_saved", grave: true, message: "changes cannot be saved", fix: "`sudo systemctl restart groundmist-sync` once there is room" },
        { code: "certificate", grave: true, message: reason, fix: "did:web:example.com is not asked" },
        { code: "backup_old", grave: false, message: "the last backup is more than a week old", fix },
      ],
    }))
    const { Disk, Certificate, "Last backup": backup, "Address in your account": address } = await facts(owner)
    assert.deepEqual([Disk, Certificate, backup, address], [
      undefined,
      `Expired on ${onDay(now - DAY_MS)} | ${reason}. The next attempt is in 2 hours.`,
      "Made last week | The latest attempt came to nothing. The disk is full.",
      "Another server | Your account sends your apps to other.example.",
    ])
    const state = owner.page.locator("#state.trouble")
    assert.equal(await state.locator(".sentence").innerText(), "Changes cannot be saved.")
    assert.deepEqual((await state.locator("p").allInnerTexts()).slice(1), [
      "sudo systemctl restart groundmist-sync once there is room.",
      `${reason}.`,
      "did:web:example.com is not asked.",
      "The last backup is more than a week old.",
      "Make one: sudo groundmist-sync backup FILE, or daily: sudo systemctl enable --now groundmist-sync-backup.timer.",
    ])
    assert.deepEqual(await state.locator("code").allInnerTexts(), [
      "sudo systemctl restart groundmist-sync", "sudo groundmist-sync backup FILE", "sudo systemctl enable --now groundmist-sync-backup.timer",
    ])
    assert.equal(await owner.page.getByText("All is well").count(), 0)
    assert.deepEqual(await owner.faults(), [])

    await withAnswer(owner, "/api/status", real => ({ ...real, certificate: { mode: "acme", ordering: true, failures: 0 }, backup: { running: false }, domain: "sync.example.com", record: { state: "unknown" } }))
    const young = await facts(owner)
    assert.equal(young.Certificate, "Being ordered | ")
    assert.equal(young["Address in your account"], "Not known yet | Your account is being asked.")
    assert.equal(young["Last backup"], "None yet | Make one on the server with sudo groundmist-sync backup FILE.")
  })

  test("a document that could not be opened is tried again by a button", async t => {
    const { owner } = await visit(t, lab)
    const retry = { namespace: "xyz.notes", document: "3fB23kWYieteq9SSs657gznxPqy9" }
    const warning = { code: "document_closed", grave: false, message: "a document stays closed", fix: "give the server more memory", retry }
    const skipped = { ...warning, code: "message_too_large", message: "changes are not saved here", retry: { ...retry, document: "2skipped" } }
    let asked = 0
    await withAnswer(owner, "/api/status", real => ({ ...real, warnings: asked ? [] : [warning, skipped] }))
    await owner.page.route("**/api/documents/xyz.notes/*/retry", route => {
      asked += route.request().method() === "POST" && route.request().url().includes(retry.document)
      return route.fulfill({ json: { retried: true } })
    })
    const button = owner.section("Status").getByRole("button", { name: `Try again document ${retry.document}` })
    await owner.section("Status").getByRole("button", { name: "Forget this warning document 2skipped" }).waitFor()
    await button.click()
    await eventually(() => asked === 1, "the request")
    await owner.page.unroute("**/api/status")
    await owner.page.reload()
    await owner.section("Status").waitFor()
    assert.equal(await button.count(), 0)
  })

  test("a device's line says all that changes with it, and that its token may have been copied", async t => {
    const { owner } = await visit(t, lab)
    const session = {
      id: "abc", namespace: "xyz.notes", name: "Laptop", did: lab.owner.did, client_id: "https://notes.example/client.json", read_only: true,
      created: Date.now() - 40 * DAY_MS, authenticated: Date.now() - 2 * HOUR_MS - 1000, expires: Date.now() + 30 * DAY_MS, last_used: null,
      address: "203.0.113.7", user_agent: "Mozilla/5.0", connections: 1,
    }
    await withAnswer(owner, "/api/sessions", () => ({ sessions: [session] }))
    const device = owner.entry("Devices and sessions", "notes.example")
    await device.getByText("An app; it reads xyz.notes.").waitFor()
    await device.getByText("More").click()
    await device.getByText(`Let in last month, last signed in 2 hours ago from 203.0.113.7, until ${onDay(session.expires)}.`).waitFor()
    assert.equal(await device.getByText("copied").isVisible(), false)
    // In place, as when the page stays open.
    const later = { ...session, name: "Den", read_only: false, copied: { at: Date.now(), addresses: ["203.0.113.7", "198.51.100.9"] } }
    await owner.page.unroute("**/api/sessions")
    await owner.page.route("**/api/sessions", route => route.fulfill({ json: { sessions: [later] } }))
    const body = "event: changed\ndata: {\"topics\":[\"sessions\"]}\n\n"
    await owner.page.route("**/api/live", route => route.fulfill({ contentType: "text/event-stream", body }))
    await owner.page.reload()
    await device.getByText("An app; it reads and writes xyz.notes.").waitFor()
    await device.getByText("This token may have been copied: it was in use from 203.0.113.7 and 198.51.100.9 at once. Unless you know both as yours, revoke it.").waitFor()
    assert.equal(await device.getByRole("heading").innerText(), "notes.example")
    assert.match(await device.locator("dl").first().innerText(), /^The device calls itself\s+Den$/)
    assert.equal(await device.locator("button", { hasText: /^Revoke/ }).count(), 1)
    assert.deepEqual(await owner.faults(), [])
  })

  test("the status is fetched again when what it counts has changed", async t => {
    const { owner } = await visit(t, lab)
    for (const topic of ["sessions", "documents"]) {
      const body = `event: changed\ndata: {"topics":["${topic}"]}\n\n`
      await owner.page.route("**/api/live", route => route.fulfill({ contentType: "text/event-stream", body }))
      await owner.page.reload()
      // Whether all is well depends on whether the server has looked for the record in the account yet.
      await owner.page.locator("#facts dd").first().waitFor()
      await owner.page.unroute("**/api/live")
    }
  })

  for (const look of ["light", "dark"])
    test(`the picture of growth stays level over a long pause: ${look}`, async t => {
      const { owner } = await visit(t, lab, LOOKS[look])
      const today = Date.now()
      const ago = days => new Date(today - days * DAY_MS).toISOString().slice(0, 10)
      const point = (days, namespace, bytes) => ({ day: ago(days), namespace, documents: 1, changes: 1, bytes })
      const points = [point(60, "xyz.a", 1000), point(60, "xyz.b", 1000), point(30, "xyz.a", 7000), point(0, "xyz.b", 1000)]
      await owner.page.route("**/api/growth?*", route => route.fulfill({ json: { points } }))
      await owner.page.reload()
      const line = owner.page.locator("#growth polyline")
      await line.waitFor({ state: "attached" })
      const [drawn, height] = await line.evaluate(node => [[...node.points].map(({ x, y }) => [x, y]), node.ownerSVGElement.viewBox.baseVal.height])
      /** What part of the most is drawn for so many days ago. */
      const share = days => {
        const [first, last] = [drawn[0][0], drawn.at(-1)[0]]
        const at = first + ((60 - days) / 60) * (last - first)
        const n = Math.max(1, drawn.findIndex(([x]) => x >= at - 1e-6))
        const [[x0, y0], [x1, y1]] = [drawn[n - 1], drawn[n]]
        return (height - (y0 + ((y1 - y0) * (at - x0)) / (x1 - x0 || 1))) / (height - 4)
      }
      for (const days of [60, 59, 45, 32]) assert.ok(Math.abs(share(days) - 0.25) < 0.01, `${days} days ago: ${share(days)} of ${JSON.stringify(drawn)}`)
      for (const days of [29, 15, 1, 0]) assert.ok(Math.abs(share(days) - 1) < 0.01, `${days} days ago: ${share(days)} of ${JSON.stringify(drawn)}`)
      await owner.page.getByText(`From 2.0 kB on ${onDay(today - 60 * DAY_MS)} to 8.0 kB; 2 documents now.`).waitFor()
      assert.deepEqual(await owner.faults(), [])
      await owner.picture(`growth-${look}`, owner.page.locator("#growth"))
    })

  test("while work is under way its button says so, and does not count again", async t => {
    const { owner } = await visit(t, lab)
    const notes = await App.create(lab, "notes")
    refused(await (await notes.signIn(lab.owner)).post(SYNC, asked()), 403, /^app_not_approved$/)
    const [held, { promise: released, resolve: release }] = [[], Promise.withResolvers()]
    await owner.page.route("**/api/apps/approve", async route => {
      held.push(route.request().method())
      await released
      await route.continue()
    })
    const button = owner.entry("Apps", "It wants to").locator("button", { hasText: /^Approve(?!,)/ })
    await button.focus()
    await owner.settled()
    await owner.page.keyboard.press("Enter")
    await eventually(() => held.length > 0, "the request")
    const marks = () => button.evaluate(node => [node.ariaBusy, node.ariaDisabled, node === document.activeElement, getComputedStyle(node, "::after").content])
    assert.deepEqual(await marks(), ["true", "true", true, '"…"'])
    await owner.page.keyboard.press("Enter")
    await button.dispatchEvent("click")
    assert.deepEqual(await marks(), ["true", "true", true, '"…"'])
    release()
    await owner.entry("Apps", "It may read and write").waitFor()
    assert.deepEqual(held, ["POST"])
  })
})
