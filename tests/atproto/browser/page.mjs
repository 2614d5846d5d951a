// The pretend app's page, bundled and run in Chromium: `window.app` is what the test drives.
import { BrowserOAuthClient } from "@atproto/oauth-client-browser"

const { clientId, plc, pds } = window.LAB
const client = await BrowserOAuthClient.load({
  clientId, handleResolver: pds, plcDirectoryUrl: plc, responseMode: "query",
})
// Restores a session, or takes the one that the authorization page sent us back with.
const started = await client.init()
const session = started?.session

window.app = {
  did: session?.did ?? null,
  signIn: did => void client.signInRedirect(did, { scope: "atproto transition:generic" }),
  refresh: async () => (await session.getTokenInfo(true)).sub,
  token: async () => (await session.getTokenSet(false)).access_token,
  /** POST `body` as today's apps do; what came back, as far as a page of another origin may see it. */
  async post(url, body) {
    const answer = await session.fetchHandler(url, {
      method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body),
    })
    return { status: answer.status, challenge: answer.headers.get("www-authenticate"), body: await answer.json() }
  },
  /** Whether the library still has the session. */
  kept: () => client.restore(session.did, false).then(() => true, () => false),
  /** Open a WebSocket and say how it ends: "open", or the close code. */
  socket: url => new Promise(done => {
    const socket = new WebSocket(url)
    socket.onopen = () => { done("open"); socket.close() }
    socket.onclose = ({ code }) => done(code)
  }),
}
document.title = session ? "signed in" : "signed out"
