// What happened, in sentences.
import { api } from "./api.js"
import { $, fill, foreign, h, id, keyed, muted, p, pages, section, show } from "./dom.js"
import { happened, number, time } from "./words.js"

const STEP = 15
let all = []

const draw = pages($("events-more"), STEP, $("events"), limit => {
  show($("activity-empty"), !all.length)
  keyed($("events"), all.slice(0, limit), ({ what, n, at }) => `${what} ${n} ${at}`, event)
  show($("events-more"), all.length > limit)
})

export const refresh = section("activity", async () => {
  all = (await api("/api/audit")).events.reverse()
  draw()
})

function event(event) {
  const { namespace, client_id, document } = event
  const [often, where, at] = [h("span"), h("span"), h("time")]
  const node = h("li", { tabindex: -1 }, p(happened(event), often),
    muted(at, ...(namespace ? [" · ", foreign(namespace)] : []), where), ...(client_id?.includes("://") ? [id(client_id)] : []), ...(document ? [id(document)] : []))
  return [node, ({ last, count, address }) => {
    time(last, at)
    fill(often, count > 1 ? ` ${number(count)} times within an hour.` : "")
    fill(where, address ? ` · from ${address}` : "")
  }]
}
