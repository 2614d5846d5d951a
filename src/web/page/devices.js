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

function session(session) {
  const { client_id, namespace, read_only, created, expires, address, user_agent } = session
  const [live, seen, at] = [h("p", { class: "live" }), muted(), h("time")]
  const local = !client_id.includes("://")
  const title = local ? session.name : host(client_id)
  const end = async () => {
    await api(`/api/sessions/${encodeURIComponent(session.id)}`, "DELETE")
    say($("sessions"), local ? "Ended the token." : `Ended a session of ${title}.`)
    await refresh()
  }
  const called = () => box(local ? "The token is called" : "The device calls itself", session.name)
  const ask = () => [local ? "End this token?" : `End this session of ${title}?`, called(), local ? "What uses this token is disconnected at once, and cannot come back."
    : "It is disconnected at once. The app stays approved and can sign in again; to keep it out, revoke the app."]
  const node = h("li", { class: "card" }, h("h3", {}, foreign(title)), ...(session.name === title ? [] : [called()]), live,
    p(`${local ? "A token that you made" : "An app"}; it ${read_only ? "reads" : "reads and writes"} `, name(namespace), "."), seen,
    h("details", { class: "fine" }, h("summary", {}, "More", about(`about ${title}`)), ...(local ? [] : [id(client_id)]),
      muted("Let in ", time(created), address ? ` from ${address}` : "", `, until ${day(expires)}.`), ...agent(user_agent)),
    h("div", { class: "actions" }, button("Revoke", title, end, { ask })))
  return [node, ({ connections, last_used }) => {
    live.classList.toggle("on", connections)
    fill(live, connections > 1 ? `Connected now, ${count(connections, "time")}` : connections ? "Connected now" : "Not connected")
    if (last_used) fill(seen, "Last seen ", time(last_used, at), ".")
    else fill(seen, "Not used yet.")
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
