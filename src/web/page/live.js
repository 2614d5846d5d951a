// The page follows the server: what has changed is fetched again, and it is said when the connection is gone.
import { api } from "./api.js"
import { $, show } from "./dom.js"

/** A topic is fetched at most so often, however much happens. */
const PAUSE_MS = 1000
const FAILED_MS = 5000
const SHOW_AFTER_MS = 2000
const RETRY_MS = 30_000
const ASLEEP_MS = 300_000
const wait = ms => new Promise(done => setTimeout(done, ms))

/** `refreshers` are functions by topic. Gives what ends it. */
export function follow(refreshers) {
  const due = {}
  let [failures, late, asleep, ended, source] = [0]

  // One at a time for each topic; what is asked for meanwhile is done once afterwards.
  async function refresh(topic) {
    if (topic in due) return void (due[topic] = true)
    do {
      due[topic] = false
      const failed = await refreshers[topic]()
      await wait(failed ? FAILED_MS : PAUSE_MS)
      due[topic] ||= failed
    } while (due[topic] && !ended)
    delete due[topic]
  }

  function open() {
    source?.close()
    source = new EventSource("/api/live")
    source.addEventListener("changed", ({ data }) => {
      clearTimeout(late)
      show($("offline"), false)
      failures = late = 0
      for (const topic of JSON.parse(data).topics) if (refreshers[topic]) refresh(topic)
    })
    source.onerror = async () => {
      source.close()
      late ||= setTimeout(show, SHOW_AFTER_MS, $("offline"))
      await wait(Math.min(PAUSE_MS * 2 ** failures++, RETRY_MS))
      // If the sign-in has ended, this says so.
      await api("/api/me").catch(() => {})
      if (!ended) open()
    }
  }

  open()
  // In the background it asks for nothing, so that a forgotten page is signed out.
  document.onvisibilitychange = () => {
    clearTimeout(asleep)
    if (document.hidden) asleep = setTimeout(() => source.close(), ASLEEP_MS)
    else if (!ended && source.readyState === EventSource.CLOSED) open()
  }
  return () => {
    ended = true
    source.close()
    clearTimeout(late)
    show($("offline"), false)
  }
}
