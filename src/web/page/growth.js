// A picture of how what is stored has grown.
import { api, query } from "./api.js"
import { $, h, show } from "./dom.js"
import { bytes, count, day } from "./words.js"

const DAYS = 90
const DAY_MS = 86_400_000
const [WIDTH, HEIGHT] = [600, 120]
let drawn

function svg(tag, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag)
  for (const name in attributes) node.setAttribute(name, attributes[name])
  node.append(...children)
  return node
}

/** All namespaces together, by day; one that a day does not tell of is as it was. */
function totals(points) {
  // Namespaces are not ours to choose.
  const [latest, days] = [Object.create(null), Object.create(null)]
  for (const point of points.toSorted((one, other) => (one.day < other.day ? -1 : 1))) {
    latest[point.namespace] = point
    const sum = what => Object.values(latest).reduce((sum, point) => sum + point[what], 0)
    days[point.day] = { at: Date.parse(`${point.day}T12:00`), size: sum("bytes"), documents: sum("documents") }
  }
  const today = new Date().toISOString().slice(0, 10)
  const last = Object.values(days).at(-1)
  if (last) days[today] ??= { ...last, at: Date.parse(`${today}T12:00`) }
  return Object.values(days)
}

/** Until the day before one that differs all stays as it was: a line between the two would show growth that was not there. */
const steps = days => days.flatMap((now, n) => (n ? [{ ...days[n - 1], at: Math.max(days[n - 1].at, now.at - DAY_MS) }, now] : [now]))

export async function refresh() {
  const { points } = await api(query("/api/growth", { days: DAYS }))
  const text = JSON.stringify(points)
  if (text === drawn) return
  drawn = text
  const days = totals(points)
  const [first, last, figure] = [days[0], days.at(-1), $("growth")]
  show(figure, days.length)
  if (!first) return
  const now = `${count(last.documents, "document")} now`
  if (first === last) return void figure.replaceChildren(h("figcaption", {}, `${bytes(last.size)} in ${now}. From tomorrow on, a picture here shows how it grows.`))
  const most = Math.max(1, ...days.map(({ size }) => size))
  const line = steps(days).map(({ at, size }) => `${Math.round(((at - first.at) / (last.at - first.at)) * WIDTH)},${(HEIGHT - (size / most) * (HEIGHT - 4)).toFixed(1)}`).join(" ")
  const words = `From ${bytes(first.size)} on ${day(first.at)} to ${bytes(last.size)}; ${now}.`
  const axis = (...labels) => h("p", { class: "axis", "aria-hidden": true }, ...labels.map(label => h("span", {}, label)))
  figure.replaceChildren(h("figcaption", {}, words), axis(bytes(most)),
    svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": `Size of all documents by day. ${words}` },
      svg("polygon", { points: `0,${HEIGHT} ${line} ${WIDTH},${HEIGHT}` }),
      svg("polyline", { points: line, "vector-effect": "non-scaling-stroke" })),
    axis(day(first.at), day(last.at)))
}
