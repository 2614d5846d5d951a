// The owner's browser on her page, watched: what it complains of, what came over the wire, what axe finds.
import axe from "axe-core"
import assert from "node:assert/strict"
import { join } from "node:path"
import { SYNC, begin } from "../server.mjs"
import { launch } from "./browser.mjs"

const STEP_MS = 60_000

export const LOOKS = {
  light: { width: 1100, height: 900, colorScheme: "light" },
  dark: { width: 1100, height: 900, colorScheme: "dark" },
  phone: { width: 360, height: 740, colorScheme: "light" },
  narrow: { width: 320, height: 640, colorScheme: "dark" },
}
/** What a refusal or a lost connection logs by itself; all else that the console calls an error is one. */
const REFUSED = /^Failed to load resource: (the server responded with a status of (4|5)|net::)/

let browsers = 0

/** A server, and the owner on its page. */
export async function visit(test, lab, look) {
  const scene = await begin(test, lab, { settings: { dev: true } })
  const owner = await Owner.open(test, lab, look)
  await owner.signInByLink(scene)
  return { scene, owner }
}

/** Opens the link that the server printed, and presses the button there. */
export async function openLink(page, scene) {
  await page.goto(scene.server.link)
  await page.getByRole("button", { name: "Sign in" }).click()
  await page.waitForURL(url => url.pathname === "/")
}

export class Owner {
  complaints = []

  /** A browser that knows nothing yet, closed after `test`, which fails if a script or the policy (CSP) failed in it. */
  static async open(test, lab, { width, height, colorScheme } = LOOKS.light) {
    const owner = new Owner()
    owner.context = await launch(lab, `owner-${++browsers}`)
    test.after(async () => {
      await owner.context.close()
      assert.deepEqual(owner.complaints, [])
    })
    const page = owner.context.pages()[0]
    owner.page = page
    page.setDefaultTimeout(STEP_MS)
    await page.setViewportSize({ width, height })
    await page.emulateMedia({ colorScheme })
    page.on("console", message => message.type() === "error" && !REFUSED.test(message.text()) && owner.complaints.push(message.text()))
    page.on("pageerror", error => owner.complaints.push(error.stack))
    return owner
  }

  /** Open the page, signed in by the link that the server printed. */
  async signInByLink(scene) {
    await openLink(this.page, scene)
    await this.page.getByRole("heading", { name: "Status", exact: true }).waitFor()
  }

  /** Sent to the PDS, say who she is, agree, and come back. */
  async agreeAtPds(account) {
    const { page } = this
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

  /**
   * Press each button in `list` when the page has just come to the front, under the second press of a double click, say. For
   * each: whether it is disabled, whether busy, and whether it keeps the focus.
   */
  pressTooEarly(list) {
    return this.page.evaluate(list => {
      dispatchEvent(new Event("focus"))
      return [...document.querySelectorAll(`${list} button`)].map(node => {
        node.focus()
        node.click()
        return [node.ariaDisabled, node.ariaBusy, document.activeElement === node]
      })
    }, list)
  }

  /** What has the focus counts when it is pressed. */
  async settled() {
    await this.page.waitForFunction(() => !document.activeElement.ariaDisabled)
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

  /** With `SCREENSHOTS=DIR` in the environment, for people to look at: DIR/NAME.png, of the whole page or one part of it. */
  async picture(name, part = this.page) {
    const directory = process.env.SCREENSHOTS
    if (!directory) return
    // As she sees it when she has just come, with buttons that count.
    await this.page.evaluate(() => scrollTo(0, 0))
    await this.page.waitForFunction(() => !document.querySelector("[aria-disabled]"))
    await part.screenshot({ path: join(directory, `${name}.png`), ...(part === this.page && { fullPage: true }) })
  }

  /** Whether what `selector` finds stands in one line. */
  async inOneLine(selector) {
    const middles = await this.page.locator(selector).evaluateAll(nodes => nodes.map(node => node.getBoundingClientRect()).map(({ top, bottom }) => (top + bottom) / 2))
    return Math.max(...middles) - Math.min(...middles) < 5
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
