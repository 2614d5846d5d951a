// The server under test, in the lab: under a name of its own behind the gateway, with an owner, asking the lab's PDS and PLC.
import assert from "node:assert/strict"
import { NAMESPACE, Scene } from "../clients/harness.mjs"
import { METHOD, post } from "./app.mjs"
import { dpopProof, serviceToken } from "./tokens.mjs"

const HOST = "sync.lab.internal"
export const SYNC = `https://${HOST}`
/** What a service-auth token may name as its audience: the service, or (older PDSes) the server. */
export const AUDIENCES = [`did:web:${HOST}#groundmist_sync`, `did:web:${HOST}`]
/** Documents that apps may name as their root. */
export const ROOTS = ["automerge:pEbmSWqJdBuPadRGm8tDZXgWR6", "automerge:2QwEPLa7JjCKXvEr1XaPo72FxEmh"]

/** The body that today's apps send. */
export const asked = (namespace = NAMESPACE, root = ROOTS[0]) => ({ lexiconAuthorityDomain: namespace, rootDocUrl: root })

/** Start a server that belongs to `owner`, a DID, or with null to nobody; `settings` are more of its environment. Create the apps first. */
export async function begin(test, lab, { owner = lab.owner.did, settings = {} } = {}) {
  const scene = await Scene.begin(test, {
    ATPROTO_DID: owner ?? undefined,
    GROUNDMIST_SYNC_DOMAIN: HOST,
    GROUNDMIST_SYNC_TLS: "off",
    ...lab.settings,
    ...settings,
  })
  lab.gateway.route(HOST, scene.server.port)
  return scene
}

export const approve = (scene, app, namespace = NAMESPACE, ...flags) =>
  scene.server.command("apps", "approve", app.clientId, "--namespace", namespace, ...flags)

/** What `apps pending` and `sessions list` say, as text to search: full client ids are in it. */
export const pending = scene => scene.server.command("apps", "pending", "--json")
export const sessions = scene => scene.server.command("sessions", "list", "--json")

/** The answer let someone in: checks all of it, and gives the sync token. */
export function admitted(scene, answer, root = ROOTS[0]) {
  assert.equal(answer.status, 200, answer.text)
  const { result, token, rootDocUrl, expiresAt, ...rest } = answer.body
  scene.server.keepSecret(token)
  assert.equal(result, "OK")
  assert.equal(rootDocUrl, root)
  assert.ok(new Date(expiresAt) > new Date())
  assert.deepEqual(rest, {})
  return token
}

/** The answer refused, with `status` (one, or several) and an `error` that `code` matches; says nothing that makes a client drop its session. */
export function refused(answer, status, code, what) {
  assert.ok([status].flat().includes(answer.status), `${what ?? ""} ${answer.status} ${answer.text}`)
  assert.match(answer.body.error, code, `${what ?? ""} ${answer.text}`)
  assert.ok(answer.body.message.length > 10, "says what to do")
  assert.equal(answer.body.token, undefined)
  // Today's apps take a refusal without it for another account's, and forget their root document.
  if (code.source === "^app_not_approved$") assert.ok(ROOTS.includes(answer.body.rootDocUrl), answer.text)
  assert.doesNotMatch(answer.headers.get("www-authenticate") ?? "", /invalid_token/)
}

/** Two real clients, one for each token, meet in a document. */
export async function sync(scene, token, otherToken = token) {
  const writer = await scene.client("v1", { url: scene.server.url(token) })
  const reader = await scene.client("v2", { url: scene.server.url(otherToken) })
  const documentId = await writer.create({ value: { title: "mine" } })
  assert.equal(await reader.find({ documentId }), "ready")
  await reader.waitFor({ documentId, has: { title: "mine" } })
  return { writer, reader, documentId }
}

/** A nonce of the server's, as it gives one to who comes without. */
export async function nonce(session) {
  const dpop = await dpopProof({ key: session.key, htm: "POST", htu: `${SYNC}/authenticate`, token: session.token })
  const answer = await post(SYNC, { authorization: `DPoP ${session.token}`, dpop, body: asked() })
  assert.equal(answer.status, 401, answer.text)
  assert.match(answer.headers.get("www-authenticate"), /^DPoP .*error="use_dpop_nonce"/)
  return answer.headers.get("dpop-nonce")
}

/**
 * `POST /authenticate` with a token and a proof made by hand, right unless `proof` (what `dpopProof` takes) says otherwise.
 * `session` needs `token` and `key` only.
 */
export async function enter(session, { proof, body = asked(), dpop } = {}) {
  dpop ??= await dpopProof({
    key: session.key, htm: "POST", htu: `${SYNC}/authenticate`, token: session.token, nonce: await nonce(session), ...proof,
  })
  return post(SYNC, { authorization: `DPoP ${session.token}`, dpop, body })
}

/** `POST` with a service-auth token and, unless it is null, the app's attestation. */
export function enterByService(token, attestation, { path = "/authenticate", body = asked() } = {}) {
  const clientAttestation = attestation ?? undefined
  return post(SYNC, { authorization: `Bearer ${token}`, path, body: { ...body, clientAttestation } })
}

/** A right service-auth token by `key` for `did`, but for what is said otherwise. */
export const serviceTokenOf = (did, key, more = {}) => serviceToken({ key, iss: did, aud: AUDIENCES[0], lxm: METHOD, ...more })
