// What the server's checks rest on, asked of the reference PDS itself: if a new version changes it, this says so first.
import { verifySignature } from "@atproto/crypto"
import assert from "node:assert/strict"
import { after, before, describe, test } from "node:test"
import { xrpc } from "./accounts.mjs"
import { App, METHOD } from "./app.mjs"
import { Lab } from "./lab.mjs"
import { altered, decode, dpopProof, seconds, signingKey, withClaims } from "./tokens.mjs"

const ACCESS_TOKEN_S = 3600
const GET_SESSION = "/xrpc/com.atproto.server.getSession"

describe("the PDS", () => {
  let lab, app
  before(async () => {
    lab = await Lab.start()
    app = await App.create(lab, "notes")
  })
  after(() => lab?.stop())

  /** getSession with `token` and `dpop`; status, error and message. */
  const getSession = async (token, dpop) => {
    const headers = { authorization: `DPoP ${token}`, ...(dpop && { dpop }) }
    const answer = await fetch(lab.pds + GET_SESSION, { headers })
    const { error, message, did } = await answer.json()
    return { status: answer.status, error, message, did, nonce: answer.headers.get("dpop-nonce") }
  }
  const proofFor = (session, nonce, key = session.key) =>
    dpopProof({ key, htm: "GET", htu: lab.pds + GET_SESSION, token: session.token, nonce })

  test("an OAuth access token says whose it is, which app's, and which key's, under a signature nobody else can check", async () => {
    for (const account of [lab.owner, lab.webOwner]) {
      const session = await app.signIn(account)
      const { header, payload } = decode(session.token)
      assert.deepEqual(header, { typ: "at+jwt", alg: "HS256" })
      const { jti, iat, exp, ...claims } = payload
      assert.match(jti, /^tok-/)
      assert.ok(Math.abs(iat - seconds()) < 30)
      assert.equal(exp - iat, ACCESS_TOKEN_S)
      assert.deepEqual(claims, {
        iss: lab.pds, aud: lab.pdsDid, sub: account.did, client_id: app.clientId, cnf: { jkt: session.key.thumbprint },
      })
    }
    const jwks = await (await fetch(`${lab.pds}/oauth/jwks`)).json()
    assert.deepEqual(jwks, { keys: [] })
  })

  test("a password session's token looks alike, with neither cnf nor client_id", () => {
    const { header, payload } = decode(lab.owner.accessJwt)
    assert.deepEqual(header, { typ: "at+jwt", alg: "HS256" })
    assert.equal(payload.sub, lab.owner.did)
    assert.equal(payload.aud, lab.pdsDid)
    assert.equal(payload.cnf, undefined)
    assert.equal(payload.client_id, undefined)
  })

  test("without a proof it tells a genuine token from an altered one", async () => {
    const session = await app.signIn(lab.owner)
    const genuine = await getSession(session.token)
    assert.equal(genuine.status, 401)
    assert.equal(genuine.error, "invalid_dpop_proof")
    assert.match(genuine.message, /DPoP proof required/)
    const forgeries = {
      signature: altered(session.token, 2),
      payload: withClaims(session.token, { client_id: "https://evil.lab.internal/client-metadata.json" }),
      owner: withClaims(session.token, { sub: lab.stranger.did }),
    }
    for (const [what, token] of Object.entries(forgeries)) {
      const { status, error } = await getSession(token)
      assert.deepEqual({ status, error }, { status: 401, error: "invalid_token" }, what)
    }
  })

  test("with a proof it vouches for the token, wants its nonce first, and knows the key", async () => {
    const session = await app.signIn(lab.owner)
    const first = await getSession(session.token, await proofFor(session))
    assert.equal(first.status, 401)
    assert.equal(first.error, "use_dpop_nonce")
    assert.ok(first.nonce)
    const proof = await proofFor(session, first.nonce)
    const second = await getSession(session.token, proof)
    assert.equal(second.status, 200)
    assert.equal(second.did, lab.owner.did)
    // The proof is good once, and by the token's own key only.
    assert.equal((await getSession(session.token, proof)).status, 401)
    const thief = await proofFor(session, first.nonce, signingKey("ES256K"))
    assert.equal((await getSession(session.token, thief)).status, 401)
  })

  test("a revoked token fails the relay and passes the probe", async () => {
    const session = await app.signIn(lab.owner)
    const { token } = session
    const { nonce } = await getSession(token, await proofFor(session))
    const before = await proofFor(session, nonce)
    assert.equal((await getSession(token, before)).status, 200)
    const late = await proofFor(session, nonce)
    await session.revoke()
    assert.equal((await getSession(token, late)).status, 401)
    assert.equal((await getSession(token)).error, "invalid_dpop_proof")
  })

  test("a refreshed session has a new token for the same key", async () => {
    const session = await app.signIn(lab.owner)
    const { token, key } = session
    await session.refresh()
    assert.notEqual(session.token, token)
    assert.equal(decode(session.token).payload.cnf.jkt, key.thumbprint)
  })

  test("a service-auth token is signed by the DID document's #atproto key, with the audience as asked", async () => {
    for (const account of [lab.owner, lab.webOwner]) {
      const session = await app.signIn(account)
      const { verificationMethods } = await xrpc(lab.pds, "com.atproto.identity.getRecommendedDidCredentials", {
        token: account.accessJwt,
      })
      for (const aud of ["did:web:sync.lab.internal", "did:web:sync.lab.internal#groundmist_sync"]) {
        const token = await session.serviceAuth(aud)
        const { header, payload } = decode(token)
        assert.deepEqual(header, { typ: "JWT", alg: "ES256K" })
        assert.ok(payload.jti)
        assert.equal(payload.exp - payload.iat, 60)
        assert.deepEqual([payload.iss, payload.aud, payload.lxm], [account.did, aud, METHOD])
        const [input, signature] = [token.slice(0, token.lastIndexOf(".")), token.slice(token.lastIndexOf(".") + 1)]
        const bytes = Buffer.from(signature, "base64url")
        assert.ok(await verifySignature(verificationMethods.atproto, Buffer.from(input), bytes))
      }
    }
  })

  test("the two DID documents hold their keys in the two forms", async () => {
    const plc = await (await fetch(`${lab.plc}/${lab.owner.did}`)).json()
    assert.equal(plc.verificationMethod[0].type, "EcdsaSecp256k1VerificationKey2019")
    const web = await (await fetch("https://wanda.lab.internal/.well-known/did.json")).json()
    assert.deepEqual(web.verificationMethod.map(({ id, type }) => [id, type]), [
      ["did:web:wanda.lab.internal#other", "Multikey"],
      ["did:web:wanda.lab.internal#atproto", "Multikey"],
    ])
  })

  test("a confidential app signs in with its key", async () => {
    const confidential = await App.create(lab, "vault", { confidential: true })
    const session = await confidential.signIn(lab.owner)
    assert.equal(decode(session.token).payload.client_id, confidential.clientId)
  })
})
