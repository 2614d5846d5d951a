// The owner's PDS is down, slow, or answers oddly: nobody gets in by doubt, and all is well again when it is back.
import assert from "node:assert/strict"
import { after, before, describe, test } from "node:test"
import { App } from "./app.mjs"
import { Lab } from "./lab.mjs"
import { SYNC, admitted, approve, asked, begin, enter, refused } from "./server.mjs"
import { altered, withClaims } from "./tokens.mjs"

/** Longer than the server waits for anyone. */
const SLOW_MS = 120_000
/** Within this it must have made up its mind. */
const PATIENCE_MS = 45_000
const EVIL = "evil.lab.internal"
const GET_SESSION = "/xrpc/com.atproto.server.getSession"

const says = (status, body, headers = { "content-type": "application/json" }) => (request, response) => {
  if (!request.url.startsWith(GET_SESSION)) return false
  response.writeHead(status, headers).end(typeof body === "string" ? body : JSON.stringify(body))
}
const endless = (request, response) => {
  if (!request.url.startsWith(GET_SESSION)) return false
  response.writeHead(401, { "content-type": "application/json" })
  const more = () => {
    while (!response.destroyed && response.write("[".repeat(65_536)));
    if (!response.destroyed) response.once("drain", more)
  }
  more()
}

const FAULTS = {
  "is down": "down",
  "is slow": { delayMs: SLOW_MS },
  "calls everything genuine": says(401, { error: "invalid_dpop_proof", message: "DPoP proof required" }),
  "calls everything forged": says(401, { error: "invalid_token", message: "Malformed token" }),
  "lets everything in": says(200, { did: "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", handle: "ada.lab.test" }),
  "fails": says(500, { error: "InternalServerError", message: "Internal Server Error" }),
  "limits": says(429, { error: "RateLimitExceeded", message: "Rate Limit Exceeded" }),
  "sends a page": says(401, "<html>invalid_dpop_proof DPoP proof required</html>", { "content-type": "text/html" }),
  "sends nothing": says(401, ""),
  "sends another shape": says(401, { error: ["invalid_dpop_proof"], message: { DPoP: "proof required" } }),
  "sends deep nesting": says(401, "[".repeat(50_000)),
  "never ends": endless,
  "sends elsewhere": says(302, "", { location: `https://${EVIL}${GET_SESSION}` }),
}

describe("when the owner's PDS", () => {
  let lab, app, session
  before(async () => {
    lab = await Lab.start()
    app = await App.create(lab, "notes")
    session = await app.signIn(lab.owner)
    // Would vouch for anything, were it asked.
    lab.gateway.route(EVIL, (_, response) => response.writeHead(401).end('{"error":"invalid_dpop_proof","message":"DPoP proof required"}'))
  })
  after(() => lab?.stop())

  for (const [what, fault] of Object.entries(FAULTS))
    test(`${what}, nobody gets in, and when it is well again the owner does`, { timeout: 4 * PATIENCE_MS }, async t => {
      const scene = await begin(t, lab)
      await approve(scene, app)
      admitted(scene, await enter(session))
      const restore = lab.gateway.fault(lab.pdsHost, fault)
      t.after(restore)
      const { token, key } = session
      const forged = withClaims(token, { client_id: `${app.clientId}?` })
      const asking = [session, { token: altered(token, 2), key }, { token: forged, key }]
      const begun = Date.now()
      for (const answer of await Promise.all(asking.map(one => enter(one)))) refused(answer, [401, 403, 429, 502, 503, 504], /./, what)
      assert.ok(Date.now() - begun < PATIENCE_MS)
      restore()
      admitted(scene, await session.post(SYNC, asked()))
      assert.ok(session.kept)
      assert.ok(!lab.gateway.asked.some(line => line.includes(EVIL)))
    })
})
