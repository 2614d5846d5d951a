// Numbers, times and events in words.
import { fill, h, look, plain } from "./dom.js"

const DAY_MS = 86_400_000
const UNITS = [["year", 365 * DAY_MS], ["month", 30 * DAY_MS], ["week", 7 * DAY_MS], ["day", DAY_MS], ["hour", 3_600_000], ["minute", 60_000]]
const numbers = new Intl.NumberFormat("en")
const spans = new Intl.RelativeTimeFormat("en", { numeric: "auto" })
const days = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium" })
const moments = new Intl.DateTimeFormat("en-GB", { dateStyle: "full", timeStyle: "long" })

export const number = n => numbers.format(n)

/** "1 device", "2,000 devices". */
export const count = (n, one) => `${number(n)} ${one}${n === 1 ? "" : "s"}`

export function bytes(n) {
  let unit = 0
  for (; n >= 999.5 && unit < 4; unit++) n /= 1000
  return `${n.toFixed(unit && n < 9.95 ? 1 : 0)} ${["bytes", "kB", "MB", "GB", "TB"][unit]}`
}

export const day = ms => days.format(ms)

export function relative(ms) {
  const away = ms - Date.now()
  const [unit, size] = UNITS.find(([, size]) => Math.abs(away) >= size) ?? []
  return unit ? spans.format(Math.trunc(away / size), unit) : away > 0 ? "in a moment" : "just now"
}

/** How long ago, and when exactly to whoever points at it; it stays true while time passes. */
export function time(ms, node = h("time")) {
  node.ms = ms
  node.dateTime = new Date(ms).toISOString()
  node.title = moments.format(ms)
  fill(node, relative(ms))
  return node
}

setInterval(() => {
  for (const node of document.querySelectorAll("time")) fill(node, relative(node.ms))
}, 20_000)

/** What an app is called for short: the host of its client_id, never what it calls itself. */
export function host(client_id) {
  if (client_id.startsWith("local:")) return client_id === "local:import" ? "a file" : "a device with a token"
  return (URL.canParse(client_id) && new URL(client_id).host) || plain(client_id)
}

/** What to know of an app at localhost. */
export const loopback = client_id => (/^https?:..(localhost|127\.|\[)/i.test(client_id) ? "It runs on a device of yours, where any program can claim to be it." : "")

const EVENTS = {
  approved: "You let APP in, to read and write.",
  approved_read_only: "You let APP in, to read only.",
  denied: "You denied APP.",
  revoked: "You took back the approval of APP.",
  entered: "APP came in.",
  not_approved: "APP was turned away, and waits for you.",
  refused_denied: "APP was turned away: you denied it.",
  refused_loopback: "APP was turned away: anybody on that device can claim to be it.",
  refused_replay: "APP was turned away: its token was used twice, so it may have been copied.",
  ended_by_replay: "APP was signed out: a code or token of it was used twice, so it may have been copied.",
  app_signed_out: "APP signed out.",
  former_owner_ended: "APP was signed out: it signed in when this server had another owner.",
  approved_on_first_use: "APP was let in on its first use, as you configured.",
  token_made: "You made a token for a device.",
  session_revoked: "You signed a device out.",
  all_sessions_revoked: "You signed every device out.",
  secret_rotated: "You had a new signing secret made, which signed every device out.",
  root_forgotten: "You made APP start from another document.",
  document_deleted: "You put a document into the bin.",
  document_restored: "You took a document out of the bin.",
  document_purged: "You deleted a document for good.",
  link_made: "A link that signs in once was made on the machine that this server runs on.",
  signed_in_by_link: "You signed in on this page, by a link made on the machine that this server runs on.",
  signed_in: "You signed in on this page.",
  signed_out: "You signed out of this page.",
  sign_in_refused: "Somebody else's account was turned away from this page.",
}

/** An event of the audit trail as a sentence. */
export const happened = ({ what, client_id }) =>
  look(EVENTS, what)?.replace("APP", () => (client_id ? host(client_id) : "An app")) ?? `${plain(what[0].toUpperCase() + what.slice(1)).replaceAll("_", " ")}.`
