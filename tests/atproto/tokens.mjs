// Makes tokens and proofs by hand, so that a test can make exactly the wrong one.
import { createHash, createHmac, createPrivateKey, generateKeyPairSync, randomUUID, sign } from "node:crypto"

const CURVES = { ES256: "P-256", ES256K: "secp256k1" }
const SERVICE_TOKEN_S = 60

const base64url = data => Buffer.from(data).toString("base64url")
export const seconds = () => Math.floor(Date.now() / 1000)
export const sha256 = data => createHash("sha256").update(data).digest("base64url")

/** A JWT of any header and payload; `signer` gives the signature's bytes for the signing input, none for an empty one. */
export async function jwt(header, payload, signer) {
  const input = `${base64url(JSON.stringify(header))}.${base64url(JSON.stringify(payload))}`
  return `${input}.${signer ? base64url(await signer(input)) : ""}`
}

/** Header and payload, unverified. */
export function decode(token) {
  const [header, payload] = token.split(".").slice(0, 2).map(part => JSON.parse(Buffer.from(part, "base64url")))
  return { header, payload }
}

/** The token with one bit changed in the middle of its `part` (0 header, 1 payload, 2 signature). */
export function altered(token, part) {
  const parts = token.split(".")
  const bytes = Buffer.from(parts[part], "base64url")
  bytes[bytes.length >> 1] ^= 1
  parts[part] = base64url(bytes)
  return parts.join(".")
}

/** The token with other claims and the signature that it had. */
export function withClaims(token, claims) {
  const [header, payload, signature] = token.split(".")
  const changed = { ...JSON.parse(Buffer.from(payload, "base64url")), ...claims }
  return [header, base64url(JSON.stringify(changed)), signature].join(".")
}

/** A signing key: a fresh one for `alg` (ES256, ES256K), or the one in a private JWK. */
export function signingKey(algOrJwk) {
  const privateKey = typeof algOrJwk === "string"
    ? generateKeyPairSync("ec", { namedCurve: CURVES[algOrJwk] }).privateKey
    : createPrivateKey({ key: algOrJwk, format: "jwk" })
  const { d, ...jwk } = privateKey.export({ format: "jwk" })
  const { crv, kty, x, y } = jwk
  return {
    alg: crv === "P-256" ? "ES256" : "ES256K",
    jwk,
    privateJwk: { ...jwk, d },
    // RFC 7638: the required members in this order, nothing else.
    thumbprint: sha256(JSON.stringify({ crv, kty, x, y })),
    sign: input => sign("sha256", Buffer.from(input), { key: privateKey, dsaEncoding: "ieee-p1363" }),
  }
}

/** A DPoP proof (RFC 9449) for `token`, right unless `header`, `claims` or `signer` say otherwise. */
export function dpopProof({ key, htm, htu, token, nonce, header, claims, signer = key.sign }) {
  return jwt(
    { typ: "dpop+jwt", alg: key.alg, jwk: key.jwk, ...header },
    { iat: seconds(), jti: randomUUID(), htm, htu, nonce, ath: token && sha256(token), ...claims },
    signer,
  )
}

/** A service-auth JWT signed by `key`, a keypair of `@atproto/crypto`, right unless `header`, `claims` or `signer` say otherwise. */
export function serviceToken({ key, iss, aud, lxm, header, claims, signer = input => key.sign(Buffer.from(input)) }) {
  return jwt(
    { typ: "JWT", alg: key.jwtAlg, ...header },
    { iat: seconds(), exp: seconds() + SERVICE_TOKEN_S, jti: randomUUID(), iss, aud, lxm, ...claims },
    signer,
  )
}

/** Signs with HMAC: what a verifier does that takes the algorithm from the token and a public key for a secret. */
export const hmac = secret => input => createHmac("sha256", secret).update(input).digest()
