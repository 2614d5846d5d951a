// The pretend app in a real browser: its page on an origin of its own, and the owner's clicks at her PDS.
import { build } from "esbuild"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { chromium } from "playwright-core"

const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium"
const STEP_MS = 60_000

/** A browser with nothing in it, to which all names are in the lab. */
export function launch(lab, name) {
  return chromium.launchPersistentContext(join(lab.root, `browser-${name}`), {
    executablePath: CHROMIUM,
    headless: true,
    timeout: STEP_MS,
    args: [
      "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync",
      `--host-resolver-rules=MAP *.lab.internal 127.0.0.1:${lab.gateway.port}`,
      `--ignore-certificate-errors-spki-list=${lab.certificate.spkiHash}`,
    ],
  })
}

/** A browser of its own with the app `name` at https://NAME.lab.internal; `page` evaluates in it. */
export class BrowserApp {
  static async start(lab, name) {
    const app = new BrowserApp()
    app.origin = `https://${name}.lab.internal`
    app.clientId = `${app.origin}/client-metadata.json`
    await app.#publish(lab, name)
    app.context = await launch(lab, name)
    app.page = app.context.pages()[0] ?? (await app.context.newPage())
    app.page.setDefaultTimeout(STEP_MS)
    return app
  }

  async #publish(lab, name) {
    const { outputFiles } = await build({
      entryPoints: [fileURLToPath(new URL("page.mjs", import.meta.url))],
      bundle: true, write: false, format: "esm", platform: "browser", logLevel: "error",
    })
    const host = `${name}.lab.internal`
    lab.gateway.serve(host, "/client-metadata.json", {
      client_id: this.clientId,
      client_name: name,
      client_uri: this.origin,
      redirect_uris: [`${this.origin}/`],
      scope: "atproto transition:generic",
      grant_types: ["authorization_code", "refresh_token"],
      response_types: ["code"],
      application_type: "web",
      token_endpoint_auth_method: "none",
      dpop_bound_access_tokens: true,
    })
    const settings = JSON.stringify({ clientId: this.clientId, plc: lab.plc, pds: lab.pds })
    const script = outputFiles[0].text.replaceAll("</script", "<\\/script")
    lab.gateway.serve(host, "/", `<!doctype html><meta charset=utf-8><title>starting</title>
<script>window.LAB = ${settings}</script><script type="module">${script}</script>`)
  }

  /** As the owner does it: from the app to the PDS's page, name and password, consent, and back. */
  async signIn(account) {
    const { page } = this
    await page.goto(this.origin)
    await page.waitForFunction(() => window.app)
    await page.evaluate(did => window.app.signIn(did), account.did)
    await page.waitForURL(/\/oauth\/authorize/)
    await page.locator('input[type="password"]').fill(account.password)
    await page.keyboard.press("Enter")
    await page.getByRole("button", { name: /authorize|allow|accept/i }).click()
    await page.waitForURL(url => url.origin === this.origin)
    await page.waitForFunction(() => window.app?.did)
  }

  /** Call a function of `window.app`. */
  call(name, ...args) {
    return this.page.evaluate(([name, args]) => window.app[name](...args), [name, args])
  }

  async stop() {
    await this.context.close()
  }
}
