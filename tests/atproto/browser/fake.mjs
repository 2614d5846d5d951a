// As much of a browser as the pages' modules need to run in Node: elements with text and children, and answers that a test gives.

class Node {
  constructor(tag, text = "") {
    Object.assign(this, { nodeType: tag ? 1 : 3, tag, text, children: [], attributes: {}, hidden: false, isConnected: true })
    this.classList = { toggle() {} }
  }
  setAttribute(name, value) {
    this.attributes[name] = value
  }
  append(...parts) {
    for (const part of parts) this.children.push(part instanceof Node ? part : new Node("", String(part)))
  }
  replaceChildren(...parts) {
    this.children = []
    this.append(...parts)
  }
  insertBefore(node, before) {
    this.children.splice(before ? this.children.indexOf(before) : this.children.length, 0, node)
  }
  contains() {
    return false
  }
  addEventListener() {}
  querySelector() {
    return new Node("p")
  }
  querySelectorAll(what) {
    return this.children.flatMap(child => [...(child.tag === what ? [child] : []), ...child.querySelectorAll(what)])
  }
  get firstElementChild() {
    return this.children[0] ?? null
  }
  get nextElementSibling() {
    return null
  }
  get textContent() {
    return this.text + this.children.map(child => child.textContent).join("")
  }
  set textContent(text) {
    this.replaceChildren(text)
  }
}

/** A page at `search`, whose requests get `answers` by their path; gives its elements by id. */
export function fakePage(search, answers) {
  const nodes = new Map()
  const byId = id => nodes.get(id) ?? nodes.set(id, new Node("div")).get(id)
  const location = { search, pathname: "/", hash: "", host: "sync.example", origin: "https://sync.example", protocol: "https:" }
  const document = {
    getElementById: byId, createElement: tag => new Node(tag), querySelectorAll: () => [], addEventListener() {}, dispatchEvent() {}, hasFocus: () => true,
  }
  Object.assign(globalThis, {
    document, location, addEventListener() {}, history: { replaceState() {} }, setInterval() {},
    MutationObserver: class { observe() {} },
    fetch: async path => {
      const body = answers[path.split("?")[0]] ?? { error: "not_found", message: "nothing" }
      return { ok: !body.error, status: 200, json: async () => body }
    },
  })
  return byId
}
