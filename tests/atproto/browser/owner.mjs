// The owner's browser on her page, watched: what it complains of, what came over the wire, what axe finds.
import axe from "axe-core"
import assert from "node:assert/strict"
import { chromium } from "playwright-core"
import { SYNC } from "../server.mjs"
import { STEP_MS, inLab } from "./browser.mjs"

export const LOOKS = {
  light: { viewport: { width: 1100, height: 900 }, colorScheme: "light" },
  dark: { viewport: { width: 1100, height: 900 }, colorScheme: "dark" },
  phone: { viewport: { width: 360, height: 740 }, colorScheme: "light", hasTouch: true },
  narrow: { viewport: { width: 320, height: 640 }, colorScheme: "dark" },
}
/** What a refusal or a lost connection logs by itself; all else that the console calls an error is one. */
const REFUSED = /^Failed to load resource: (the server responded with a status of (4|5)|net::)/

export class OwnerBrowsers {
  static async start(lab) {
    const browsers = new OwnerBrowsers()
    browsers.browser = await chromium.launch(inLab(lab))
    return browsers
  }

  /** A browser that knows nothing yet, closed after `test`, which fails if a script or the policy (CSP) failed in it. */
  async open(test, look = LOOKS.light) {
    const context = await this.browser.newContext({ ...look, locale: "en-GB" })
    const owner = new Owner()
    owner.context = context
    owner.page = await context.newPage()
    owner.page.setDefaultTimeout(STEP_MS)
    owner.page.on("console", message => message.type() === "error" && !REFUSED.test(message.text()) && owner.complaints.push(message.text()))
    owner.page.on("pageerror", error => owner.complaints.push(error.stack))
    test.after(async () => {
      await context.close()
      assert.deepEqual(owner.complaints, [])
    })
    return owner
  }

  stop() {
    return this.browser.close()
  }
}

export class Owner {
  complaints = []

  /** Open the page, signed in by the link that the server printed. */
  async signInByLink(scene) {
    await this.page.goto(scene.server.link)
    await this.page.getByRole("heading", { name: "Status", exact: true }).waitFor()
  }

  async signInAtPds(account) {
    const { page } = this
    await page.getByRole("button", { name: "Sign in" }).click()
    await page.waitForURL(/\/oauth\/authorize/)
    await page.locator('input[type="password"]').fill(account.password)
    await page.keyboard.press("Enter")
    await page.getByRole("button", { name: /authorize|allow|accept/i }).click()
    await page.waitForURL(url => url.origin === SYNC)
  }

  /** A section by its heading. */
  section(name) {
    return this.page.getByRole("region", { name, exact: true })
  }

  /** The entry of a list of `section` that tells of `text`. */
  entry(section, text) {
    return this.section(section).getByRole("listitem").filter({ hasText: text })
  }

  /** Press a button whose label, without what is added for screen readers, is `label`. */
  press(within, label) {
    return within.locator("button", { hasText: new RegExp(`^${label}`) }).first().click()
  }

  /** Answer the question that stands. */
  async answer(label) {
    await this.page.getByRole("dialog").getByRole("button", { name: label, exact: true }).click()
    await this.page.getByRole("dialog").waitFor({ state: "hidden" })
  }

  /** What axe finds serious, or critical. */
  async faults() {
    // By the protocol: the page's policy lets no foreign script in.
    await this.page.evaluate(axe.source)
    const { violations } = await this.page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }))
    return violations.filter(({ impact }) => ["serious", "critical"].includes(impact))
      .map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map(({ html, failureSummary }) => `${html} ${failureSummary}`).join("; ")}`)
  }

  /** How much wider than the window the page is. */
  overhang() {
    return this.page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth)
  }

  /** What has the focus, in words. */
  focused() {
    return this.page.evaluate(() => document.activeElement.innerText)
  }

  /** Load `url` anew: bytes over the wire, and milliseconds until the parts are shown. */
  async measure(url) {
    const session = await this.context.newCDPSession(this.page)
    await session.send("Network.enable")
    await session.send("Network.setCacheDisabled", { cacheDisabled: true })
    let bytes = 0
    session.on("Network.loadingFinished", ({ encodedDataLength }) => (bytes += encodedDataLength))
    const begun = performance.now()
    await this.page.goto(url)
    const html = performance.now() - begun
    await this.page.waitForFunction(() => document.querySelectorAll(".body:not([hidden])").length === 5)
    const shown = performance.now() - begun
    await this.page.waitForLoadState("load")
    await session.detach()
    return { bytes, html: Math.round(html), shown: Math.round(shown) }
  }
}
