// A PDS that vouches for tokens which it did not make: whoever trusts it alone lets them in.
import { dpopProof, hmac, jwt, seconds, signingKey } from "./tokens.mjs"

/** Access tokens with claims of our choice, right for `account` and `app` but for what `mint` is told, and a PDS that stands by them. */
export class Liar {
  #genuine = new Set()
  key = signingKey("ES256")

  constructor(lab, app, account) {
    this.lab = lab
    this.claims = {
      jti: "tok-0123456789abcdef0123456789abcdef",
      sub: account.did,
      aud: lab.pdsDid,
      iss: lab.pds,
      client_id: app.clientId,
      cnf: { jkt: this.key.thumbprint },
    }
    /** Ends it. */
    this.stop = lab.gateway.fault(lab.pdsHost, (request, response) => this.#answer(request, response))
  }

  /** A token that the PDS will call genuine, with the key that proves it. */
  async mint({ header, claims, signer = hmac("the liar's") } = {}) {
    const token = await jwt(
      { typ: "at+jwt", alg: "HS256", ...header },
      { ...this.claims, iat: seconds(), exp: seconds() + 3600, ...claims },
      signer,
    )
    this.#genuine.add(token)
    return { token, key: this.key }
  }

  /** From now on the PDS calls this one forged. */
  disown(session) {
    this.#genuine.delete(session.token)
    return session
  }

  /** A proof for the PDS, as the relay wants it. */
  pdsProof(token) {
    const htu = `${this.lab.pds}/xrpc/com.atproto.server.getSession`
    return dpopProof({ key: this.key, htm: "GET", htu, token })
  }

  /** As whom it says that the token's bearer is signed in. */
  did = undefined
  /** What its authorization server publishes as its keys, if it is to publish any. */
  keys = undefined

  #answer(request, response) {
    const answer = (status, body) =>
      void response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body))
    if (this.keys && request.url === "/oauth/jwks") return answer(200, { keys: this.keys })
    if (!request.url.startsWith("/xrpc/com.atproto.server.getSession")) return false
    const token = request.headers.authorization?.replace(/^DPoP /, "")
    if (!this.#genuine.has(token)) answer(401, { error: "invalid_token", message: "Malformed token" })
    else if (!request.headers.dpop) answer(401, { error: "invalid_dpop_proof", message: "DPoP proof required" })
    else answer(200, { did: this.did === undefined ? this.claims.sub : this.did, handle: "ada.lab.test", active: true })
  }
}
