// Apps: those that wait for the owner's decision, and those that have it.
import { api, post } from "./api.js"
import { $, about, agent, button, fill, focus, foreign, h, id, keyed, look, muted, name, p, say, section, settle, show } from "./dom.js"
import { count, host, loopback, number, time } from "./words.js"

const isIn = ({ decision }) => decision.startsWith("read_")
let heard
for (const part of ["waiting", "approved", "refused"]) settle($(part))

export const refresh = section("apps", async () => {
  const { apps, pending } = await api("/api/apps")
  const lists = { waiting: pending, approved: apps.filter(isIn), refused: apps.filter(app => !isIn(app)) }
  for (const part in lists) {
    show($(`${part}-part`), lists[part].length)
    keyed($(part), lists[part], ({ decision, namespace, client_id }) => [decision, namespace, client_id].join("\n"), app => (app.decision ? decided(app) : waiting(app)))
  }
  fill($("refused-count"), `(${number(lists.refused.length)})`)
  show($("apps-empty"), !pending.length && !lists.approved.length)
  attention(pending)
})

/** In the navigation, in the tab's title, and aloud for a new one. */
function attention(pending) {
  const n = pending.length
  show($("badge"), n)
  fill($("badge"), number(n), about("waiting for you"))
  document.title = `${n ? `(${n}) ` : ""}Groundmist Sync`
  const last = pending.at(-1)
  if (last?.number > heard) fill($("announce"), `An app asks to be let in: ${host(last.client_id)}`)
  heard = last?.number ?? heard ?? 0
}

/** Does something about an app on the card `node`, and says what `work()` gives. */
async function act(node, work) {
  const list = node.closest("ul")
  say(list, await work())
  const held = node.contains(document.activeElement)
  await refresh()
  if (held) focus(node, list)
}

const decide = (node, { client_id, namespace }, verb, read_only) => act(node, async () => {
  const { sessions_ended } = await post(`/api/apps/${verb}`, { client_id, namespace, read_only })
  const done = { deny: "Denied APP.", revoke: "Took back the approval of APP." }[verb] ?? `Let APP in, to read${read_only ? " only" : " and write"}.`
  return done.replace("APP", () => host(client_id)) + (sessions_ended ? ` ${count(sessions_ended, "session")} ended.` : "")
})

const OFFERED = "the next document that one of them offers"
const STARTS = { held: "the document", awaited: "a document that has not arrived yet", lapsed: `${OFFERED}, not from this one, which never arrived`, deleted: `${OFFERED}, not from this one, which you deleted` }

/** What an app's devices start from, on the card that `node()` is. */
function start(node, { client_id, namespace }) {
  const [words, url] = [muted(), h("p", { class: "id" })]
  const forget = () => act(node(), async () => {
    const { next } = await post("/api/apps/forget-root", { client_id, namespace })
    return `Devices of ${host(client_id)} now start from ${next ?? OFFERED}.`
  })
  const ask = () => [`Forget where ${host(client_id)} starts?`, id(url.textContent),
    `Its devices then start from another stored document that was offered, or else from ${OFFERED}. They may not show this one any more; it stays here.`]
  const part = h("div", {}, words, url, h("div", { class: "actions" }, button("Forget", `where ${host(client_id)} starts in ${namespace}`, forget, { ask })))
  return [part, root => {
    show(part, root)
    if (!root) return
    fill(words, `Its devices start from ${look(STARTS, root.state)}:`)
    fill(url, foreign(root.url))
  }]
}

/** What is the same for all. */
function card(app, kind, ...content) {
  const warning = loopback(app.client_id)
  return h("li", { class: `card ${kind}` }, h("h4", {}, foreign(host(app.client_id))), id(app.client_id), ...(warning ? [muted(warning)] : []), ...content)
}

/** Buttons for decisions about `app`, on the card that `node()` is. */
function choices(node, app) {
  const { client_id, namespace } = app
  const detail = `${host(client_id)} in ${namespace}`
  const press = (label, verb, read_only, options) => button(label, detail, () => decide(node(), app, verb, read_only), options)
  const asked = (...words) => ({ ask: () => [words[0], id(client_id), words[1]] })
  return {
    approve: (label, read_only, kind) => press(label, "approve", read_only, { kind }),
    deny: () => press("Deny", "deny", false, asked(`Deny ${host(client_id)}?`, "From now on it is turned away without asking you. You can change that later.")),
    revoke: () => press("Revoke", "revoke", false, asked(`Take back the approval of ${host(client_id)}?`, "It is disconnected at once on all your devices. Your documents stay here.")),
  }
}

const may = (read_only, namespace) => [read_only ? "read" : "read and write", " the documents of ", name(namespace)]

function waiting(app) {
  const [asked, runs, last, first] = [muted(), h("div"), h("time"), h("time")]
  const { approve, deny } = choices(() => node, app)
  const node = card(app, "new",
    p("It wants to ", ...may(app.read_only, app.namespace), "."), asked, runs,
    h("div", { class: "actions" }, approve("Approve", app.read_only, "main"), ...(app.read_only ? [] : [approve("Approve, read only", true)]), deny()))
  return [node, ({ first_asked, last_asked, count: times, address, user_agent }) => {
    time(first_asked, first)
    time(last_asked, last)
    fill(asked, ...(times > 1 ? ["Asked first ", first, ", last "] : ["Asked "]), last,
      `${times > 1 ? `, ${number(times)} times` : ""}${address ? `, from ${address}` : ""}.`)
    fill(runs, ...agent(user_agent))
  }]
}

/** One for each decision: another is another card. */
function decided(app) {
  const { decision, namespace } = app
  const [read_only, denied, use] = [decision === "read_only", decision === "denied", muted()]
  const { approve, revoke } = choices(() => node, app)
  const since = time(app.decided)
  const [begins, begin] = start(() => node, app)
  const node = card(app, "", ...(isIn(app)
    ? [p("It may ", ...may(read_only, namespace), ". Approved ", since, "."), use, begins,
      h("div", { class: "actions" }, approve(read_only ? "Let it write too" : "Make it read only", !read_only), revoke())]
    : [p(denied ? "You denied it in " : "You took its approval back in ", name(namespace), ", ", since, "."),
      muted(denied ? "It is turned away without asking you." : "If it asks again, it waits for you again."),
      h("div", { class: "actions" }, approve("Approve", false), approve("Approve, read only", true))]))
  return [node, ({ sessions, connections, root_document }) => {
    fill(use, `${sessions ? `Signed in on ${count(sessions, "device")}` : "Not signed in anywhere"}, ${connections ? `${count(connections, "connection")} open now` : "not connected now"}.`)
    begin(root_document)
  }]
}
