// Signing in, for both pages: the server says where to go.
import { go, post } from "./api.js"
import { $, act, look, show, trouble } from "./dom.js"

const AGAIN = "Try again in some minutes."
const LINK = "To sign in without your account’s server, run `groundmist-sync sign-in` on the machine of this sync server: it prints a link."
const WHY = {
  denied: "The request was declined at your account’s server.",
  not_owner: "That account does not own this server. Sign in with the one that does.",
  expired: "That took too long, or was begun in another browser. Please try again.",
  pds_unreachable: `Your account’s server cannot be reached just now. ${AGAIN} ${LINK}`,
  bad_answer: `Your account’s server gave an answer that cannot be trusted, so nothing was done. The log of this server says more. ${LINK}`,
  link_used: "That link was used already, or its ten minutes are over. Run `groundmist-sync sign-in` on the machine of this sync server for a new one.",
  busy: `Too many sign-ins are under way just now. ${AGAIN}`,
}

/** What came of something that ended here, by the parameter `name` of the address: a problem, if any. */
export function outcome(name) {
  const code = new URLSearchParams(location.search).get(name)
  return code && (look(WHY, code) ?? "That did not work. Please try again.")
}

/** Shows the way in, and what kept somebody out. */
export function door(problem, return_to) {
  show($("signed-out"))
  // A trial server on this machine has no account to ask.
  show($("dev-hint"), location.protocol === "http:")
  trouble($("door-problem"), problem)
  $("sign-in").onclick = () => act($("sign-in"), async () => go((await post("/oauth/sign-in", { return_to })).redirect))
}
