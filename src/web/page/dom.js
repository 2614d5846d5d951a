// Elements, kept in step with what the server says: what is there stays, so that focus, selection and scrolling do too.
// Text is only ever set as text.

export const $ = id => document.getElementById(id)

// Where focus goes when what had it is gone.
for (const node of document.querySelectorAll("main, h1, h2, h3")) node.tabIndex = -1

/** An element. Children are nodes and texts. */
export function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag)
  for (const name in attributes) node.setAttribute(name, attributes[name])
  node.append(...children)
  return node
}

export const p = (...children) => h("p", {}, ...children)
export const muted = (...children) => h("p", { class: "muted" }, ...children)
export const show = (node, shown = true) => void (node.hidden = !shown)

/** Puts texts and nodes into a node, unless it says the same already. */
export function fill(node, ...parts) {
  if (node.textContent !== parts.map(part => part.textContent ?? part).join("")) node.replaceChildren(...parts)
}

/** Shows what is wrong, or that nothing is. */
export function trouble(node, message) {
  show(node, Boolean(message))
  if (message) fill(node, ...rich(message))
}

/** Characters that hide, or turn the text around them, are spelled out. Compare src/types/text.rs. */
export const plain = text => String(text).replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{DI}\u2800]/gu, c => `‹U+${c.codePointAt().toString(16).toUpperCase().padStart(4, 0)}›`)

/** A stranger's text, which stays for itself whatever its direction is. */
export const foreign = (text, attributes) => h("bdi", attributes, plain(text))
export const id = text => h("p", { class: "id" }, foreign(text))
export const name = text => foreign(text, { class: "name" })

/** What a stranger calls itself, in a box of its own under the server's `label`: no name can read as the server's words. */
export const box = (label, text) => h("dl", { class: "own" }, h("dt", {}, label), h("dd", {}, foreign(text)))
/** The same for the browser or program that an app runs in. */
export const agent = text => (text ? [box("The program it runs in calls itself", text)] : [])

/** What `table` itself has under `key`, which others choose: `__proto__` and the like have every object. */
export const look = (table, key) => (Object.hasOwn(table, key ?? "") ? table[key] : undefined)

/** The server's words, with `commands` in them. */
export const rich = text => plain(text).split("`").map((part, n) => (n % 2 ? h("code", {}, part) : part))

/** Only for screen readers: what a word that stands often is about. */
export const about = text => h("span", { class: "vh" }, ` ${plain(text)}`)

/** Brings `list` in step with `items`. `make(item)` gives `[node, update(item)]` once for each `key(item)`. */
export function keyed(list, items, key, make) {
  const old = list.parts ?? new Map()
  list.parts = new Map(items.map(item => [key(item), old.get(key(item)) ?? make(item)]))
  const focused = document.activeElement
  const held = list.contains(focused)
  for (const [name, [node]] of old) if (!list.parts.has(name)) node.remove()
  let at = list.firstElementChild
  for (const item of items) {
    const [node, update] = list.parts.get(key(item))
    update?.(item)
    if (node === at) at = at.nextElementSibling
    else list.insertBefore(node, at)
  }
  if (held) focus(focused, list)
}

/** Gives the focus to `node`, or if it is gone to the heading above `near`. */
export function focus(node, near = node) {
  if (document.activeElement === node) return
  if (!node.isConnected || !node.checkVisibility()) {
    let heading
    for (let part = near; part && !heading?.checkVisibility(); part = part.parentElement) heading = part.querySelector(":scope > [tabindex]")
    node = heading ?? $("main")
  }
  node.focus({ preventScroll: true })
}

/** Says, to be seen and for screen readers, what was done in the section of `node`. */
export const say = (node, text) => fill(node.closest("section").querySelector(".said"), plain(text))

/**
 * A button. While its work is under way it cannot be pressed again; what went wrong stands below it. With `ask`, a title and
 * paragraphs, it asks first. `detail` is for screen readers.
 */
export function button(label, detail, work, { kind = "", ask } = {}) {
  const node = h("button", { type: "button", class: kind }, label, about(detail))
  node.onclick = ask ? () => confirm(node, label, ask(), work) : () => act(node, work)
  return node
}

export async function act(node, work) {
  if (node.ariaBusy) return
  const row = node.parentElement
  row.parentElement.querySelector(":scope > .failed")?.remove()
  // Not `disabled`, which would take the focus away.
  node.ariaBusy = node.ariaDisabled = "true"
  try {
    await work()
  } catch (error) {
    row.after(h("p", { class: "problem failed", role: "alert" }, ...rich(error.message)))
  }
  node.ariaBusy = node.ariaDisabled = null
}

/** A press sooner than that is not meant for what stands here. */
const SETTLE_MS = 500

/**
 * The buttons in `list` count once they have stood in front, and none has come or gone, for a while: another page can open this
 * one under a double click, and an entry that comes can push its own button under a finger. They keep the focus, so not by
 * `disabled`.
 */
export function settle(list) {
  let settled, timer
  const begin = done => {
    clearTimeout(timer)
    settled = done === true
    for (const node of list.querySelectorAll("button")) node.ariaDisabled = settled ? node.ariaBusy : "true"
    if (!settled && !document.hidden && document.hasFocus()) timer = setTimeout(begin, SETTLE_MS, true)
  }
  for (const type of ["focus", "blur", "visibilitychange"]) addEventListener(type, begin)
  new MutationObserver(begin).observe(list, { childList: true })
  list.addEventListener("click", event => settled || event.stopPropagation(), true)
}

/** The work is done while the question stands. */
function confirm(opener, label, [title, ...text], work) {
  const [dialog, yes, no] = [$("confirm"), $("confirm-yes"), $("confirm-no")]
  const list = opener.closest("ul")
  fill($("confirm-title"), plain(title))
  $("confirm-text").replaceChildren(...text.map(part => (part.nodeType ? part : p(part))))
  dialog.querySelector(".failed")?.remove()
  fill(yes, label)
  yes.onclick = () => act(yes, async () => {
    await work()
    dialog.close()
  })
  no.onclick = () => dialog.close()
  dialog.onclose = () => focus(opener, list)
  dialog.showModal()
  no.focus()
}

/** What fetches and shows a section by `work`; what was shown stays while there is nothing newer. True: it failed. */
export const section = (name, work) => async () => {
  const [load, body] = ["load", "body"].map(part => $(name).querySelector(`.${part}`))
  try {
    await work()
    show(load, false)
    show(body)
  } catch (error) {
    if (body.hidden) trouble(load, error.message)
    return true
  }
}

/** `draw(limit)` shows so much of a list, and a button more, where the focus then is. */
export function pages(more, step, list, draw) {
  let limit = step
  more.onclick = () => act(more, async () => {
    const first = list.children.length
    limit += step
    await draw(limit)
    list.children[first]?.querySelector("a, summary, button, [tabindex]")?.focus()
  })
  return () => draw(limit)
}
