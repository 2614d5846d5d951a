// Access tokens that must not open the door, though the proof is right and the PDS calls each of them genuine.
import assert from "node:assert/strict"
import { createPublicKey } from "node:crypto"
import { after, before, describe, test } from "node:test"
import { App, post } from "./app.mjs"
import { Lab } from "./lab.mjs"
import { Liar } from "./liar.mjs"
import { SYNC, admitted, approve, asked, begin, enter, pending, refused, sessions } from "./server.mjs"
import { altered, hmac, seconds, signingKey, withClaims } from "./tokens.mjs"

const REFUSED = /./

describe("an access token that is not the owner's, for this app, by her PDS", () => {
  let lab, notes, tasks, owner, stranger
  before(async () => {
    lab = await Lab.start()
    notes = await App.create(lab, "notes")
    tasks = await App.create(lab, "tasks")
    owner = await notes.signIn(lab.owner)
    stranger = await notes.signIn(lab.stranger)
  })
  after(() => lab?.stop())

  const approved = async (t, settings) => {
    const scene = await begin(t, lab, { settings })
    await approve(scene, notes)
    return scene
  }
  const lying = t => {
    const liar = new Liar(lab, notes, lab.owner)
    t.after(liar.stop)
    return liar
  }

  test("is refused: real ones", async t => {
    const scene = await approved(t)
    admitted(scene, await enter(owner))
    const { token, key } = owner
    const cases = {
      "somebody else's": stranger,
      "a password session's": { token: lab.owner.accessJwt, key },
      "altered signature": { token: altered(token, 2), key },
      "another app named": { token: withClaims(token, { client_id: tasks.clientId }), key },
      "another life": { token: withClaims(token, { exp: seconds() + 1_000_000 }), key },
      "stranger's, with the owner named": { token: withClaims(stranger.token, { sub: lab.owner.did }), key: stranger.key },
      "opaque": { token: "ory_at_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", key },
    }
    for (const [what, session] of Object.entries(cases)) refused(await enter(session), [401, 403], REFUSED, what)
    for (const account of [lab.owner, lab.stranger])
      refused(await post(SYNC, { authorization: `Bearer ${account.accessJwt}`, body: asked() }), 401, REFUSED, "password session as Bearer")
    assert.ok(!(await pending(scene)).includes(tasks.clientId), "what proves nothing is not remembered")
    assert.ok(!(await sessions(scene)).includes(lab.stranger.did))
  })

  test("is refused: claims", async t => {
    const scene = await approved(t)
    const liar = lying(t)
    admitted(scene, await enter(await liar.mint()))
    const cases = {
      "another owner": { claims: { sub: lab.stranger.did } },
      "no owner": { claims: { sub: undefined } },
      "another issuer": { claims: { iss: "https://elsewhere.lab.internal" } },
      "no issuer": { claims: { iss: undefined } },
      "another audience": { claims: { aud: "did:web:elsewhere.lab.internal" } },
      "no audience": { claims: { aud: undefined } },
      "expired": { claims: { iat: seconds() - 7200, exp: seconds() - 3600 } },
      "no end": { claims: { exp: undefined } },
      "no key": { claims: { cnf: undefined } },
      "another key": { claims: { cnf: { jkt: signingKey("ES256").thumbprint } } },
      "no app": { claims: { client_id: undefined } },
      "an app that is no URL": { claims: { client_id: "notes" } },
      "another type": { header: { typ: "JWT" } },
      "no type": { header: { typ: undefined } },
    }
    for (const [what, change] of Object.entries(cases)) refused(await enter(await liar.mint(change)), [400, 401, 403], REFUSED, what)
    const unapproved = await enter(await liar.mint({ claims: { client_id: tasks.clientId } }))
    refused(unapproved, 403, /^app_not_approved$/)
  })

  test("is refused when the PDS says that it is somebody else's", async t => {
    const scene = await approved(t, { GROUNDMIST_SYNC_ACCESS__PROBE: "false" })
    const liar = lying(t)
    const relay = async () => {
      const minted = await liar.mint()
      return enter(minted, { body: { ...asked(), pdsProof: await liar.pdsProof(minted.token) } })
    }
    admitted(scene, await relay())
    for (const did of [lab.stranger.did, "nonsense", null]) {
      liar.did = did
      refused(await relay(), did === lab.stranger.did ? 403 : 503, REFUSED, String(did))
    }
  })

  test("is refused when the proof for the PDS is not one", async t => {
    const scene = await approved(t, { GROUNDMIST_SYNC_ACCESS__PROBE: "false" })
    const other = await notes.signIn(lab.owner)
    admitted(scene, await owner.postWithProof(SYNC, asked()))
    const cases = { "nonsense": "nonsense", "another session's": await other.pdsProof(), "not text": 7, "long": "A".repeat(50_000) }
    for (const [what, pdsProof] of Object.entries(cases))
      refused(await enter(owner, { body: { ...asked(), pdsProof } }), [400, 401, 413], REFUSED, what)
    admitted(scene, await owner.postWithProof(SYNC, asked()))
  })

  test("is refused by the issuer's published keys, where there are any", async t => {
    const issuer = signingKey("ES256")
    const jwk = { ...issuer.jwk, kid: "1", use: "sig", alg: "ES256" }
    const liar = lying(t)
    liar.keys = [jwk]
    const scene = await approved(t)
    // Not vouched for by the PDS: only the key can have opened.
    admitted(scene, await enter(liar.disown(await liar.mint({ header: { alg: "ES256", kid: "1" }, signer: issuer.sign }))))
    const pem = createPublicKey({ key: issuer.jwk, format: "jwk" }).export({ type: "spki", format: "pem" })
    const cases = {
      "no signature": { header: { alg: "none", kid: "1" }, signer: () => "" },
      "HMAC with the public JWK as its secret": { header: { alg: "HS256", kid: "1" }, signer: hmac(JSON.stringify(jwk)) },
      "HMAC with the public PEM as its secret": { header: { alg: "HS256", kid: "1" }, signer: hmac(pem) },
      "another key": { header: { alg: "ES256", kid: "1" }, signer: signingKey("ES256").sign },
      "a key in its own header": { header: { alg: "ES256", jwk: liar.key.jwk }, signer: liar.key.sign },
    }
    for (const [what, change] of Object.entries(cases))
      refused(await enter(liar.disown(await liar.mint(change))), 401, REFUSED, what)
  })

  test("is refused to a local program, which any other can pose as, unless the owner allowed and approved it", async t => {
    const liar = lying(t)
    const local = { clientId: "http://localhost?redirect_uri=http%3A%2F%2F127.0.0.1%2F&scope=atproto" }
    const ask = async () => enter(await liar.mint({ claims: { client_id: local.clientId } }))
    await begin(t, lab, { settings: { GROUNDMIST_SYNC_ACCESS__APPROVE: "first-use" } })
    refused(await ask(), 403, /^loopback_client$/)
    const allowing = await begin(t, lab, {
      settings: { GROUNDMIST_SYNC_ACCESS__APPROVE: "first-use", GROUNDMIST_SYNC_ACCESS__ALLOW_LOOPBACK_CLIENTS: "true" },
    })
    refused(await ask(), 403, /^(loopback_client|app_not_approved)$/)
    await approve(allowing, local)
    admitted(allowing, await ask())
  })

  test("is not let in by a grant for another namespace", async t => {
    const scene = await approved(t)
    admitted(scene, await enter(owner))
    refused(await enter(owner, { body: asked("xyz.example.tasks") }), 403, /^app_not_approved$/)
    assert.ok((await pending(scene)).includes("xyz.example.tasks"))
  })
})
