// Whether an app is let in. Goes nowhere but where this server says, and only when the owner has pressed something.
import { api, go, post } from "./api.js"
import { $, box, button, fill, foreign, h, look, muted, name, plain, rich, settle, show } from "./dom.js"
import { door } from "./sign_in.js"
import { host, loopback } from "./words.js"

// Browsers leave a backslash as it is; the server takes it for what it may become, a slash.
const query = location.search.slice(1).replaceAll("\\", "%5C")

const [IN, OUT] = ["You have let this app in before", "You have turned this app away before, which no longer counts if you approve it now."]
const BEFORE = { read_write: `${IN}.`, read_only: `${IN}, to read only.`, denied: OUT, revoked: OUT }
/** Here a denial decides nothing for later, unlike one on the owner's page. */
const DENIAL = "Deny sends the app away this time;"
const [STAYS_IN, STAYS_OUT] = [`${DENIAL} where it is in already, it stays in. To shut it out, revoke it on this server’s page.`, `${DENIAL} what you decided before stays.`]
const AFTER = { read_write: STAYS_IN, read_only: STAYS_IN, denied: STAYS_OUT, revoked: STAYS_OUT }
/** An approval is for the app on all its devices. */
const OTHERS = {
  read_write: "Approve, read only: that takes writing from this app on your other devices too.",
  read_only: "Approve: that gives writing to this app on your other devices too.",
}

function only(id) {
  for (const part of ["signed-out", "refused", "consent", "loading"]) show($(part), part === id)
}

function refuse({ message, redirect }) {
  only("refused")
  fill($("refused-why"), ...rich(message))
  if (redirect) fill($("refused-back"), button("Go back to the app", where(redirect), () => go(redirect)))
}

/** An address for people: its host, or the scheme of an app on this device. */
function where(address) {
  const { protocol, host } = new URL(address)
  return host && protocol.startsWith("http") ? host : `an app on this device (${plain(protocol)})`
}

function ask({ client_id, client_name, redirect_uri, namespace, access, decision }) {
  only("consent")
  fill($("app-host"), foreign(host(client_id)))
  fill($("client-id"), foreign(client_id))
  if (client_name) fill($("client-name"), box("The app calls itself", client_name), muted("Anybody can choose any name. The address above is what tells apps apart."))
  const read = access === "read"
  fill($("wants"), h("strong", {}, read ? "read" : "read and change"), " all documents of ", name(namespace), ". It sees nothing else.")
  fill($("back"), foreign(where(redirect_uri)))
  fill($("before"), `${look(BEFORE, decision) ?? ""} ${loopback(client_id)}`.trim())
  fill($("others"), read ? "" : (look(OTHERS, decision) ?? ""))
  fill($("denial"), look(AFTER, decision) ?? `${DENIAL} it may ask again.`)
  const choose = (label, decision, read_only, kind) => button(label, host(client_id), async () => {
    try {
      go((await post("/api/connect", { query, decision, read_only })).redirect)
    } catch (error) {
      if (!error.redirect) throw error
      refuse(error)
    }
  }, { kind })
  fill($("choices"), choose("Approve", "approve", read, "main"), ...(read ? [] : [choose("Approve, read only", "approve", true)]), choose("Deny", "deny", false))
}

settle($("choices"))

document.addEventListener("signed-out", () => {
  door($("consent").hidden ? null : "Your sign-in has ended. Sign in again to go on.", `${location.pathname}?${query}`)
  only("signed-out")
})

api("/api/me").then(() => api(`/api/connect?${query}`)).then(ask).catch(error => error.code === "not_signed_in" || refuse(error))
