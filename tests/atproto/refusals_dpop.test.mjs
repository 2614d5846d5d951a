// `Authorization: DPoP`: each of these differs from a request that is let in by one thing only, and is refused for it.
import assert from "node:assert/strict"
import { after, before, describe, test } from "node:test"
import { NAMESPACE } from "../clients/harness.mjs"
import { App, post } from "./app.mjs"
import { Lab } from "./lab.mjs"
import { SYNC, admitted, approve, asked, begin, enter, nonce, refused } from "./server.mjs"
import { altered, dpopProof, hmac, seconds, signingKey, withClaims } from "./tokens.mjs"

const HTU = `${SYNC}/authenticate`
const PROOF = /proof/

/** What `dpopProof` is to make otherwise, for a proof by `key`. */
const WRONG_PROOFS = {
  "another type": () => ({ header: { typ: "JWT" } }),
  "no signature": () => ({ header: { alg: "none" }, signer: () => "" }),
  "HMAC with the public key as its secret": key =>
    ({ header: { alg: "HS256" }, signer: hmac(JSON.stringify(key.jwk)) }),
  "HMAC with the public point as its secret": ({ jwk }) =>
    ({ header: { alg: "HS256" }, signer: hmac(Buffer.concat([Buffer.from(jwk.x, "base64url"), Buffer.from(jwk.y, "base64url")])) }),
  "the other curve's algorithm": key => ({ header: { alg: key.alg === "ES256" ? "ES256K" : "ES256" } }),
  "its private key in the header": key => ({ header: { jwk: key.privateJwk } }),
  "no key in the header": () => ({ header: { jwk: undefined } }),
  "another key's signature": () => ({ signer: signingKey("ES256K").sign }),
  "another method": () => ({ htm: "GET" }),
  "another path": () => ({ htu: `${SYNC}/sync` }),
  "another host": () => ({ htu: "https://elsewhere.lab.internal/authenticate" }),
  "another scheme": () => ({ htu: HTU.replace("https:", "http:") }),
  "a time long ago": () => ({ claims: { iat: seconds() - 600 } }),
  "a time to come": () => ({ claims: { iat: seconds() + 600 } }),
  "no time": () => ({ claims: { iat: undefined } }),
  "no id": () => ({ claims: { jti: undefined } }),
  "an id without end": () => ({ claims: { jti: "x".repeat(5000) } }),
  "another token's hash": () => ({ claims: { ath: "n4bQgYhMfWWaL-qgxVrQFaO_TxsrC4Is0V1sFbDwCgg" } }),
  "no token's hash": () => ({ claims: { ath: undefined } }),
}

describe("a DPoP proof that is not quite right", () => {
  let lab, app, session
  before(async () => {
    lab = await Lab.start()
    app = await App.create(lab, "notes")
    session = await app.signIn(lab.owner)
  })
  after(() => lab?.stop())

  const approved = async t => {
    const scene = await begin(t, lab)
    await approve(scene, app)
    return scene
  }

  test("is refused before anyone else is asked", async t => {
    const scene = await approved(t)
    admitted(scene, await enter(session))
    const before = lab.gateway.asked.filter(line => line.includes("getSession")).length
    for (const [what, change] of Object.entries(WRONG_PROOFS))
      refused(await enter(session, { proof: change(session.key) }), 401, PROOF, what)
    const right = async () => dpopProof({ key: session.key, htm: "POST", htu: HTU, token: session.token, nonce: await nonce(session) })
    for (const [what, dpop] of Object.entries({
      "altered signature": altered(await right(), 2),
      "altered payload": withClaims(await right(), { jti: "another" }),
      "two proofs": `${await right()}, ${await right()}`,
      "not a proof": "nonsense",
      "far too large": `${"A".repeat(20_000)}.e30.AA`,
    })) {
      const answer = await enter(session, { dpop })
      // What HTTP itself refuses for its size need not say more.
      if (answer.status !== 431) refused(answer, 401, PROOF, what)
    }
    const none = await post(SYNC, { authorization: `DPoP ${session.token}`, body: asked() })
    refused(none, 401, PROOF, "no proof at all")
    assert.equal(lab.gateway.asked.filter(line => line.includes("getSession")).length, before)
    admitted(scene, await enter(session))
  })

  test("but what older clients put into theirs does no harm", async t => {
    const scene = await approved(t)
    admitted(scene, await enter(session, { proof: { claims: { iss: app.clientId } } }))
    admitted(scene, await enter(session, { proof: { htu: `${HTU}?a=b#c` } }))
    admitted(scene, await enter(session, { proof: { header: { kid: "1" } } }))
  })

  test("needs our nonce, a fresh one, in the form that makes clients try again", async t => {
    await approved(t)
    for (const wrong of [undefined, "made-up", "A".repeat(200)]) {
      const answer = await enter(session, { proof: { nonce: wrong } })
      refused(answer, 401, /^use_dpop_nonce$/, String(wrong))
      assert.match(answer.headers.get("www-authenticate"), /^DPoP .*error="use_dpop_nonce"/)
      assert.ok(answer.headers.get("dpop-nonce"))
    }
  })

  test("is good once", async t => {
    const scene = await approved(t)
    const dpop = await dpopProof({ key: session.key, htm: "POST", htu: HTU, token: session.token, nonce: await nonce(session) })
    admitted(scene, await enter(session, { dpop }))
    const sessionsAsked = () => lab.gateway.asked.filter(line => line.includes("getSession")).length
    const before = sessionsAsked()
    refused(await enter(session, { dpop }), 401, /./, "replayed")
    assert.equal(sessionsAsked(), before, "a copy costs the PDS nothing")
    const racing = await dpopProof({ key: session.key, htm: "POST", htu: HTU, token: session.token, nonce: await nonce(session) })
    const answers = await Promise.all(Array.from({ length: 5 }, () => enter(session, { dpop: racing })))
    assert.deepEqual(answers.map(answer => answer.status).sort(), [200, 401, 401, 401, 401])
  })

  test("by another key than the token's, even in the hands of the owner's other app", async t => {
    await approved(t)
    const other = await app.signIn(lab.owner)
    for (const [what, key] of Object.entries({ "a key of its own": signingKey("ES256"), "another session's": other.key }))
      refused(await enter({ token: session.token, key }), 401, /./, what)
  })

  test("the body that goes with it is checked too", async t => {
    const scene = await approved(t)
    for (const body of [
      {}, asked("../../etc"), asked(""), asked(7), asked(NAMESPACE, "https://elsewhere.lab.internal"), asked(NAMESPACE, "x".repeat(100_000)),
    ]) {
      const answer = await enter(session, { body })
      assert.ok([400, 413].includes(answer.status), answer.text)
      assert.ok(answer.body.error && answer.body.message)
    }
    admitted(scene, await enter(session))
  })
})
