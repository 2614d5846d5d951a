// How the server is, in one sentence, and the facts behind it.
import { api, go, post, sentence } from "./api.js"
import { $, button, fill, h, keyed, p, plain, rich, section, show } from "./dom.js"
import { bytes, count, day, host, number, relative, time } from "./words.js"

/** Where devices reach the server. */
export const origin = () => reached
let reached = location.origin

export const refresh = section("status", async () => {
  const status = await api("/api/status")
  reached = status.origin ?? reached
  const { domain, owner, warnings } = status
  fill($("domain"), [domain ?? location.host, owner.handle && `@${plain(owner.handle)}`].filter(Boolean).join(" · "))
  const grave = warnings[0]?.grave ?? false
  $("state").classList.toggle("trouble", grave)
  fill($("state"), ...(warnings.length ? [] : [h("p", { class: "sentence" }, "All is well.")]), ...warnings.map((found, n) => warning(found, grave && !n ? "sentence" : "what")))
  keyed($("facts"), facts(status), ([name]) => name, fact)
})

const warning = ({ code, message, fix, retry }, kind) => h("div", { class: "warning" }, h("p", { class: kind }, ...rich(sentence(message))), ...(fix ? [p(...rich(sentence(fix)))] : []), ...(retry ? [again(retry, code)] : []))

/** The server forgets what went wrong with a document, and opens it again when it needs to. */
function again({ namespace, document }, code) {
  const work = async () => {
    await post(`/api/documents/${namespace}/${document}/retry`)
    await refresh()
  }
  return h("div", { class: "actions" }, button(code === "message_too_large" ? "Forget this warning" : "Try again", `document ${document}`, work))
}

function certificate({ mode, valid_until, renewal_due, ordering, last_error, next_attempt }) {
  if (mode === "off") return ["None here", "Encryption is done in front of this server, if at all."]
  const detail = last_error ? sentence(last_error) + (next_attempt ? ` The next attempt is ${relative(next_attempt)}.` : "")
    : renewal_due ? `It renews itself from ${day(renewal_due)} on.` : ""
  if (!valid_until) return [ordering ? "Being ordered" : "None yet", detail]
  return [`${valid_until > Date.now() ? "Valid until" : "Expired on"} ${day(valid_until)}`, detail]
}

/** The third says whether it can be published. */
function record({ domain, record: { state, host, reason } = {} }) {
  if (!domain) return ["Not published", "This server has no name on the internet."]
  if (state === "published") return ["Published", "Your account tells your apps that their server is here."]
  if (state === "other") return ["Another server", `Your account sends your apps to ${host ?? "another server"}.`, true]
  if (state === "missing") return ["Not published", "Your apps cannot find this server until your account says where it is.", true]
  return reason ? ["Not known", sentence(reason), true] : ["Not known yet", "Your account is being asked."]
}

function backup({ last, running, last_error }) {
  return [last ? ["Made ", time(last.created)] : ["None yet"],
    running ? "One is being made now."
    : last_error ? `The latest attempt came to nothing. ${sentence(last_error)}`
    : last ? `${count(last.documents, "document")} in ${bytes(last.bytes)}.`
    : "Make one on the server with `sudo groundmist-sync backup FILE`."]
}

/** Who has so much open that it is worth a sentence. */
function holders([most]) {
  return most?.bytes >= 1e6 ? ` ${host(most.client)} has the most open on one device, ${bytes(most.bytes)}.` : ""
}

/** Each a name, a value, what there is to say of it, whether it can be published. */
function facts(status) {
  const { disk, engine, storage, version } = status
  return [
    ["Connected now", count(engine.connections, "connection"), ""],
    ["Documents", number(storage.documents), `${bytes(storage.file_bytes)} on disk.`],
    disk.total_bytes && ["Disk", `${bytes(disk.free_bytes)} free`, `Of ${bytes(disk.total_bytes)}.`],
    ["Certificate", ...certificate(status.certificate)],
    ["Address in your account", ...record(status)],
    ["Last backup", ...backup(status.backup)],
    ["Memory", bytes(status.rss_bytes), `Documents use ${bytes(engine.memory.graphs)} and what apps have open ${bytes(engine.memory.connections)}, of the ${bytes(status.memory_budget_bytes)} they may. Messages that wait use ${bytes(engine.memory.incoming + engine.memory.decoding)}, and those to be sent ${bytes(engine.memory.outgoing)}.${holders(engine.largest_holders)}`],
    ["Version", version, ["Running since ", time(Date.now() - status.uptime_seconds * 1000), "."]],
  ].filter(Boolean)
}

function fact([name]) {
  const [value, detail] = [h("p", { class: "value" }), h("p", { class: "detail" })]
  const node = h("dd", {}, value, detail)
  let publish
  return [h("div", {}, h("dt", {}, name), node), ([, what, more, publishable]) => {
    const nodes = parts => [parts].flat().flatMap(part => (part.nodeType ? part : rich(part)))
    fill(value, ...nodes(what))
    fill(detail, ...nodes(more))
    if (publishable && !publish) node.append(publish = h("div", { class: "actions" }, button("Publish", "the address of this server", async () => go((await post("/oauth/publish")).redirect))))
    if (publish) show(publish, publishable)
  }]
}
