// The owner signs in at her PDS, on our page; nobody else does, whatever is tried.
import Database from "better-sqlite3"
import assert from "node:assert/strict"
import { join } from "node:path"
import { after, before, describe, test } from "node:test"
import { Scene, eventually } from "../clients/harness.mjs"
import { xrpc } from "./accounts.mjs"
import { Lab } from "./lab.mjs"
import { SYNC, begin } from "./server.mjs"
import { signIn } from "./signin.mjs"
import { decode } from "./tokens.mjs"
import { Visitor } from "./visitor.mjs"

const HOST = new URL(SYNC).host
const COLLECTION = "xyz.groundmist.sync"
/** In src/web/sign_in/mod.rs. */
const BEGUN_PER_MINUTE = 60
/** Longer than the server waits for anyone. */
const SLOW_MS = 120_000

describe("the owner's page", () => {
  let lab
  before(async () => (lab = await Lab.start()))
  after(() => lab?.stop())

  const visitor = (scene, origin = SYNC) => new Visitor(origin, secret => scene.server.keepSecret(secret))

  /** What the PDS's page gives back when `account` signs in and consents there. */
  const atThePds = async (begun, account) => {
    assert.equal(begun.status, 200, begun.text)
    const page = new URL(begun.body.redirect)
    assert.equal(page.origin, lab.pds)
    // Nothing of the request is in the address but where it was left.
    assert.deepEqual([...page.searchParams.keys()], ["client_id", "request_uri"])
    return signIn(page, account)
  }

  const signedIn = async (scene, account = lab.owner, origin = SYNC) => {
    const browser = visitor(scene, origin)
    assert.equal(await browser.callback(await atThePds(await browser.begin(), account)), "/")
    assert.equal(await browser.me(), account.did)
    return browser
  }

  /** Access tokens that the PDS would take of any app like us. */
  const tokens = () => {
    const database = new Database(join(lab.root, "pds", "account.sqlite"), { readonly: true })
    try {
      return database.prepare("SELECT clientId FROM token").all().map(({ clientId }) => clientId)
    } finally {
      database.close()
    }
  }

  const events = async scene => {
    const { events } = JSON.parse(await scene.server.command("apps", "log", "--json"))
    return events.map(({ what }) => what)
  }

  const record = async ({ did }) => {
    const query = { repo: did, collection: COLLECTION, rkey: did }
    const found = xrpc(lab.pds, "com.atproto.repo.getRecord", { query })
    return found.then(({ value }) => value, error => assert.match(error.message, /RecordNotFound/))
  }

  /** No way in, and the code that says why. */
  const refused = async (browser, parameters, code, what = "sign_in") => {
    const before = browser.session
    assert.equal(await browser.callback(parameters), `/?${what}=${code}`)
    assert.equal(browser.session, before)
    if (!before) assert.equal(await browser.me(), 401)
  }

  /** A PDS that hands out what `token` says; `seen` is what it was asked, by path. */
  const pretend = (t, token, par) => {
    const seen = { par: [], token: [], revoke: [] }
    const answers = {
      par: par ?? (() => [201, { request_uri: "urn:ietf:params:oauth:request_uri:req-1", expires_in: 60 }]),
      token,
      revoke: () => [200, {}],
    }
    t.after(lab.gateway.fault(lab.pdsHost, (request, response) => {
      const [, name] = /^\/oauth\/(par|token|revoke)$/.exec(request.url) ?? []
      if (!name) return false
      let text = ""
      request.on("data", data => (text += data)).on("end", async () => {
        const form = new URLSearchParams(text)
        seen[name].push({ form, proof: decode(request.headers.dpop) })
        const [status, body, headers] = await answers[name](form, seen[name].length)
        response.writeHead(status, { "content-type": "application/json", ...headers })
        response.end(typeof body === "string" ? body : JSON.stringify(body))
      })
    }))
    const back = (state = seen.par.at(-1).form.get("state")) => new URLSearchParams({ iss: lab.pds, state, code: "cod-1" })
    return { seen, back }
  }

  for (const kind of ["owner", "webOwner"])
    test(`the ${kind} signs in, and out, and nothing is left of her token`, async t => {
      const account = lab[kind]
      const scene = await begin(t, lab, { owner: account.did })
      const browser = visitor(scene)
      assert.equal(await browser.me(), 401)
      const parameters = await atThePds(await browser.begin("/connect?client_id=https%3A%2F%2Fapp.example%2Fa"), account)
      assert.equal(await browser.callback(parameters), "/connect?client_id=https%3A%2F%2Fapp.example%2Fa")
      assert.equal(await browser.me(), account.did)
      for (const line of browser.lines) assert.match(line, /^__Host-groundmist.*; Path=\/; .*HttpOnly; SameSite=Lax; Secure$/)
      assert.deepEqual([...browser.cookies.keys()], ["__Host-groundmist"])
      assert.deepEqual(tokens(), [])
      assert.ok(lab.gateway.asked.includes(`POST ${lab.pdsHost}/oauth/revoke`))

      // The same callback again: from this browser's history, or by who saw it.
      await refused(browser, parameters, "expired")
      await refused(visitor(scene), parameters, "expired")

      const old = browser.session
      await browser.ask("/api/sign-out", { method: "POST" })
      browser.cookies.set("__Host-groundmist", old)
      assert.equal(await browser.me(), 401)
      assert.deepEqual(await events(scene), ["signed_in", "signed_out"])
    })

  test("a server without a domain is a client of this machine", async t => {
    const scene = await Scene.begin(t, { ATPROTO_DID: lab.owner.did, ...lab.settings })
    const origin = `http://127.0.0.1:${scene.server.port}`
    const browser = await signedIn(scene, lab.owner, origin)
    assert.deepEqual([...browser.cookies.keys()], ["groundmist"])
    assert.equal((await browser.ask("/oauth/client-metadata.json")).status, 404)
    const publish = await browser.ask("/oauth/publish", { method: "POST" })
    assert.deepEqual([publish.status, publish.body.error], [409, "no_domain"])
  })

  test("a PDS that cannot reach the server is named, and the owner comes in by a link", async t => {
    // A name of its own: the PDS remembers for a while what it has read at the usual one.
    const far = "far.lab.internal"
    const scene = await begin(t, lab, { settings: { GROUNDMIST_SYNC_DOMAIN: far } })
    lab.gateway.route(far, scene.server.port)
    const reachable = lab.gateway.fault(far, ({ url, socket }) => url === "/oauth/client-metadata.json" && void socket.destroy())
    t.after(reachable)
    const browser = visitor(scene, `https://${far}`)
    const begun = await browser.begin()
    assert.deepEqual([begun.status, begun.body.error], [502, "unreachable_for_pds"], begun.text)
    for (const part of [`https://${far}/oauth/client-metadata.json`, "hairpin NAT", "groundmist-sync sign-in"])
      assert.ok(begun.body.message.includes(part), begun.text)

    const { link } = JSON.parse(await scene.server.command("sign-in", "--json"))
    const { origin, pathname } = new URL(link)
    assert.equal(origin, browser.origin)
    scene.server.keepSecret(pathname.split("/").at(-1))
    assert.equal((await browser.ask(pathname)).status, 200)
    const pressed = await browser.ask(pathname, { method: "POST" })
    assert.deepEqual([pressed.status, pressed.headers.get("location")], [303, "/"])
    assert.equal(await browser.me(), lab.owner.did)
    assert.deepEqual(await events(scene), ["link_made", "signed_in_by_link"])
    for (const line of browser.lines) assert.match(line, /^__Host-groundmist=.*; HttpOnly; SameSite=Lax; Secure$/)

    reachable()
    await signedIn(scene, lab.owner, browser.origin)
  })

  test("somebody else's account is refused and noted, and the owner can go on", async t => {
    const scene = await begin(t, lab)
    const browser = visitor(scene)
    await refused(browser, await atThePds(await browser.begin(), lab.stranger), "not_owner")
    assert.deepEqual(await events(scene), ["sign_in_refused"])
    assert.deepEqual(tokens(), [])
    await signedIn(scene)
  })

  test("login CSRF: a callback that another browser began finds nothing", async t => {
    const scene = await begin(t, lab)
    const [hers, attackers] = [visitor(scene), visitor(scene)]
    const [begun, foreign] = [await hers.begin(), await atThePds(await attackers.begin(), lab.owner)]
    await refused(visitor(scene), foreign, "expired")
    await refused(hers, foreign, "expired")
    // A cookie for the sign-in without its state, and the other way round.
    const own = await atThePds(begun, lab.owner)
    const mixed = new URLSearchParams(own)
    mixed.set("state", foreign.get("state"))
    await refused(hers, mixed, "expired")
    for (const nothing of ["", "state=", "code=cod-made-up", `state=${own.get("state")}`])
      assert.match(await hers.callback(new URLSearchParams(nothing)), /^\/\?sign_in=(expired|bad_answer)$/)
    // None of it has used up hers.
    assert.equal(await hers.callback(own), "/")
    assert.equal(await hers.me(), lab.owner.did)
    assert.equal(await attackers.me(), 401)
  })

  test("mix-up: the answer must name the server that was asked, and is heard once", async t => {
    const scene = await begin(t, lab)
    for (const iss of ["https://evil.lab.internal", `${lab.pds}/`, undefined]) {
      const browser = visitor(scene)
      const right = await atThePds(await browser.begin(), lab.owner)
      const wrong = new URLSearchParams(right)
      if (iss) wrong.set("iss", iss)
      else wrong.delete("iss")
      const asked = lab.gateway.asked.filter(line => line.endsWith("/oauth/token")).length
      await refused(browser, wrong, "bad_answer")
      assert.equal(lab.gateway.asked.filter(line => line.endsWith("/oauth/token")).length, asked, "the code went nowhere")
      await refused(browser, right, "expired")
    }
  })

  test("what she declines, and a code of another sign-in, let nobody in", async t => {
    const scene = await begin(t, lab)
    const browser = visitor(scene)
    const [one, other] = [await browser.begin(), await browser.begin()]
    const [first, second] = [await atThePds(one, lab.owner), await atThePds(other, lab.owner)]
    const injected = new URLSearchParams(second)
    injected.set("code", first.get("code"))
    await refused(browser, injected, "expired")
    first.delete("code")
    first.set("error", "access_denied")
    await refused(browser, first, "denied")
    await refused(browser, first, "expired")
    assert.deepEqual(tokens(), [])
  })

  test("two tabs sign in side by side", async t => {
    const scene = await begin(t, lab)
    const browser = visitor(scene)
    const [one, other] = [await browser.begin("/connect?a"), await browser.begin("/connect?b")]
    const [first, second] = [await atThePds(one, lab.owner), await atThePds(other, lab.owner)]
    assert.equal(await browser.callback(second), "/connect?b")
    assert.equal(await browser.callback(first), "/connect?a")
  })

  test("session fixation: the cookie is a new one, and what was there ends", async t => {
    const scene = await begin(t, lab)
    const attackers = await signedIn(scene)
    const planted = attackers.session
    const browser = visitor(scene)
    for (const cookie of [planted, "chosen-by-somebody-else"]) {
      browser.cookies.set("__Host-groundmist", cookie)
      assert.equal(await browser.callback(await atThePds(await browser.begin(), lab.owner)), "/")
      assert.notEqual(browser.session, cookie)
      assert.equal(await browser.me(), lab.owner.did)
      attackers.cookies.set("__Host-groundmist", cookie)
      assert.equal(await attackers.me(), 401)
    }
  })

  test("only our own page begins anything, and it comes back to our own page only", async t => {
    const scene = await begin(t, lab)
    const browser = await signedIn(scene)
    const before = lab.gateway.asked.length
    for (const headers of [
      { origin: "https://evil.lab.internal" }, { origin: undefined }, { origin: "null" }, { origin: `${SYNC}.evil.internal` },
      { "sec-fetch-site": "cross-site" }, { "sec-fetch-site": "same-site" },
    ])
      for (const path of ["/oauth/sign-in", "/oauth/publish"]) {
        const answer = await browser.ask(path, { method: "POST", body: { return_to: "/" }, headers })
        assert.deepEqual([answer.status, answer.body.error], [403, "cross_origin"], JSON.stringify(headers))
      }
    for (const bad of ["https://evil.lab.internal", "//evil.lab.internal", "/\\evil.lab.internal", "/\t/evil", "/connect", "/?", "", "javascript:alert(1)", 7, null]) {
      const answer = await browser.begin(bad)
      assert.deepEqual([answer.status, answer.body.error], [400, "bad_body"], JSON.stringify(bad))
    }
    for (const body of [{}, { return_to: "/", more: 1 }])
      assert.equal((await browser.ask("/oauth/sign-in", { method: "POST", body })).status, 400)
    assert.equal((await visitor(scene).ask("/oauth/publish", { method: "POST" })).status, 401)
    assert.equal((await browser.ask("/oauth/callback", { method: "POST" })).status, 405)
    assert.equal((await browser.ask("/oauth/sign-in")).status, 405)
    assert.ok(!lab.gateway.asked.slice(before).some(line => line.includes(lab.pdsHost)))
  })

  test("the PDS is down when it begins, or when she is back", async t => {
    const scene = await begin(t, lab)
    const browser = visitor(scene)
    const parameters = await atThePds(await browser.begin(), lab.owner)
    for (const fault of ["down", (_, response) => void response.writeHead(503).end()]) {
      const restore = lab.gateway.fault(lab.pdsHost, fault)
      const one = visitor(scene)
      const begun = await one.begin()
      assert.deepEqual([begun.status, begun.body.error], [503, "pds_unreachable"], begun.text)
      assert.equal(one.cookies.size, 0)
      restore()
    }
    const restore = lab.gateway.fault(lab.pdsHost, "down")
    await refused(browser, parameters, "pds_unreachable")
    restore()
    await signedIn(scene)
  })

  test("sign-ins that are begun in vain are counted", async t => {
    const scene = await begin(t, lab)
    t.after(lab.gateway.fault(lab.pdsHost, "down"))
    // One more is granted each second.
    const all = await Promise.all(Array.from({ length: 3 * BEGUN_PER_MINUTE }, () => visitor(scene).begin()))
    const vain = all.filter(({ body }) => body.error === "pds_unreachable")
    const late = all.find(({ status, body }) => status === 429 && body.error === "busy")
    assert.ok(vain.length >= BEGUN_PER_MINUTE && late, all.map(({ status }) => status).join(" "))
    assert.ok(Number(late.headers.get("retry-after")) > 0)
  })

  test("a PDS that is slow, or refuses what is pushed to it, is not waited for, nor is she sent there", async t => {
    const scene = await begin(t, lab)
    let [answer, reads] = [undefined, false]
    pretend(t, undefined, async () => {
      if (reads) await fetch(`${SYNC}/oauth/client-metadata.json`)
      return answer
    })
    const metadata = [400, { error: "invalid_client_metadata", error_description: "no" }]
    for (const [code, ...next] of [
      ["bad_answer", 201, {}],
      ["bad_answer", 201, { request_uri: "u".repeat(513) }],
      ["bad_answer", 201, "<html>"],
      ["unreachable_for_pds", ...metadata],
      ["bad_answer", 400, { error: "use_dpop_nonce" }, { "dpop-nonce": "n" }],
      ["bad_answer", 302, "", { location: "https://evil.lab.internal/" }],
      ["pds_unreachable", 503, ""],
      ["busy", 429, {}],
    ]) {
      answer = next
      const browser = visitor(scene)
      assert.equal((await browser.begin()).body.error, code, JSON.stringify(next))
      assert.equal(browser.cookies.size, 0)
    }
    // Whoever reads meanwhile what this server says of itself, PDS or stranger, hides no reason.
    ;[answer, reads] = [metadata, true]
    const read = (await visitor(scene).begin()).body
    assert.equal(read.error, "unreachable_for_pds")
    assert.match(read.message, /does not take what it reads there.*hairpin NAT.*the server's log says what your PDS answers/)
    lab.gateway.fault(lab.pdsHost, { delayMs: SLOW_MS })
    const silent = (await visitor(scene).begin()).body
    assert.equal(silent.error, "pds_silent")
    assert.match(silent.message, /Either it is slow just now, or .*hairpin NAT/)
  })

  test("endpoints that may not be asked: she is not sent there either", async t => {
    const right = await (await fetch(`${lab.pds}/.well-known/oauth-authorization-server`)).json()
    for (const [name, value] of [
      ["authorization_endpoint", `http://${lab.pdsHost}/oauth/authorize`],
      ["authorization_endpoint", "https://127.0.0.1/oauth/authorize"],
      ["authorization_endpoint", "javascript:alert(1)"],
      ["authorization_endpoint", `https://ada@${lab.pdsHost}/oauth/authorize`],
      ["authorization_endpoint", undefined],
      ["token_endpoint", `http://${lab.pdsHost}/oauth/token`],
      ["token_endpoint", "https://[::1]/oauth/token"],
      ["pushed_authorization_request_endpoint", "https://10.0.0.1/oauth/par"],
      ["issuer", "https://evil.lab.internal"],
    ]) {
      const scene = await begin(t, lab)
      const restore = lab.gateway.fault(lab.pdsHost, (request, response) =>
        request.url.endsWith("/oauth-authorization-server")
          ? void response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify({ ...right, [name]: value }))
          : false)
      const answer = await visitor(scene).begin()
      restore()
      assert.deepEqual([answer.status, answer.body.error], [502, "bad_answer"], `${name} ${value}`)
      await scene.server.stop()
    }
  })

  test("an odd token answer lets nobody in, and the token is given back", async t => {
    const scene = await begin(t, lab)
    const good = { access_token: "a.b.c", token_type: "DPoP", sub: lab.owner.did, scope: "atproto", expires_in: 3600 }
    let answer
    const { seen, back } = pretend(t, () => answer)
    for (const [code, status, body, headers] of [
      ["not_owner", 200, { ...good, sub: lab.stranger.did }],
      ["bad_answer", 200, { ...good, sub: undefined }],
      ["bad_answer", 200, { ...good, token_type: "Bearer" }],
      ["bad_answer", 200, { ...good, scope: "repo:xyz.groundmist.sync" }],
      ["bad_answer", 200, JSON.stringify(good).replace("{", `{"sub":"${lab.owner.did}",`)],
      ["bad_answer", 200, "<html>"],
      ["bad_answer", 200, "[".repeat(50_000)],
      ["bad_answer", 302, "", { location: "https://evil.lab.internal/" }],
      ["expired", 400, { error: "invalid_grant", error_description: "no" }],
      ["pds_unreachable", 500, good],
      ["busy", 429, good],
    ]) {
      answer = [status, body, headers]
      const browser = visitor(scene)
      assert.equal((await browser.begin()).status, 200)
      const given = seen.revoke.length
      await refused(browser, back(), code)
      const has = status === 200 && body.access_token !== undefined
      assert.equal(seen.revoke.length - given, has ? 1 : 0, JSON.stringify(body))
    }
    answer = [200, good]
    const browser = visitor(scene)
    await browser.begin()
    assert.equal(await browser.callback(back()), "/")
    const { form } = seen.token.at(-1)
    assert.equal(form.get("redirect_uri"), `${SYNC}/oauth/callback`)
    assert.equal(seen.par.at(-1).form.get("login_hint"), lab.owner.did)
    assert.equal(seen.par.at(-1).form.get("scope"), "atproto")
  })

  test("proofs: a key for each sign-in, a nonce when it is asked for, and once more only", async t => {
    const scene = await begin(t, lab)
    const good = { access_token: "a.b.c", token_type: "DPoP", sub: lab.owner.did, scope: "atproto" }
    let endless = false
    const wanted = n => [400, { error: "use_dpop_nonce" }, { "dpop-nonce": `nonce-${n}` }]
    const { seen, back } = pretend(t, (_, n) => (endless || n % 2 ? wanted(n) : [200, good]))
    const keys = new Set()
    for (let n = 0; n < 2; n++) {
      const browser = visitor(scene)
      await browser.begin()
      assert.equal(await browser.callback(back()), "/")
      const [first, second] = seen.token.slice(-2).map(({ proof }) => proof)
      assert.equal(second.payload.nonce, `nonce-${seen.token.length - 1}`)
      assert.notEqual(first.payload.jti, second.payload.jti)
      assert.deepEqual([second.payload.htm, second.payload.htu], ["POST", `${lab.pds}/oauth/token`])
      const used = [seen.par.at(-1), seen.token.at(-1), seen.revoke.at(-1)].map(({ proof }) => proof.header.jwk)
      assert.deepEqual(used, [used[0], used[0], used[0]])
      assert.equal(used[0].d, undefined)
      keys.add(JSON.stringify(used[0]))
    }
    assert.equal(keys.size, 2)
    endless = true
    const browser = visitor(scene)
    await browser.begin()
    const before = seen.token.length
    await refused(browser, back(), "bad_answer")
    assert.equal(seen.token.length - before, 2)
  })

  test("she publishes the record from the page, and nobody else does", async t => {
    const scene = await begin(t, lab)
    const browser = await signedIn(scene)
    const publish = () => browser.ask("/oauth/publish", { method: "POST" })
    await refused(browser, await atThePds(await publish(), lab.stranger), "not_owner", "publish")
    assert.equal(await record(lab.stranger), undefined)

    // The PDS does not write it: the token is given back all the same.
    const parameters = await atThePds(await publish(), lab.owner)
    const restore = lab.gateway.fault(lab.pdsHost, (request, response) =>
      request.url.endsWith("putRecord") ? void response.writeHead(500).end() : false)
    await refused(browser, parameters, "pds_unreachable", "publish")
    restore()
    assert.deepEqual(tokens(), [])
    assert.equal(await record(lab.owner), undefined)

    // Signed out meanwhile.
    const late = await atThePds(await publish(), lab.owner)
    const other = await signedIn(scene)
    await other.ask("/api/sign-out-everywhere", { method: "POST" })
    await refused(browser, late, "expired", "publish")
    assert.equal(await record(lab.owner), undefined)

    const again = await atThePds(await browser.begin(), lab.owner)
    assert.equal(await browser.callback(again), "/")
    assert.equal(await browser.callback(await atThePds(await publish(), lab.owner)), "/?published=yes")
    assert.deepEqual(await record(lab.owner), { $type: COLLECTION, host: HOST })
    assert.deepEqual(tokens(), [])
    assert.equal(await browser.me(), lab.owner.did)
  })

  test("a server that does not know its owner signs nobody in", async t => {
    const scene = await begin(t, lab, { owner: "nobody.lab.internal" })
    const answer = await visitor(scene).begin()
    assert.deepEqual([answer.status, answer.body.error], [503, "owner_unknown"], answer.text)
    await eventually(async () => (await visitor(scene).begin()).body.error === "owner_unknown", "it stays so")
  })

  // The last one: the token stays at the PDS.
  test("a token that cannot be given back is logged, without itself, and she is in", async t => {
    const scene = await begin(t, lab)
    t.after(lab.gateway.fault(lab.pdsHost, (request, response) =>
      request.url === "/oauth/revoke" ? void response.writeHead(500).end() : false))
    await signedIn(scene)
    await eventually(() => /could not be revoked/.test(scene.server.log), "the line that says so")
    assert.deepEqual(tokens(), [`${SYNC}/oauth/client-metadata.json`])
  })
})
