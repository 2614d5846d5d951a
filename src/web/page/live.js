// The page follows the server: what has changed is fetched again, and it is said when the connection is gone.
import { api } from "./api.js"
import { $, show } from "./dom.js"

/** A part is fetched at most so often, however much happens. */
const PAUSE_MS = 1000
const FAILED_MS = 5000
const SHOW_AFTER_MS = 2000
const RETRY_MS = 30_000
const ASLEEP_MS = 300_000
const wait = ms => new Promise(done => setTimeout(done, ms))

/** Each part is a function that fetches it, and its topics. Gives what ends it. */
export function follow(parts) {
  const due = new Map()
  let [failures, late, asleep, ended, source] = [0]

  // One at a time for each part; what is asked for meanwhile is done once afterwards.
  async function refresh(part) {
    if (due.has(part)) return void due.set(part, true)
    for (let again = true; again && !ended; ) {
      due.set(part, false)
      const failed = await part()
      await wait(failed ? FAILED_MS : PAUSE_MS)
      again = failed || due.get(part)
    }
    due.delete(part)
  }

  function open() {
    source?.close()
    source = new EventSource("/api/live")
    source.addEventListener("changed", ({ data }) => {
      clearTimeout(late)
      show($("offline"), false)
      failures = late = 0
      for (const [part, ...topics] of parts) if (JSON.parse(data).topics.some(topic => topics.includes(topic))) refresh(part)
    })
    source.onerror = async () => {
      source.close()
      late ||= setTimeout(show, SHOW_AFTER_MS, $("offline"))
      await wait(Math.min(PAUSE_MS * 2 ** failures++, RETRY_MS))
      // If the sign-in has ended, this says so.
      await api("/api/me").catch(() => {})
      reopen()
    }
  }

  // Not while nobody looks.
  const reopen = () => ended || document.hidden || source?.readyState < EventSource.CLOSED || open()

  reopen()
  // In the background it asks for nothing, so that a forgotten page is signed out.
  document.onvisibilitychange = () => {
    clearTimeout(asleep)
    if (document.hidden) asleep = setTimeout(() => source?.close(), ASLEEP_MS)
    else reopen()
  }
  return () => {
    ended = true
    source?.close()
    clearTimeout(late)
    show($("offline"), false)
  }
}
