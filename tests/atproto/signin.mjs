// Signs in and consents at a PDS as its own page does, without a browser.
import { request } from "node:https"
import { getCACertificates } from "node:tls"

const API = "/@atproto/oauth-provider/~api"

// Not fetch: a page's requests carry Sec-Fetch headers, which fetch does not let one set.
function ask(url, { method = "GET", headers, body } = {}) {
  return new Promise((done, failed) => {
    const asked = request(url, { method, headers, agent: false, ca: getCACertificates("default") }, answer => {
      let text = ""
      answer.setEncoding("utf8").on("data", data => (text += data)).on("error", failed)
      answer.on("end", () => done({ status: answer.statusCode, headers: answer.headers, text }))
    })
    asked.on("error", failed)
    asked.end(body)
  })
}

class Cookies {
  #jar = new Map()
  take(headers) {
    for (const line of headers["set-cookie"] ?? []) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(line)
      this.#jar.set(name, value)
    }
  }
  get(name) {
    return decodeURIComponent(this.#jar.get(name) ?? "")
  }
  get header() {
    return [...this.#jar].map(([name, value]) => `${name}=${value}`).join("; ")
  }
}

/** Do what the owner of `account` does on the authorization page `page`; the parameters that the app's callback gets. */
export async function signIn(page, account) {
  const cookies = new Cookies()
  const shown = await ask(page, {
    headers: { "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document" },
  })
  if (shown.status !== 200) throw new Error(`the authorization page answered ${shown.status}: ${shown.text.slice(0, 500)}`)
  cookies.take(shown.headers)

  const api = async (endpoint, input, bearer) => {
    const answer = await ask(new URL(API + endpoint, page), {
      method: "POST",
      headers: {
        "content-type": "application/json",
        cookie: cookies.header,
        origin: page.origin,
        referer: page.href,
        "sec-fetch-site": "same-origin",
        "sec-fetch-mode": "same-origin",
        "sec-fetch-dest": "empty",
        "x-csrf-token": cookies.get("csrf-token"),
        ...(bearer && { authorization: `Bearer ${bearer}` }),
      },
      body: JSON.stringify(input),
    })
    cookies.take(answer.headers)
    if (answer.status !== 200) throw new Error(`${endpoint}: ${answer.status} ${answer.text}`)
    return JSON.parse(answer.text)
  }
  const { ephemeralToken } = await api("/sign-in", { locale: "en", username: account.handle, password: account.password })
  const { url } = await api("/consent", { did: account.did }, ephemeralToken)
  const { searchParams } = new URL(url)
  searchParams.delete("redirect_mode")
  searchParams.delete("redirect_uri")
  return searchParams
}
