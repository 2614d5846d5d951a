// `Authorization: Bearer` with a service-auth token: each of these differs from one that is let in by one thing only.
import { P256Keypair, Secp256k1Keypair } from "@atproto/crypto"
import assert from "node:assert/strict"
import { after, before, describe, test } from "node:test"
import { App } from "./app.mjs"
import { didWebDocument } from "./did_web.mjs"
import { Lab } from "./lab.mjs"
import { AUDIENCES, admitted, approve, begin, enterByService, pending, refused, serviceTokenOf } from "./server.mjs"
import { altered, hmac, seconds, signingKey, withClaims } from "./tokens.mjs"

const OWNER = "did:web:petra.lab.internal"
const SOMEBODY = "did:web:sam.lab.internal"
const FETCH_LIMIT_MS = 120_000

describe("service auth that is not quite right", () => {
  let lab, vault, attic, open, key, somebodysKey
  before(async () => {
    lab = await Lab.start()
    ;[key, somebodysKey] = [await P256Keypair.create(), await Secp256k1Keypair.create()]
    for (const [did, itsKey] of [[OWNER, key], [SOMEBODY, somebodysKey]]) {
      const host = did.slice("did:web:".length)
      const document = didWebDocument({ did, handle: host.replace("internal", "test"), pds: lab.pds, key: itsKey.did() })
      lab.gateway.serve(host, "/.well-known/did.json", document)
    }
    vault = await App.create(lab, "vault", { confidential: true })
    attic = await App.create(lab, "attic", { confidential: true })
    open = await App.create(lab, "notes")
  })
  after(() => lab?.stop())

  const approved = async t => {
    const scene = await begin(t, lab, { owner: OWNER })
    await approve(scene, vault)
    return scene
  }
  const token = more => serviceTokenOf(OWNER, key, more)
  const attested = more => vault.attestation(AUDIENCES[0], more)

  test("is refused: the token", async t => {
    const scene = await approved(t)
    admitted(scene, await enterByService(await token(), await attested()))
    const cases = {
      "another audience": { aud: "did:web:elsewhere.lab.internal#groundmist_sync" },
      "another service of ours": { aud: "did:web:sync.lab.internal#other" },
      "no audience": { aud: undefined },
      "another method": { lxm: "com.atproto.server.getSession" },
      "no method": { lxm: undefined },
      "expired": { claims: { iat: seconds() - 600, exp: seconds() - 300 } },
      "good for days": { claims: { exp: seconds() + 200_000 } },
      "no end": { claims: { exp: undefined } },
      "no id": { claims: { jti: undefined } },
      "an id without end": { claims: { jti: "x".repeat(5000) } },
      "another key of the DID": { iss: `${OWNER}#other` },
      "no issuer": { iss: undefined },
      "somebody else, by her own key": { iss: SOMEBODY, key: somebodysKey },
      "the owner, by somebody else's key": { key: somebodysKey },
      "no signature": { header: { alg: "none" }, signer: () => "" },
      "HMAC with the public key as its secret": { header: { alg: "HS256" }, signer: hmac(key.publicKeyBytes()) },
      "HMAC with the key's text as its secret": { header: { alg: "HS256" }, signer: hmac(key.did().replace("did:key:", "")) },
      "the other curve's algorithm": { header: { alg: "ES256K" } },
      "an access token's type": { header: { typ: "at+jwt" } },
      "a proof's type": { header: { typ: "dpop+jwt" } },
    }
    for (const [what, more] of Object.entries(cases))
      refused(await enterByService(await token(more), await attested()), [401, 403], /./, what)
    for (const [what, wrong] of Object.entries({
      "altered signature": altered(await token(), 2),
      "altered payload": withClaims(await token(), { jti: "another" }),
      "not a token": "nonsense",
      "two parts": (await token()).replace(/\.[^.]*$/, ""),
      "nothing": "",
    })) refused(await enterByService(wrong, await attested()), [400, 401], /./, what)
    admitted(scene, await enterByService(await token(), await attested()))
  })

  test("is refused: the app's attestation", async t => {
    const scene = await approved(t)
    const stolen = attic.key
    const cases = {
      "another app's key": { key: stolen },
      "a key of nobody's": { key: signingKey("ES256") },
      "another kid": { kid: "attic-1" },
      "subject is another app": { claims: { sub: attic.clientId } },
      "issuer is another app": { claims: { iss: attic.clientId } },
      "another audience": { claims: { aud: "did:web:elsewhere.lab.internal" } },
      "no audience": { claims: { aud: undefined } },
      "expired": { claims: { iat: seconds() - 600, exp: seconds() - 300 } },
      "no end": { claims: { exp: undefined } },
      "another type": { header: { typ: "JWT" } },
      "no signature": { header: { alg: "none" }, key: { alg: "none", sign: () => "" } },
      "HMAC with the public key as its secret": {
        header: { alg: "HS256" }, key: { alg: "HS256", sign: hmac(JSON.stringify(vault.key.jwk)) },
      },
    }
    for (const [what, more] of Object.entries(cases))
      refused(await enterByService(await token(), await attested(more)), [401, 403], /./, what)
    refused(await enterByService(await token(), "nonsense"), [400, 401, 403], /./, "not an attestation")
    // It is right for its own app, which is not approved.
    refused(await enterByService(await token(), await attic.attestation(AUDIENCES[0])), 403, /^app_not_approved$/)
    admitted(scene, await enterByService(await token(), await attested()))
  })

  test("is refused: client metadata that cannot be had", async t => {
    const serve = (name, handler) => lab.gateway.route(`${name}.lab.internal`, handler)
    const own = signingKey("ES256")
    const metadata = host => JSON.stringify({
      client_id: `https://${host}/client-metadata.json`, jwks: { keys: [{ ...own.jwk, kid: "1" }] },
      token_endpoint_auth_method: "private_key_jwt", dpop_bound_access_tokens: true, redirect_uris: [`https://${host}/`],
    })
    serve("good", (_, response) => response.end(metadata("good.lab.internal")))
    serve("huge", (_, response) => response.end(`${" ".repeat(20_000_000)}${metadata("huge.lab.internal")}`))
    serve("slow", (_, response) => void setTimeout(() => response.end(metadata("slow.lab.internal")), FETCH_LIMIT_MS).unref())
    serve("moved", (_, response) => response.writeHead(302, { location: "https://good.lab.internal/client-metadata.json" }).end())
    serve("mirror", (_, response) => response.end(metadata("good.lab.internal")))
    const scene = await approved(t)
    const by = async clientId => enterByService(await token(), await attested({
      key: own, kid: "1", claims: { iss: clientId, sub: clientId },
    }))
    const at = host => `https://${host}/client-metadata.json`
    // Proved, so that the others are refused for what is wrong with them.
    refused(await by(at("good.lab.internal")), 403, /^app_not_approved$/)
    for (const clientId of [
      ...["huge", "slow", "moved", "mirror", "nowhere"].map(name => at(`${name}.lab.internal`)),
      ...["127.0.0.1", "10.0.0.1", "169.254.169.254", "[::1]", "2130706433", "localhost"].map(at),
      `http://good.lab.internal:${lab.gateway.port}/client-metadata.json`, "file:///etc/passwd", "notes", "",
    ]) {
      refused(await by(clientId), [400, 401, 403, 502, 503], /./, clientId)
      assert.ok(!clientId || !(await pending(scene)).includes(`"${clientId}"`), clientId)
    }
    // An app that publishes no keys can prove nothing by them.
    refused(await by(open.clientId), [401, 403], /./, "a public app")
  })

  test("nobody's metadata is fetched before the owner is proved", async t => {
    await approved(t)
    const before = lab.gateway.asked.filter(line => line.includes("attic")).length
    const forged = await serviceTokenOf(OWNER, somebodysKey)
    refused(await enterByService(forged, await attic.attestation(AUDIENCES[0])), 401, /./)
    assert.equal(lab.gateway.asked.filter(line => line.includes("attic")).length, before)
  })

  test("is good once: in a race, and after the server was killed", async t => {
    const scene = await approved(t)
    const once = await token()
    const answers = await Promise.all(Array.from({ length: 5 }, async () => enterByService(once, await attested())))
    assert.deepEqual(answers.map(answer => answer.status).sort(), [200, 401, 401, 401, 401])
    refused(await enterByService(once, await attested()), 401, /replay/)
    await scene.server.stop("SIGKILL")
    await scene.server.start()
    refused(await enterByService(once, await attested()), 401, /replay/)
  })

  test("an attestation is for the service token that it came with", async t => {
    const scene = await approved(t)
    const attestation = await attested()
    admitted(scene, await enterByService(await token(), attestation))
    refused(await enterByService(await token(), attestation), [401, 403], /replay/)
  })
})
