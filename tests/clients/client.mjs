// One real automerge-repo client, driven by JSON lines.
//   node client.mjs v1|v2
// In:  {"id":1,"op":"create","value":{...}}     Out: {"id":1,"result":...} or {"id":1,"error":"..."}
// Operations are the functions of `operations` below; samod_peer speaks the same language.
import { createHash, randomBytes } from "node:crypto"
import { createInterface } from "node:readline"
import { randomFillSync } from "node:crypto"
import { readFileSync } from "node:fs"
import { isDeepStrictEqual } from "node:util"

const line = await import(`./${process.argv[2]}/line.mjs`)
const RETRY_MS = 400
const POLL_MS = 10

let repo
let adapter
let connections = 0
const handles = new Map()
const ephemeral = []
const remoteHeads = []
/** What the adapter threw outside any call of ours: a refused upgrade, a reset connection. */
const errors = []

// The adapters throw socket errors from a listener; a browser would log them and retry.
process.on("uncaughtException", error => errors.push(String(error?.message ?? error)))
process.on("unhandledRejection", error => errors.push(String(error?.message ?? error)))

const sleep = ms => new Promise(resolve => setTimeout(resolve, ms))

async function until(condition, timeoutMs, what) {
  const end = Date.now() + timeoutMs
  for (;;) {
    const value = condition()
    if (value) return value
    if (Date.now() > end) throw new Error(`not within ${timeoutMs} ms: ${what()}`)
    await sleep(POLL_MS)
  }
}

function keep(handle) {
  if (handles.has(handle.documentId)) return handle
  handles.set(handle.documentId, handle)
  handle.on("ephemeral-message", ({ senderId, message }) =>
    ephemeral.push({ documentId: handle.documentId, senderId, message }))
  handle.on("remote-heads", ({ storageId, heads }) =>
    remoteHeads.push({ documentId: handle.documentId, storageId, heads }))
  return handle
}

function known(documentId) {
  const handle = handles.get(documentId)
  if (!handle) throw new Error(`open ${documentId} first`)
  return handle
}

const settled = handle => handle.state === "ready" || handle.state === "unavailable"
const summary = value => {
  const text = JSON.stringify(value) ?? "undefined"
  return text.length > 300 ? `${text.slice(0, 300)}... (${text.length} characters)` : text
}

async function find(documentId, timeoutMs) {
  const handle = keep(line.find(repo, documentId))
  const end = Date.now() + timeoutMs
  while (!settled(handle) && Date.now() < end) await sleep(POLL_MS)
  return handle.state
}

const operations = {
  /**
   * Start the client. `storage` is a directory, absent for a client that keeps nothing. With `announce` false the client
   * gives documents only to peers that ask; with a text only to peers whose id contains that text, as many apps do.
   */
  async open({ url, peerId, storage, gossip = false, announce = true }) {
    adapter = new line.WebSocketAdapter(url, RETRY_MS)
    adapter.on("peer-candidate", () => connections++)
    repo = new line.Repo({
      network: [adapter],
      storage: storage && new line.NodeFSStorageAdapter(storage),
      peerId,
      enableRemoteHeadsGossiping: gossip,
      isEphemeral: !storage,
      sharePolicy: async id => (typeof announce === "string" ? id.includes(announce) : announce),
    })
    return true
  },
  /** Wait until the server has answered the handshake; says who it is. */
  async connected({ timeoutMs = 10_000 }) {
    const peer = await until(() => repo.peers[0], timeoutMs, () => `a connection; errors: ${errors.join("; ")}`)
    return { peerId: peer, storageId: repo.getStorageIdOfPeer(peer), metadata: repo.peerMetadataByPeerId[peer] }
  },
  /** This client's own. Not before it has connected: asked twice at once, a new storage makes two ids. */
  async storageId() {
    return await repo.storageId()
  },
  /** Wait until the socket has closed. */
  async disconnected({ timeoutMs = 10_000 }) {
    await until(() => adapter.socket?.readyState === 3, timeoutMs, () => "the socket to close")
    return true
  },
  /** How often the server has answered the handshake of a connection. */
  connections: () => connections,
  isConnected: () => adapter.socket?.readyState === 1,
  /** Go offline and stay there. */
  async disconnect() {
    adapter.retryInterval = 0
    // While it tries to get back, a timer that only it can end goes on to call this.
    adapter.connect = () => {}
    const socket = adapter.socket
    // A socket that cannot say goodbye (the server is gone) is closed by force.
    const force = setTimeout(() => socket.terminate(), 2000)
    socket.close()
    await until(() => socket.readyState === 3, 5000, () => "the socket to close")
    clearTimeout(force)
    return true
  },
  /** Back online. */
  async connect() {
    adapter.retryInterval = RETRY_MS
    delete adapter.connect
    adapter.connect(adapter.peerId, adapter.peerMetadata)
    return true
  },
  create({ value }) {
    return keep(repo.create(value)).documentId
  },
  /** With a value of so many random bytes, which do not compress. */
  createLarge({ bytes }) {
    return keep(repo.create({ large: randomFillSync(new Uint8Array(bytes)) })).documentId
  },
  /** How long a value of the root is. */
  size: ({ documentId, key }) => line.doc(known(documentId))[key].length,
  createMany({ count, prefix }) {
    return Array.from({ length: count }, (_, n) => keep(repo.create({ title: `${prefix}${n}`, n })).documentId)
  },
  /** Take in a saved document as a new one. */
  importFile({ path }) {
    return keep(repo.import(new Uint8Array(readFileSync(path)))).documentId
  },
  /** Look for a document; the state it is in when found, refused, or after `timeoutMs`. */
  find: ({ documentId, timeoutMs = 60_000 }) => find(documentId, timeoutMs),
  /** Look for many at once; how many ended in which state. */
  async findMany({ documentIds, timeoutMs = 60_000 }) {
    const states = {}
    for (const state of await Promise.all(documentIds.map(id => find(id, timeoutMs))))
      states[state] = (states[state] ?? 0) + 1
    return states
  },
  /** Wait until a document is in `state`. */
  async state({ documentId, state, timeoutMs = 60_000 }) {
    const handle = keep(line.find(repo, documentId))
    await until(() => handle.state === state, timeoutMs, () => `${state}, is ${handle.state}`)
    return handle.state
  },
  value: ({ documentId }) => line.doc(known(documentId)),
  values: ({ documentIds }) => documentIds.map(id => line.doc(known(id))),
  textLength: ({ documentId }) => line.doc(known(documentId)).text.length,
  /** Set keys of the root; `repeat` makes that many changes, the values followed by their number. */
  change({ documentId, set, repeat }) {
    const handle = known(documentId)
    for (let n = 0; n < (repeat ?? 1); n++)
      handle.change(doc => {
        for (const [key, value] of Object.entries(set)) doc[repeat ? `${key}${n}` : key] = value
      })
    return line.heads(handle)
  },
  /** Paste a text under `key` of the root in one change, an operation for each character: random base64, or all `equal`. */
  paste({ documentId, key, characters, equal = false }) {
    const base64 = () => randomBytes(Math.ceil((characters * 3) / 4)).toString("base64").slice(0, characters)
    const text = equal ? "x".repeat(characters) : base64()
    known(documentId).change(doc => (doc[key] = text))
    return true
  },
  /** Count `key` of the root up to `to`, a change each. */
  async count({ documentId, key, to }) {
    const handle = known(documentId)
    for (let n = 1; n <= to; n++) {
      handle.change(doc => (doc[key] = n))
      // What has come meanwhile has its turn, as it would while somebody types.
      if (n % 100 === 0) await sleep(0)
    }
    return line.heads(handle)
  },
  /** What tells a long text under `key` from any other. */
  digest({ documentId, key }) {
    const text = line.doc(known(documentId))[key]
    return `${text.length} ${createHash("sha256").update(text).digest("hex")}`
  },
  /** The first sync of a device that has nothing, on a connection of its own: how many milliseconds until it has a document. */
  async firstSync({ url, documentId, timeoutMs = 60_000 }) {
    const began = performance.now()
    const own = new line.WebSocketAdapter(url, RETRY_MS)
    const device = new line.Repo({ network: [own], peerId: `device-${randomBytes(8).toString("hex")}`, isEphemeral: true })
    await until(() => device.peers[0], timeoutMs, () => "a connection")
    const handle = line.find(device, documentId)
    await until(() => handle.state === "ready", timeoutMs, () => `${documentId}, is ${handle.state}`)
    const took = performance.now() - began
    own.retryInterval = 0
    own.socket.close()
    return took
  },
  heads: ({ documentId }) => line.heads(known(documentId)),
  /** Wait until the root holds all of `has`. */
  async waitFor({ documentId, has, timeoutMs = 60_000 }) {
    const handle = known(documentId)
    const seen = () => {
      const doc = handle.state === "ready" ? line.doc(handle) : undefined
      return doc && Object.entries(has).every(([key, value]) => isDeepStrictEqual(doc[key], value))
    }
    await until(seen, timeoutMs, () => `${summary(has)}, is ${handle.state} ${summary(line.doc(handle))}`)
    return line.heads(handle)
  },
  /** Wait until the root has `count` keys, for documents with many. */
  async waitForKeys({ documentId, count, timeoutMs = 60_000 }) {
    const handle = known(documentId)
    const keys = () => (handle.state === "ready" ? Object.keys(line.doc(handle)).length : 0)
    await until(() => keys() === count, timeoutMs, () => `${count} keys, has ${keys()}`)
    return line.heads(handle)
  },
  /** Wait until the document stands at exactly these heads. */
  async waitForHeads({ documentId, heads, timeoutMs = 60_000 }) {
    const handle = known(documentId)
    const wanted = [...heads].sort()
    const now = () => (handle.state === "ready" ? [...line.heads(handle)].sort() : [])
    await until(() => isDeepStrictEqual(now(), wanted), timeoutMs, () => `${wanted}, is ${handle.state} ${now()}`)
    return true
  },
  broadcast({ documentId, message }) {
    known(documentId).broadcast(message)
    return true
  },
  /** All ephemeral messages received so far. */
  ephemeral: () => ephemeral,
  async waitForEphemeral({ count, timeoutMs = 10_000 }) {
    await until(() => ephemeral.length >= count, timeoutMs, () => `${count} messages, has ${summary(ephemeral)}`)
    return ephemeral
  },
  subscribeToRemotes({ storageIds }) {
    repo.subscribeToRemotes(storageIds)
    return true
  },
  /** What the client's API says another storage holds, in the text form that it was told (hexadecimal or base58check). */
  remoteHeads: ({ documentId, storageId }) => known(documentId).getRemoteHeads(storageId) ?? null,
  /** All `remote-heads` events so far. */
  remoteHeadsEvents: () => remoteHeads,
  errors: () => errors,
}

for await (const text of createInterface({ input: process.stdin })) {
  const { id, op, ...args } = JSON.parse(text)
  // Not awaited: a long wait must not hold up what the test does meanwhile.
  Promise.resolve()
    .then(() => {
      if (!operations[op]) throw new Error(`no operation ${op}`)
      return operations[op](args)
    })
    .then(
      result => console.log(JSON.stringify({ id, result: result ?? null })),
      error => console.log(JSON.stringify({ id, error: String(error?.message ?? error) })),
    )
}
process.exit(0)
