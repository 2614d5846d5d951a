// The owner's page: who looks at it is asked first, then every part shows itself and follows the server.
import * as activity from "./activity.js"
import { api, post } from "./api.js"
import * as apps from "./apps.js"
import * as devices from "./devices.js"
import * as documents from "./documents.js"
import { $, act, fill, plain, show } from "./dom.js"
import { follow } from "./live.js"
import { door, outcome } from "./sign_in.js"
import * as status from "./status.js"
import { time } from "./words.js"

const [signIn, publish, published] = ["sign_in", "publish", "published"].map(outcome)
// Told once: not again when the page is loaded anew.
if (location.search) history.replaceState(null, "", location.pathname + location.hash)

let stop

/** The sign-in is over: nothing of what was shown stays, and an open question is closed. */
function leave(text) {
  if (!stop) return
  stop()
  stop = null
  for (const dialog of document.querySelectorAll("dialog")) dialog.remove()
  $("signed-in").remove()
  show($("who"), false)
  document.title = "Groundmist Sync"
  door(text, "/")
  $("door-title").focus()
}

function shown(me) {
  show($("who"))
  show($("signed-in"))
  fill($("handle"), plain(me.handle ?? me.did ?? ""))
  fill($("sign-in-facts"), "You signed in ", time(me.since), ". It ends by itself after half an hour without use, and after 12 hours at the latest.")
  $("welcome").classList.toggle("problem", publish)
  fill($("welcome"), publish ?? (published ? "Published. Your apps now find this server by your account." : ""))
  stop = follow([[status.refresh, "status", "sessions", "documents"], [apps.refresh, "apps", "sessions"], [devices.refresh, "sessions"], [documents.refresh, "documents"], [activity.refresh, "activity"]])
  for (const how of ["sign-out", "sign-out-everywhere"])
    $(how).onclick = () => act($(how), async () => {
      await post(`/api/${how}`)
      leave()
    })
  document.addEventListener("signed-out", () => leave("Your sign-in has ended. Sign in again to go on."))
}

// Not out of the browser's memory when she comes back: she may have signed out.
onpageshow = event => event.persisted && location.reload()

api("/api/me").then(shown, error => door(error.code === "not_signed_in" ? signIn : error.message, "/"))
