// Documents by namespace: how large, how old, by which app; out of the server, into the bin and out of it.
import { api, post, query } from "./api.js"
import { $, about, button, fill, foreign, h, id, keyed, muted, pages, plain, say, section, show, trouble } from "./dom.js"
import * as growth from "./growth.js"
import { bytes, count, day, host, number, time } from "./words.js"

const STEP = 20
/** At once; and at all in other orders than by id. */
const [MOST, MOST_SORTED] = [1000, 100]
/** What draws each namespace that is open. */
const open = new Map()

export const refresh = section("documents", async () => {
  const [{ namespaces }] = await Promise.all([api("/api/namespaces"), growth.refresh()])
  const kept = namespaces.filter(({ documents, deleted }) => documents + deleted)
  keyed($("namespaces"), kept, ({ namespace }) => namespace, part)
  show($("documents-empty"), !kept.length)
  const deleted = namespaces.reduce((sum, { deleted }) => sum + deleted, 0)
  show($("bin"), deleted)
  fill($("bin-count"), `(${number(deleted)})`)
  for (const namespace of open.keys()) if (namespace && !kept.some(known => known.namespace === namespace)) open.delete(namespace)
  await Promise.all([...open.values()].map(draw => draw()))
})

/** Shows at most `limit` documents, or why not; `more` is there if there may be more. */
async function list(node, problem, more, limit, parameters, row) {
  const sorted = "order" in parameters && parameters.order !== "id"
  const most = sorted ? MOST_SORTED : MOST
  try {
    const found = []
    for (let after = {}; after && found.length < limit; ) {
      const { documents, next } = await api(query("/api/documents", { ...parameters, ...after, limit: Math.min(limit - found.length, most) }))
      found.push(...documents)
      after = next && !sorted && { after: next }
    }
    keyed(node, found, path, row)
    show(more, found.length >= limit && !(sorted && limit >= most))
    trouble(problem)
    return found.length
  } catch (error) {
    trouble(problem, error.message)
  }
}

function part({ namespace }) {
  const [size, changed, at, panel] = [h("span"), h("span"), h("time"), h("div", { class: "panel" })]
  const details = h("details", {}, h("summary", {}, h("h3", {}, foreign(namespace)), size, changed), panel)
  let draw
  details.ontoggle = () => {
    if (!details.open) return void open.delete(namespace)
    draw ??= documents(namespace, panel)
    open.set(namespace, draw)
    draw()
  }
  return [h("li", { class: "card namespace" }, details), ({ documents, changes, bytes: taken, modified }) => {
    fill(size, `${count(documents, "document")} · ${bytes(taken)} · ${count(changes, "change")}`)
    if (modified) fill(changed, "Last change ", time(modified, at))
  }]
}

/** What stands under an opened namespace. */
function documents(namespace, panel) {
  let [order, draw] = ["recent"]
  const [problem, rows, note] = [h("p", { class: "problem", role: "alert" }), h("ul", { class: "rows" }), muted("These are a hundred. “All” has every one.")]
  const more = h("button", { type: "button" }, "Show more", about(`of ${namespace}`))
  const choice = (value, label) => {
    const input = h("input", { type: "radio", name: `order-${namespace}`, value })
    input.checked = value === order
    input.onchange = () => {
      order = value
      begin()
      draw()
    }
    return h("label", {}, input, h("span", {}, label))
  }
  const begin = () => {
    draw = pages(more, STEP, rows, async limit => {
      const found = await list(rows, problem, more, limit, { namespace, order }, row)
      show(note, order !== "id" && found === MOST_SORTED)
    })
  }
  begin()
  panel.append(h("fieldset", { class: "choice" }, h("legend", { class: "vh" }, `Order of the documents of ${namespace}`),
    choice("recent", "Latest"), choice("largest", "Largest"), choice("id", "All")), problem, rows, note, h("div", { class: "actions" }, more))
  return () => draw()
}

const path = ({ namespace, document }) => `/api/documents/${namespace}/${document}`

function row(document) {
  const [facts, by, aside, at] = [h("span"), h("span"), h("p", { class: "problem" }), h("time")]
  const name = document.document
  const bin = async () => {
    await api(path(document), "DELETE")
    say($("namespaces"), "Put the document into the bin.")
    await refresh()
  }
  const ask = () => ["Delete this document?", id(name), "It goes into the bin: no app sees it, and no device brings it back. For 30 days you can restore it; then it is gone for ever."]
  const node = h("li", {}, id(name), muted(facts, at, by, "."), aside,
    h("div", { class: "actions" }, h("a", { class: "button", href: `${path(document)}/automerge`, download: `${name}.automerge` }, "Export", about(`document ${name}`)),
      button("Delete", `document ${name}`, bin, { ask })))
  return [node, ({ bytes: taken, changes, modified, written_by, quarantined }) => {
    fill(facts, `${bytes(taken)} · ${count(changes, "change")} · last `)
    time(modified, at)
    fill(by, written_by ? ` by ${host(written_by)}` : "")
    by.title = plain(written_by ?? "")
    trouble(aside, quarantined && `This document is kept aside and not synced: ${quarantined}`)
  }]
}

/** A document in the bin. */
function binned(document) {
  const { namespace, document: name, bytes: taken, deleted, purge_at } = document
  const then = (verb, text) => async () => {
    await post(`${path(document)}/${verb}`)
    say($("deleted"), text)
    await refresh()
  }
  return [h("li", { class: "card" }, id(name), muted(foreign(namespace), ` · ${bytes(taken)} · deleted `, time(deleted), `, gone for ever on ${day(purge_at)}.`),
    h("div", { class: "actions" },
      button("Restore", `document ${name}`, then("restore", "Took the document out of the bin. Your apps have it again.")),
      button("Delete for ever", `document ${name}`, then("purge", "Deleted the document for ever."), {
        ask: () => ["Delete this document for ever?", id(name), "Nobody can bring it back, neither you nor a device that still has it."],
      })))]
}

const drawBin = pages($("bin-more"), STEP, $("deleted"), limit => list($("deleted"), $("bin-problem"), $("bin-more"), limit, { state: "deleted", order: "recent" }, binned))

$("bin").ontoggle = () => {
  if (!$("bin").open) return void open.delete("")
  open.set("", drawBin)
  drawBin()
}
