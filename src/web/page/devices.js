// Sessions: each app on each device, and tokens for devices without one.
import { api, post } from "./api.js"
import { $, about, act, agent, box, button, fill, foreign, h, id, keyed, muted, name, p, pages, say, section, show } from "./dom.js"
import { origin } from "./status.js"
import { count, day, host, time } from "./words.js"

const STEP = 20
let all = []

const draw = pages($("sessions-more"), STEP, $("sessions"), limit => {
  show($("devices-empty"), !all.length)
  keyed($("sessions"), all.slice(0, limit), ({ id }) => id, session)
  show($("sessions-more"), all.length > limit)
})

export const refresh = section("devices", async () => {
  all = (await api("/api/sessions")).sessions
  const used = session => session.last_used ?? session.created
  all.sort((one, other) => (other.connections > 0) - (one.connections > 0) || used(other) - used(one))
  draw()
})

function session({ id: key, name: first, client_id, namespace, created }) {
  const [live, may, seen, copied, heading, owned, fine, program] = [h("p", { class: "live" }), p(), muted(), p(), h("h3"), h("div"), muted(), h("div")]
  const [at, since, again] = [h("time"), h("time"), h("time")]
  const local = !client_id.includes("://")
  let called = first
  const title = () => local ? called : host(client_id)
  const end = async () => {
    await api(`/api/sessions/${encodeURIComponent(key)}`, "DELETE")
    say($("sessions"), local ? "Ended the token." : `Ended the session of ${title()}.`)
    await refresh()
  }
  const own = () => box(local ? "The token is called" : "The device calls itself", called)
  const ask = () => [local ? "End this token?" : `End this session of ${title()}?`, own(), local ? "What uses this token is disconnected at once, and cannot come back."
    : "It is disconnected at once. The app stays approved and can sign in again; to keep it out, revoke the app."]
  const node = h("li", { class: "card" }, heading, owned, live, copied, may, seen,
    h("details", { class: "fine" }, h("summary", {}, "More", about(`about ${title()}`)), ...(local ? [] : [id(client_id)]), fine, program),
    h("div", { class: "actions" }, button("Revoke", title(), end, { ask })))
  // A device has one session, which its next authentication renews: all but where and when it began may change.
  return [node, now => {
    called = now.name
    fill(heading, foreign(title()))
    fill(owned, ...(called === title() ? [] : [own()]))
    live.classList.toggle("on", now.connections)
    fill(live, now.connections > 1 ? `Connected now, ${count(now.connections, "time")}` : now.connections ? "Connected now" : "Not connected")
    show(copied, Boolean(now.copied))
    if (now.copied) fill(copied, `This token may have been copied: it was in use from ${now.copied.addresses.join(" and ")} at once. Unless you know both as yours, revoke it.`)
    fill(may, `${local ? "A token that you made" : "An app"}; it ${now.read_only ? "reads" : "reads and writes"} `, name(namespace), ".")
    if (now.last_used) fill(seen, "Last seen ", time(now.last_used, at), ".")
    else fill(seen, "Not used yet.")
    fill(fine, "Let in ", time(created, since), ...(now.authenticated ? [", last signed in ", time(now.authenticated, again)] : []),
      now.address ? ` from ${now.address}` : "", `, until ${day(now.expires)}.`)
    fill(program, ...agent(now.user_agent))
  }]
}

$("token-new").onclick = () => {
  $("token-form").reset()
  $("token-form").querySelector(".failed")?.remove()
  show($("token-form"))
  show($("token-made"), false)
  $("token").showModal()
}

$("token").onclose = () => {
  $("token-text").value = ""
  $("token-new").focus()
}

$("token-form").onsubmit = event => {
  event.preventDefault()
  act($("token-make"), async () => {
    const { token, session } = await post("/api/tokens", {
      name: $("token-name").value.trim(),
      namespace: $("token-namespace").value.trim(),
      read_only: $("token-read-only").checked,
    })
    show($("token-form"), false)
    show($("token-made"))
    $("token-text").value = token
    fill($("token-address"), `${origin().replace(/^http/, "ws")}/`)
    fill($("token-expires"), day(session.expires))
    fill($("token-said"))
    $("token-made-title").focus()
    await refresh()
  })
}

$("token-cancel").onclick = $("token-done").onclick = () => $("token").close()

$("token-copy").onclick = async () => {
  $("token-text").select()
  const copied = await navigator.clipboard.writeText($("token-text").value).then(() => true, () => false)
  fill($("token-said"), copied ? "Copied." : "Your browser does not let this page copy: copy it yourself.")
}
