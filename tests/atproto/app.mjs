// A pretend Groundmist app: signs in with the real OAuth client, and asks a sync server in as today's and new apps do.
import { JoseKey, NodeOAuthClient, requestLocalLock } from "@atproto/oauth-client-node"
import { randomUUID } from "node:crypto"
import { signIn } from "./signin.mjs"
import { dpopProof, jwt, seconds, signingKey } from "./tokens.mjs"

export const METHOD = "xyz.groundmist.sync.authenticate"
const SCOPE = "atproto transition:generic"
const ATTESTATION_S = 60

const memory = () => {
  const map = new Map()
  return { get: key => map.get(key), set: (key, value) => void map.set(key, value), del: key => void map.delete(key) }
}

/** An app at `https://NAME.lab.internal`, with its metadata there; a confidential one also publishes its keys. */
export class App {
  static async create(lab, name, { confidential = false } = {}) {
    const app = new App()
    app.lab = lab
    const origin = `https://${name}.lab.internal`
    app.clientId = `${origin}/client-metadata.json`
    const metadata = {
      client_id: app.clientId,
      client_name: name,
      client_uri: origin,
      redirect_uris: [`${origin}/callback`],
      scope: SCOPE,
      grant_types: ["authorization_code", "refresh_token"],
      response_types: ["code"],
      application_type: "web",
      token_endpoint_auth_method: "none",
      dpop_bound_access_tokens: true,
    }
    if (confidential) {
      app.key = signingKey("ES256")
      app.kid = `${name}-1`
      Object.assign(metadata, {
        token_endpoint_auth_method: "private_key_jwt",
        token_endpoint_auth_signing_alg: "ES256",
        jwks_uri: `${origin}/jwks.json`,
      })
      lab.gateway.serve(new URL(origin).host, "/jwks.json", { keys: [{ ...app.key.jwk, kid: app.kid, use: "sig", alg: "ES256" }] })
      app.keyset = [await JoseKey.fromJWK({ ...app.key.privateJwk, kid: app.kid, alg: "ES256", key_ops: ["sign"] })]
    }
    lab.gateway.serve(new URL(origin).host, "/client-metadata.json", metadata)
    app.metadata = metadata
    return app
  }

  /** The owner of `account` signs in to this app on a device of its own, and consents. */
  async signIn(account) {
    const store = memory()
    const client = new NodeOAuthClient({
      clientMetadata: this.metadata,
      keyset: this.keyset,
      stateStore: memory(),
      sessionStore: store,
      plcDirectoryUrl: this.lab.plc,
      handleResolver: this.lab.pds,
      requestLock: requestLocalLock,
    })
    const page = await client.authorize(account.did, { scope: SCOPE })
    const { session } = await client.callback(await signIn(page, account))
    return new Session(this, session, store)
  }

  /** The app's own word that a request is from it: a signed JWT for `aud`. */
  attestation(aud, { key = this.key, kid = this.kid, claims, header } = {}) {
    return jwt(
      { typ: "atproto-client-attestation+jwt", alg: key.alg, kid, ...header },
      { iss: this.clientId, sub: this.clientId, aud, iat: seconds(), exp: seconds() + ATTESTATION_S, jti: randomUUID(), ...claims },
      key.sign,
    )
  }
}

/** One account signed in to one app on one device. */
export class Session {
  #store

  constructor(app, oauth, store) {
    this.app = app
    this.#store = store
    this.oauth = oauth
    this.did = oauth.did
  }

  /** The access token as it is now. */
  get token() {
    return this.#store.get(this.did).tokenSet.access_token
  }

  /** The key that the token is bound to, to make proofs by hand. */
  get key() {
    return signingKey(this.#store.get(this.did).dpopJwk)
  }

  /** Whether the client library still holds the session; it drops it when a server cries `invalid_token`. */
  get kept() {
    return this.#store.get(this.did) !== undefined
  }

  async refresh() {
    await this.oauth.getTokenSet(true)
  }

  /** Revoke at the PDS, keeping what a thief might have kept. */
  async revoke() {
    await this.oauth.server.revoke(this.token)
  }

  /** `POST path` to `server` as today's apps do, with all that the client library does by itself. */
  async post(server, body, path = "/authenticate") {
    return Answer.of(await this.oauth.fetchHandler(new URL(path, server).href, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    }))
  }

  /** A second proof by the same key, for the server to show to the PDS. */
  pdsProof(nonce) {
    const htu = `${this.app.lab.pds}/xrpc/com.atproto.server.getSession`
    return dpopProof({ key: this.key, htm: "GET", htu, token: this.token, nonce })
  }

  /** `post` with a `pdsProof`, once more if the PDS wanted its nonce in it. */
  async postWithProof(server, body) {
    const first = await this.post(server, { ...body, pdsProof: await this.pdsProof() })
    const nonce = first.body?.nonce
    return nonce ? this.post(server, { ...body, pdsProof: await this.pdsProof(nonce) }) : first
  }

  /** A service-auth token for `aud`, made by the PDS. */
  async serviceAuth(aud, lxm = METHOD) {
    const query = new URLSearchParams({ aud, lxm })
    const answer = await this.oauth.fetchHandler(`/xrpc/com.atproto.server.getServiceAuth?${query}`)
    const { token, message } = await answer.json()
    if (!token) throw new Error(`getServiceAuth: ${answer.status} ${message}`)
    return token
  }
}

/** What a server said: `status`, `headers`, and `body` parsed. */
export class Answer {
  static async of(response) {
    const answer = new Answer()
    answer.status = response.status
    answer.headers = response.headers
    answer.text = await response.text()
    try {
      answer.body = JSON.parse(answer.text)
    } catch {
      answer.body = undefined
    }
    return answer
  }
}

/** `POST path` to `server` with an `Authorization` of one's choice. */
export async function post(server, { authorization, dpop, body, path = "/authenticate" }) {
  const headers = { "content-type": "application/json" }
  if (authorization) headers.authorization = authorization
  if (dpop) headers.dpop = dpop
  return Answer.of(await fetch(new URL(path, server), { method: "POST", headers, body: JSON.stringify(body) }))
}
