// What strangers can put on the pages: names that read as the server's words, texts of which nothing shows, keys that every object
// has. The modules run in Node; how all of it looks in a browser is for page.test.mjs.
import assert from "node:assert/strict"
import { describe, test } from "node:test"
import { fakePage } from "./browser/fake.mjs"

const page = "../../src/web/page"
/** A module that has not run yet: each test has a page of its own. */
const module = async name => import(`${page}/${name}?${Math.random()}`)
const settled = () => new Promise(done => setTimeout(done, 20))

const POSING = "Groundmist Notes”, which this server has checked. Its maker is “Groundmist"
const ASKED = {
  client_id: "https://notes.example/client-metadata.json", client_name: POSING, client_uri: null,
  redirect_uri: "https://notes.example/back", namespace: "xyz.example", access: "write", decision: null,
}
const DEVICE = {
  id: "one", client_id: ASKED.client_id, namespace: "xyz.example", name: POSING, read_only: false, created: 0, expires: 1, connections: 0, last_used: null,
  user_agent: "Firefox. This server has checked this program.",
}

/** The consent page with an app's question, changed. */
async function consent(changes = {}) {
  const $ = fakePage("?client_id=x", { "/api/me": {}, "/api/connect": { ...ASKED, ...changes } })
  await module("connect.js")
  await settled()
  return $
}

/** Label and name of each box, and the text around them. */
function boxes(node) {
  const found = node.querySelectorAll("dl").filter(box => box.attributes.class === "own")
  const texts = found.map(box => box.children.map(part => [part.tag, part.textContent]))
  return { texts, around: found.reduce((text, box) => text.replace(box.textContent, ""), node.textContent) }
}

describe("what strangers can put on the pages", () => {
  test("an app's name has a box of its own on the consent page", async () => {
    const $ = await consent()
    const { texts, around } = boxes($("client-name"))
    assert.deepEqual(texts, [[["dt", "The app calls itself"], ["dd", POSING]]])
    assert.ok(around.startsWith("Anybody can choose any name.") && !around.includes("Groundmist"), around)
    assert.equal((await consent({ client_name: null }))("client-name").textContent, "")
  })

  test("names of devices and programs have boxes on the owner's page, and stand in no sentence", async () => {
    const $ = fakePage("", { "/api/sessions": { sessions: [DEVICE] } })
    await (await module("devices.js")).refresh()
    const { texts, around } = boxes($("sessions"))
    assert.deepEqual(texts, [
      [["dt", "The device calls itself"], ["dd", POSING]],
      [["dt", "The program it runs in calls itself"], ["dd", DEVICE.user_agent]],
    ])
    assert.ok(around.startsWith("notes.example") && !around.includes("checked"), around)
  })

  test("the program that a waiting app runs in has a box", async () => {
    const pending = { number: 1, client_id: ASKED.client_id, namespace: "xyz.example", read_only: false, first_asked: 0, last_asked: 0, count: 1, user_agent: DEVICE.user_agent }
    const $ = fakePage("", { "/api/apps": { apps: [], pending: [pending] } })
    await (await module("apps.js")).refresh()
    const { texts, around } = boxes($("waiting"))
    assert.deepEqual(texts, [[["dt", "The program it runs in calls itself"], ["dd", DEVICE.user_agent]]])
    assert.ok(!around.includes("checked"), around)
  })

  test("what hides or turns text is spelled out", async () => {
    fakePage("", {})
    const { plain } = await module("dom.js")
    for (const c of "\n\r\u200b\u202e\u2066\u2028\u3164\u115f\u034f\u2800\ufe0f\uffa0\u{e0041}") {
      const code = c.codePointAt().toString(16).toUpperCase().padStart(4, "0")
      assert.equal(plain(`a${c}b`), `a‹U+${code}›b`)
    }
    assert.equal(plain("Änna’s 電話 😀"), "Änna’s 電話 😀")
  })

  test("approving to read only says that it takes writing from other devices, where it does", async () => {
    const takes = /read only: that takes writing from this app on your other devices/
    assert.match((await consent({ decision: "read_write" }))("others").textContent, takes)
    assert.match((await consent({ decision: "read_only" }))("others").textContent, /gives writing to this app on your other devices/)
    for (const changes of [{}, { decision: "denied" }, { decision: "read_write", access: "read" }, { decision: "__proto__" }])
      assert.equal((await consent(changes))("others").textContent, "")
  })

  test("a word that every object has means nothing", async () => {
    for (const word of ["__proto__", "constructor", "toString", "hasOwnProperty"]) {
      fakePage(`?sign_in=${word}`, {})
      assert.equal((await module("sign_in.js")).outcome("sign_in"), "That did not work. Please try again.")
      assert.doesNotMatch((await module("words.js")).happened({ what: word }), /function|object|native/)
      const $ = await consent({ decision: word })
      assert.equal($("before").textContent, "")
      assert.match($("denial").textContent, /it may ask again/)
    }
    fakePage("?sign_in=busy", {})
    assert.match((await module("sign_in.js")).outcome("sign_in"), /Too many sign-ins/)
  })
})
