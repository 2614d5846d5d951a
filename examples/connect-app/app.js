// A note that all devices of one person share: the app asks her groundmist-sync server in by /connect, and syncs.
import { initializeBase64Wasm, Repo } from "@automerge/automerge-repo/slim"
import { automergeWasmBase64 } from "@automerge/automerge/automerge.wasm.base64"
import { WebSocketClientAdapter } from "@automerge/automerge-repo-network-websocket"

/** Where this app is, and the address of what it says of itself: that is its name, its client_id. */
const REDIRECT_URI = new URL(".", location.href).href.split("?")[0]
const CLIENT_ID = new URL("client-metadata.json", REDIRECT_URI).href
/** The app's namespace on the server; with "?access=read" after it, to read only. */
const SCOPE = "sync:xyz.example.notes"
/** A sync token that lasts less than this is renewed. */
const DAYS_LEFT_MS = 3 * 86_400_000

// ---- OAuth: code flow with PKCE, and refresh tokens that are good once ----

const base64url = bytes =>
  btoa(String.fromCharCode(...new Uint8Array(bytes))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "")
const random = () => base64url(crypto.getRandomValues(new Uint8Array(32)))
const sha256 = async text => base64url(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)))

/** Send the user to her server. She comes back to REDIRECT_URI. */
async function begin(host) {
  const issuer = `https://${host}`
  const server = await (await fetch(`${issuer}/.well-known/oauth-authorization-server`)).json()
  if (server.issuer !== issuer) throw new Error(`${host} is another server: ${server.issuer}`)
  const [verifier, state] = [random(), random()]
  sessionStorage.begun = JSON.stringify({ issuer, verifier, state })
  const query = new URLSearchParams({
    response_type: "code", client_id: CLIENT_ID, redirect_uri: REDIRECT_URI, scope: SCOPE, state,
    code_challenge: await sha256(verifier), code_challenge_method: "S256",
  })
  location.assign(`${server.authorization_endpoint}?${query}`)
}

/** She is back: exchange the code. `more` is the device's name and root document. */
async function finish(answer, more) {
  const begun = JSON.parse(sessionStorage.begun ?? "{}")
  delete sessionStorage.begun
  // Both, or somebody else's answer could be slipped in: another user's (state), another server's (iss).
  if (!begun.state || answer.get("state") !== begun.state || answer.get("iss") !== begun.issuer)
    throw new Error("this is not the answer to what was asked: connect again")
  if (answer.has("error")) throw new Error(answer.get("error_description") ?? answer.get("error"))
  return exchange(begun.issuer, {
    grant_type: "authorization_code", code: answer.get("code"), redirect_uri: REDIRECT_URI, code_verifier: begun.verifier, ...more,
  })
}

async function exchange(issuer, form) {
  const body = new URLSearchParams({ client_id: CLIENT_ID, ...form })
  const response = await fetch(`${issuer}/oauth/token`, { method: "POST", body })
  const answer = await response.json()
  if (!response.ok) throw Object.assign(new Error(answer.error_description), { code: answer.error })
  localStorage.session = JSON.stringify({
    issuer, token: answer.access_token, refresh: answer.refresh_token, root: answer.rootDocUrl,
    expires: Date.now() + answer.expires_in * 1000,
  })
  return JSON.parse(localStorage.session)
}

/** The session, renewed if it `must` be or will end soon. One tab at a time: a refresh token that is used twice ends the session. */
function session(must) {
  return navigator.locks.request("session", async () => {
    const kept = JSON.parse(localStorage.session ?? "null")
    if (!kept || (!must && kept.expires - Date.now() > DAYS_LEFT_MS)) return kept
    try {
      return await exchange(kept.issuer, { grant_type: "refresh_token", refresh_token: kept.refresh })
    } catch (error) {
      // The owner took it back, or it was not used for half a year.
      if (error.code === "invalid_grant") delete localStorage.session
      throw error
    }
  })
}

async function signOut() {
  const { issuer, refresh } = JSON.parse(localStorage.session)
  delete localStorage.session
  await fetch(`${issuer}/oauth/revoke`, { method: "POST", body: new URLSearchParams({ token: refresh, client_id: CLIENT_ID }) })
  location.reload()
}

// ---- The note ----

const show = text => (document.getElementById("status").textContent = text)
const socketUrl = ({ issuer, token }) => `${issuer.replace(/^http/, "ws")}/?token=${token}`

/** Connect, and stay connected: the adapter takes a new token from its next attempt on. */
function connect(repo, current) {
  const adapter = new WebSocketClientAdapter(socketUrl(current))
  repo.networkSubsystem.addNetworkAdapter(adapter)
  const alone = () => repo.peers.length === 0
  const renew = async must => {
    try {
      Object.assign(adapter, { url: socketUrl(await session(must)) })
    } catch (error) {
      show(error.message)
    }
  }
  // A browser does not say why a socket cannot be opened; the token endpoint does.
  setTimeout(() => alone() && renew(true), 10_000)
  setInterval(() => renew(alone()), 3_600_000)
}

/** Show the note, and let her write. */
async function open(repo, { issuer, root }) {
  const note = document.getElementById("note")
  const handle = await repo.find(root)
  const render = () => note.value === handle.doc().text || (note.value = handle.doc().text)
  handle.on("change", render)
  render()
  note.oninput = () => handle.change(doc => (doc.text = note.value))
  note.disabled = false
  document.getElementById("out").hidden = false
  show(`Connected to ${new URL(issuer).host}.`)
}

async function start() {
  await initializeBase64Wasm(automergeWasmBase64)
  const repo = new Repo()
  const answer = new URLSearchParams(location.search)
  let current
  if (answer.has("state")) {
    history.replaceState(null, "", REDIRECT_URI)
    // Counts if no device of hers was here before; else the answer names theirs.
    const own = repo.create({ text: "" })
    current = await finish(answer, { name: "Browser", root_doc_url: own.url })
    if (current.root !== own.url) repo.delete(own.url)
  } else current = await session(false)
  if (!current) return
  document.getElementById("out").onclick = signOut
  connect(repo, current)
  await open(repo, current)
}

document.getElementById("connect").onsubmit = event => {
  event.preventDefault()
  begin(document.getElementById("host").value.trim()).catch(error => show(error.message))
}
start().catch(error => show(error.message))
