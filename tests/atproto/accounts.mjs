// Accounts on the lab's PDS: with a did:plc that it makes, or a did:web that is brought along.
import { Secp256k1Keypair } from "@atproto/crypto"
import { didWebDocument } from "./did_web.mjs"
import { serviceToken } from "./tokens.mjs"

const PASSWORD = "correct horse battery"

/** One XRPC call, a POST if there is a `body` (null for none in it); throws with the answer's error. */
export async function xrpc(pds, method, { token, body, query } = {}) {
  const url = new URL(`/xrpc/${method}`, pds)
  for (const [key, value] of Object.entries(query ?? {})) url.searchParams.set(key, value)
  const answer = await fetch(url, {
    method: body === undefined ? "GET" : "POST",
    headers: {
      ...(token && { authorization: `Bearer ${token}` }),
      ...(body && { "content-type": "application/json" }),
    },
    body: body ? JSON.stringify(body) : undefined,
  })
  const text = await answer.text()
  if (!answer.ok) throw new Error(`${method}: ${answer.status} ${text}`)
  return text ? JSON.parse(text) : undefined
}

const registration = name => ({ handle: `${name}.lab.test`, email: `${name}@lab-mail.org`, password: PASSWORD })

/** `{ did, handle, password, accessJwt }`; the last is a password session's. */
export async function createAccount(pds, name) {
  const { did, handle, accessJwt } = await xrpc(pds, "com.atproto.server.createAccount", { body: registration(name) })
  return { did, handle, password: PASSWORD, accessJwt }
}

/**
 * An account whose did:web we host. A PDS takes in a DID that exists when its key signs for it; the account then
 * stays inactive until the DID document names the key that the PDS signs with.
 */
export async function createWebAccount(pds, gateway, name) {
  const host = `${name}.lab.internal`
  const did = `did:web:${host}`
  const handle = `${name}.lab.test`
  const publish = key => gateway.serve(host, "/.well-known/did.json", didWebDocument({ did, handle, pds, key }))

  const own = await Secp256k1Keypair.create()
  publish(own.did())
  const proof = await serviceToken({
    key: own, iss: did, aud: `did:web:${new URL(pds).hostname}`, lxm: "com.atproto.server.createAccount",
  })
  const body = { ...registration(name), did }
  const { accessJwt } = await xrpc(pds, "com.atproto.server.createAccount", { token: proof, body })
  const wanted = await xrpc(pds, "com.atproto.identity.getRecommendedDidCredentials", { token: accessJwt })
  publish(wanted.verificationMethods.atproto)
  await xrpc(pds, "com.atproto.server.activateAccount", { token: accessJwt, body: null })
  return { did, handle, password: PASSWORD, accessJwt, publish }
}
