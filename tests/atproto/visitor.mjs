// A browser as far as signing in goes: it keeps cookies, says from which page it asks, and follows no redirect by itself.
import { Answer } from "./app.mjs"

const SESSION = /^(__Host-)?groundmist$/

export class Visitor {
  /** Name to value. */
  cookies = new Map()
  /** The `Set-Cookie` lines so far. */
  lines = []

  constructor(origin, remember = () => {}) {
    this.origin = origin
    this.remember = remember
  }

  /** One request; `headers` may replace the right ones, or take them out (undefined). */
  async ask(path, { method = "GET", body, headers } = {}) {
    const all = {
      cookie: [...this.cookies].map(([name, value]) => `${name}=${value}`).join("; ") || undefined,
      ...(method !== "GET" && { origin: this.origin, "sec-fetch-site": "same-origin" }),
      ...(body !== undefined && { "content-type": "application/json" }),
      ...headers,
    }
    const present = Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined))
    const response = await fetch(new URL(path, this.origin), {
      method, headers: present, redirect: "manual", body: body === undefined ? undefined : JSON.stringify(body),
    })
    for (const line of response.headers.getSetCookie()) {
      this.lines.push(line)
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(line)
      if (/max-age=0(;|$)/i.test(line)) this.cookies.delete(name)
      else {
        this.cookies.set(name, value)
        this.remember(value)
      }
    }
    return Answer.of(response)
  }

  /** Begin to sign in. */
  begin(returnTo = "/", headers) {
    return this.ask("/oauth/sign-in", { method: "POST", body: { return_to: returnTo }, headers })
  }

  /** Come back from the PDS: where to it leads. */
  async callback(parameters) {
    for (const name of ["code", "state"]) if (parameters.get(name)) this.remember(parameters.get(name))
    const answer = await this.ask(`/oauth/callback?${parameters}`, {
      headers: { "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document" },
    })
    if (answer.status !== 303) throw new Error(`callback: ${answer.status} ${answer.text}`)
    return answer.headers.get("location")
  }

  /** The cookie of a sign-in, if it has one. */
  get session() {
    return [...this.cookies].find(([name]) => SESSION.test(name))?.[1]
  }

  /** Status of a request for what only the owner sees. */
  async me() {
    const answer = await this.ask("/api/me")
    return answer.status === 200 ? answer.body.did : answer.status
  }
}
