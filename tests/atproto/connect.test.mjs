// /connect with real apps: the one in examples/, in Chromium, from its first page to a synced note; and one whose owner's PDS
// gives it tokens that nobody can check. What others try needs no PDS, and is in tests/web_connect.rs.
import assert from "node:assert/strict"
import { createHash, randomBytes, randomUUID } from "node:crypto"
import { readFileSync } from "node:fs"
import { request as httpRequest } from "node:http"
import { after, before, describe, test } from "node:test"
import { fileURLToPath } from "node:url"
import { build } from "esbuild"
import { NAMESPACE, eventually } from "../clients/harness.mjs"
import { Answer, App } from "./app.mjs"
import { launch } from "./browser/browser.mjs"
import { Owner as Browser, openLink } from "./browser/owner.mjs"
import { Lab } from "./lab.mjs"
import { SYNC, asked, begin, refused, sync } from "./server.mjs"

const STEP_MS = 60_000
const path = name => fileURLToPath(new URL(name, import.meta.url))
const example = name => readFileSync(path(`../../examples/connect-app/${name}`), "utf8")

/** Publish the example app as its README says, at `https://NAME.lab.internal/`; that address. */
async function publish(lab, name) {
  const address = `https://${name}.lab.internal/`
  const { outputFiles } = await build({
    entryPoints: [path("../../examples/connect-app/app.js")], nodePaths: [path("../clients/v2/node_modules")],
    bundle: true, write: false, format: "esm", platform: "browser", logLevel: "error",
  })
  const files = {
    "/": ["text/html", example("index.html")],
    "/bundle.js": ["text/javascript", outputFiles[0].text],
    "/client-metadata.json": ["application/json", example("client-metadata.json").replaceAll("https://app.example/", address)],
  }
  lab.gateway.route(new URL(address).host, (request, response) => {
    const [type, body] = files[request.url.split("?")[0]] ?? []
    if (!type) return response.writeHead(404).end()
    response.setHeader("content-type", type).end(body)
  })
  return address
}

/** A server in whose page a browser can sign in by a link. */
const beginWithLink = (t, lab) => begin(t, lab, { settings: { dev: true } })

/** From now on the PDS's access tokens are opaque, as those of other PDSes may be; the function returned ends it. */
function makeOpaque(lab) {
  const port = lab.gateway.routeOf(lab.pdsHost)
  lab.gateway.route(lab.pdsHost, (request, response) => {
    const headers = { ...request.headers, "accept-encoding": "identity", "x-forwarded-proto": "https", "x-forwarded-for": "127.0.0.1" }
    const onward = httpRequest({ host: "127.0.0.1", port, method: request.method, path: request.url, headers }, async answer => {
      let body = Buffer.concat(await answer.toArray())
      if (request.url === "/oauth/token" && answer.statusCode === 200)
        body = JSON.stringify({ ...JSON.parse(body), access_token: `opaque-${randomUUID()}` })
      const { "content-length": _, "transfer-encoding": __, ...rest } = answer.headers
      response.writeHead(answer.statusCode, rest).end(body)
    })
    request.pipe(onward)
  })
  return () => lab.gateway.route(lab.pdsHost, port)
}

/** The owner's browser, signed in, without its screen. */
class Owner {
  static async signIn(scene) {
    const { origin } = new URL(scene.server.link)
    const answer = await fetch(scene.server.link, { method: "POST", headers: { origin }, redirect: "manual" })
    assert.equal(answer.status, 303)
    const owner = new Owner()
    owner.cookie = answer.headers.getSetCookie()[0].split(";")[0]
    scene.server.keepSecret(owner.cookie.split("=")[1])
    return owner
  }

  async shown(query) {
    return Answer.of(await fetch(`${SYNC}/api/connect?${query}`, { headers: { cookie: this.cookie } }))
  }

  async decide(query, decision) {
    const headers = { cookie: this.cookie, origin: SYNC, "content-type": "application/json" }
    const body = JSON.stringify({ query: String(query), decision })
    return Answer.of(await fetch(`${SYNC}/api/connect`, { method: "POST", headers, body }))
  }
}

/** What `app` asks for, with PKCE. */
function ask(app, more = {}) {
  const verifier = randomBytes(32).toString("base64url")
  const query = new URLSearchParams({
    response_type: "code", client_id: app.clientId, redirect_uri: app.metadata.redirect_uris[0], scope: `sync:${NAMESPACE}`,
    state: randomUUID(), code_challenge: createHash("sha256").update(verifier).digest("base64url"), code_challenge_method: "S256", ...more,
  })
  return { query, verifier }
}

async function exchange(scene, form) {
  const answer = await Answer.of(await fetch(`${SYNC}/oauth/token`, { method: "POST", body: new URLSearchParams(form) }))
  for (const secret of [answer.body?.access_token, answer.body?.refresh_token]) if (secret) scene.server.keepSecret(secret)
  return answer
}

const byCode = (app, code, verifier, more = {}) => ({
  grant_type: "authorization_code", code, code_verifier: verifier, client_id: app.clientId,
  redirect_uri: app.metadata.redirect_uris[0], ...more,
})

describe("/connect", () => {
  let lab
  before(async () => (lab = await Lab.start()))
  after(() => lab?.stop())

  test("the example app, in a browser: from its page by the owner's yes to a synced note, and back out", async t => {
    const address = await publish(lab, "note")
    const scene = await begin(t, lab)
    const browser = await Browser.open(t, lab)
    const { page } = browser
    await page.goto(address)
    await page.getByLabel("Your sync server").fill(new URL(SYNC).host)
    await page.getByRole("button", { name: "Connect" }).click()
    await page.waitForURL(url => url.origin === SYNC && url.pathname === "/connect")
    // Whose server it is, is asked first; then what she is asked is still there.
    await browser.press(page, "Sign in")
    await browser.agreeAtPds(lab.owner)
    await page.getByRole("heading", { name: "Let this app in?" }).waitFor()
    await page.getByText(`${address}client-metadata.json`).waitFor()
    await browser.press(page, "Approve")
    await page.waitForURL(address)
    await page.getByText("Connected to").waitFor()

    const kept = () => page.evaluate(() => JSON.parse(localStorage.session))
    const session = await kept()
    scene.server.keepSecret(session.token)
    scene.server.keepSecret(session.refresh)
    const documentId = session.root.replace("automerge:", "")
    const client = await scene.client("v1")
    await page.getByLabel("Note").fill("from the browser")
    assert.equal(await client.find({ documentId }), "ready")
    await client.waitFor({ documentId, has: { text: "from the browser" } })

    // Its token ends soon: it gets another one by itself, and is still in the same document.
    await page.evaluate(() => (localStorage.session = JSON.stringify({ ...JSON.parse(localStorage.session), expires: Date.now() })))
    await page.reload()
    await page.getByText("Connected to").waitFor()
    const renewed = await kept()
    scene.server.keepSecret(renewed.token)
    assert.notEqual(renewed.token, session.token)
    assert.equal(renewed.root, session.root)
    await page.waitForFunction(() => document.getElementById("note").value === "from the browser")

    await page.getByRole("button", { name: "Sign out" }).click()
    await page.getByText("Not connected.").waitFor()
    await eventually(async () => !(await scene.server.command("sessions", "list", "--json")).includes(address), "its sessions to end")
  })

  test("the example app takes no answer but the one that it asked for", async t => {
    const address = await publish(lab, "careful")
    const context = await launch(lab, "careful")
    t.after(() => context.close())
    const page = await context.newPage()
    page.setDefaultTimeout(STEP_MS)
    await page.goto(address)
    const before = lab.gateway.asked.length
    // Another server's answer (mix-up), one without a name, another user's (login CSRF).
    for (const answer of [{ state: "s", iss: "https://other.lab.internal" }, { state: "s" }, { state: "t", iss: SYNC }]) {
      await page.evaluate(issuer => (sessionStorage.begun = JSON.stringify({ issuer, verifier: "v", state: "s" })), SYNC)
      await page.goto(`${address}?${new URLSearchParams({ code: "c", ...answer })}`)
      await page.getByText("this is not the answer to what was asked").waitFor()
      assert.equal(new URL(page.url()).search, "", "the code does not stay in the address")
    }
    assert.deepEqual(lab.gateway.asked.slice(before).filter(line => line.includes("/oauth/token")), [])
  })

  test("another site can neither say yes with her browser nor put the question in a frame", async t => {
    const [app, scene] = [await App.create(lab, "lure"), await beginWithLink(t, lab)]
    const context = await launch(lab, "lure")
    t.after(() => context.close())
    const page = await context.newPage()
    await openLink(page, scene)
    const { query } = ask(app)
    lab.gateway.serve("evil.lab.internal", "/", `<!doctype html><title>evil</title><iframe src="${SYNC}/connect?${query}"></iframe>`)
    const framed = page.waitForResponse(response => response.url().startsWith(`${SYNC}/connect`))
    await page.goto("https://evil.lab.internal/")
    await framed
    await eventually(() => page.frames().some(frame => frame.url().startsWith("chrome-error:")), "the frame to be refused")
    const status = await page.evaluate(async ([url, query]) => {
      const body = JSON.stringify({ query, decision: "approve" })
      const send = type => fetch(url, { method: "POST", mode: "no-cors", credentials: "include", headers: { "content-type": type }, body })
      await send("text/plain")
      const form = Object.assign(document.createElement("form"), { method: "POST", action: url, enctype: "text/plain" })
      form.append(Object.assign(document.createElement("input"), { name: body.slice(0, -1), value: "}" }))
      document.body.append(form)
      form.submit()
      return document.title
    }, [`${SYNC}/api/connect`, String(query)])
    assert.equal(status, "evil")
    await page.waitForURL(`${SYNC}/api/connect`)
    assert.match(await page.textContent("body"), /cross_origin/)
    assert.doesNotMatch(await scene.server.command("apps", "list", "--json"), /lure/)
    assert.equal((await page.goto(`${SYNC}/api/me`)).status(), 200, "she is still signed in")
  })

  test("an app with opaque tokens from its owner's PDS gets in by /connect, and syncs", async t => {
    const app = await App.create(lab, "opaque")
    const scene = await beginWithLink(t, lab)
    const restore = makeOpaque(lab)
    t.after(restore)
    const session = await app.signIn(lab.owner)
    assert.match(session.token, /^opaque-/)
    refused(await session.post(SYNC, asked()), 401, /^unverifiable_token$/)

    const owner = await Owner.signIn(scene)
    const { query, verifier } = ask(app)
    const shown = await owner.shown(query)
    assert.deepEqual(shown.body, {
      client_id: app.clientId, client_name: "opaque", client_uri: "https://opaque.lab.internal/",
      redirect_uri: app.metadata.redirect_uris[0], namespace: NAMESPACE, access: "write", decision: null,
    })
    const { body } = await owner.decide(query, "approve")
    const back = new URL(body.redirect)
    assert.equal(back.origin + back.pathname, app.metadata.redirect_uris[0])
    assert.deepEqual([back.searchParams.get("iss"), back.searchParams.get("state")], [SYNC, query.get("state")])
    const code = back.searchParams.get("code")
    scene.server.keepSecret(code)
    const first = await exchange(scene, byCode(app, code, verifier))
    assert.equal(first.status, 200, first.text)
    assert.equal(first.body.sub, lab.owner.did)
    const second = await exchange(scene, { grant_type: "refresh_token", refresh_token: first.body.refresh_token, client_id: app.clientId })
    assert.equal(second.status, 200, second.text)
    await sync(scene, first.body.access_token, second.body.access_token)
  })

  test("the code in docs/CONNECT.md does it", async t => {
    const [app, scene] = [await App.create(lab, "reader"), await beginWithLink(t, lab)]
    const blocks = readFileSync(path("../../docs/CONNECT.md"), "utf8").matchAll(/```js\n(.*?)```/gs)
    const [code] = [...blocks].map(([, text]) => text).filter(text => text.includes("code_challenge"))
    const { begin: sendHer, finish, token } = await import(`data:text/javascript,${encodeURIComponent(code)}`)
    // What a browser has, as far as it is used.
    let sent
    globalThis.sessionStorage = {}
    globalThis.location = { assign: url => (sent = new URL(url)) }
    t.after(() => [delete globalThis.sessionStorage, delete globalThis.location])
    await sendHer(new URL(SYNC).host, app.clientId, app.metadata.redirect_uris[0], NAMESPACE)
    assert.equal(sent.origin + sent.pathname, `${SYNC}/connect`)
    const { body } = await (await Owner.signIn(scene)).decide(sent.searchParams, "approve")
    const first = await finish(new URL(body.redirect).searchParams)
    const second = await token(SYNC, { grant_type: "refresh_token", refresh_token: first.refresh_token, client_id: app.clientId })
    for (const { access_token, refresh_token } of [first, second]) [access_token, refresh_token].map(secret => scene.server.keepSecret(secret))
    await sync(scene, first.access_token, second.access_token)
    await assert.rejects(token(SYNC, { grant_type: "refresh_token", refresh_token: first.refresh_token, client_id: app.clientId }), /invalid_grant/)
  })

  test("an app's server is asked about it for nobody but the owner", async t => {
    const app = await App.create(lab, "quiet")
    const scene = await beginWithLink(t, lab)
    const { query } = ask(app)
    const asks = () => lab.gateway.asked.filter(line => line.includes("quiet.lab.internal")).length
    await fetch(`${SYNC}/connect?${query}`)
    assert.equal((await fetch(`${SYNC}/api/connect?${query}`)).status, 401)
    assert.equal(asks(), 0)
    assert.equal((await (await Owner.signIn(scene)).shown(query)).status, 200)
    assert.equal(asks(), 1)
  })

  test("the redirect URI is one of those in the app's metadata, letter for letter", async t => {
    const [app, other] = [await App.create(lab, "exact"), await App.create(lab, "other")]
    const scene = await beginWithLink(t, lab)
    const owner = await Owner.signIn(scene)
    for (const redirect_uri of [
      "https://exact.lab.internal/callback/", "https://exact.lab.internal/Callback", "https://exact.lab.internal:8443/callback",
      "https://exact.lab.internal:443/callback", "https://exact.lab.internal/x/../callback", "https://exact.lab.internal/callback#x",
      "https://x@exact.lab.internal/callback", "https://exact.lab.internal@evil.example/callback", "http://exact.lab.internal/callback",
      "https://exact.lab.internal/callback?x=1", "https://exact.lab.internal/", other.metadata.redirect_uris[0],
    ]) {
      const { query } = ask(app, { redirect_uri })
      for (const said of [await owner.shown(query), await owner.decide(query, "approve")]) {
        assert.deepEqual([said.status, said.body.error, said.body.redirect], [400, "bad_redirect_uri", null], redirect_uri)
      }
    }
    // And the code is for the app that asked: another one has no use for it, and then nobody has.
    const { query, verifier } = ask(app)
    const code = new URL((await owner.decide(query, "approve")).body.redirect).searchParams.get("code")
    for (const form of [byCode(other, code, verifier), byCode(app, code, verifier)]) {
      const said = await exchange(scene, form)
      assert.deepEqual([said.status, said.body.error], [400, "invalid_grant"])
    }
  })

  test("an app that describes itself wrongly is sent nobody", async t => {
    const scene = await beginWithLink(t, lab)
    const owner = await Owner.signIn(scene)
    const app = await App.create(lab, "wrong")
    for (const change of [{ client_id: "https://other.lab.internal/client-metadata.json" }, { redirect_uris: [] }, { redirect_uris: "x" }]) {
      const host = `wrong${randomBytes(4).toString("hex")}.lab.internal`
      lab.gateway.serve(host, "/c.json", { ...app.metadata, client_id: `https://${host}/c.json`, ...change })
      const { query } = ask(app, { client_id: `https://${host}/c.json` })
      const said = await owner.shown(query)
      assert.deepEqual([said.status, said.body.error, said.body.redirect], [403, "invalid_client_metadata", null])
    }
  })
})
