// Requests to this server's API, and what it says when it refuses.

const LIMIT_MS = 30_000
/** After so long without a touch or key, what the page asks by itself does not keep the owner signed in. */
const IDLE_MS = 60_000

let touched = Date.now()
for (const kind of ["pointerdown", "keydown", "scroll"]) addEventListener(kind, () => (touched = Date.now()), { capture: true, passive: true })

/** A first word that is code or a name, such as a domain: it means something as it is written. */
const AS_WRITTEN = /^(`|\S*[.:/_]\S)/

/** "like this" to "Like this." */
export const sentence = text =>
  (AS_WRITTEN.test(text) ? text.charAt(0) : text.charAt(0).toUpperCase()) + text.slice(1).replace(/\.$/, "") + (/[!?]$/.test(text) ? "" : ".")

/** A refusal: `code` for programs, `message` for people. */
class Refused extends Error {
  constructor({ error, message, redirect }) {
    super(sentence(message ?? "the server gave no reason"))
    this.code = error
    this.redirect = redirect
  }
}

/** Its JSON. `signed-out` at the document says that the sign-in has ended. */
export async function api(path, method = "GET", body = undefined) {
  const answer = await fetch(path, {
    method,
    body: body && JSON.stringify(body),
    headers: { ...(body && { "content-type": "application/json" }), ...(Date.now() - touched > IDLE_MS && { "groundmist-idle": "1" }) },
    cache: "no-store",
    redirect: "error",
    signal: AbortSignal.timeout(LIMIT_MS),
  }).catch(() => {
    throw new Refused({ error: "no_answer", message: "the server does not answer. Is this device online? Try again in a moment" })
  })
  const data = await answer.json().catch(() => ({ message: `the server answered with ${answer.status}, which says nothing` }))
  if (answer.ok) return data
  if (data.error === "not_signed_in") document.dispatchEvent(new Event("signed-out"))
  throw new Refused(data)
}

export const post = (path, body = {}) => api(path, "POST", body)

/** `/api/documents?a=b` */
export const query = (path, parameters) => `${path}?${new URLSearchParams(parameters)}`

/** Go to an address that the server gave; to none that would run as a script. */
export function go(address) {
  const url = new URL(address, location)
  if (/^(javascript|data|blob|file):/.test(url)) throw new Refused({ message: "the server gave an address that is none" })
  location.assign(url)
}
