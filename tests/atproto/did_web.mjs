// DID documents as a careless host may write them: the key that counts is not the first one.
import { P256Keypair } from "@atproto/crypto"

const decoy = (await P256Keypair.create()).did()

/** A did:web's document; `key` is its signing key as did:key. A decoy comes first, and another service before the PDS. */
export function didWebDocument({ did, handle, pds, key }) {
  const entry = (id, key) =>
    ({ id: `${did}#${id}`, type: "Multikey", controller: did, publicKeyMultibase: key.replace("did:key:", "") })
  return {
    "@context": ["https://www.w3.org/ns/did/v1", "https://w3id.org/security/multikey/v1"],
    id: did,
    alsoKnownAs: [`at://${handle}`],
    verificationMethod: [entry("other", decoy), entry("atproto", key)],
    service: [
      { id: "#elsewhere", type: "Elsewhere", serviceEndpoint: "https://elsewhere.lab.internal" },
      { id: "#atproto_pds", type: "AtprotoPersonalDataServer", serviceEndpoint: pds },
    ],
  }
}
