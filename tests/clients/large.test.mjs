// A note with a picture pasted as text, an operation for each character, from real clients: where the server has room to compact
// it, and on small machines, for which a control group stands. FULL=1 pastes what a picture of 3 MB is as text, and tries
// everything with both lines of clients; without it the text is a tenth of that. Figures are printed for each test.
import assert from "node:assert/strict"
import { describe, test } from "node:test"
import { BINARY, NAMESPACE, REFERENCE, Scene, eventually } from "./harness.mjs"
import { MemoryGroup, children, memoryBytes } from "./memory.mjs"

const FULL = Boolean(process.env.FULL)
const CHARACTERS = FULL ? 4_000_000 : 400_000
/** Changes after which a document is compacted, with no grace: above `storage.compact_floor`. */
const EDITS = 1_100
/** Changes after which a document is compacted with all defaults, however young it is. */
const MANY_EDITS = 16_500
/** What the server may take in its own process, in bytes. A debug build is larger by the second figure (docs/FIGURES.md). */
const SERVER_BYTES = (128 << 20) + (BINARY.includes("/debug/") ? 14_000_000 : 0)
/** A device that wants a small document waits no longer than this. It was 20 s when large documents were opened in its way. */
const FIRST_SYNC_MS = 10_000
const PATIENCE_MS = FULL ? 300_000 : 90_000

const skip = REFERENCE && "that server keeps whole documents in its own memory"
const megabytes = bytes => `${Math.round(bytes / 1e6)} MB`
const setting = (name, value) => ({ [`GROUNDMIST_SYNC_${name}`]: value })
/** Compacts what has enough changes at once; room for it, whatever the machine has. */
const ROOMY = { dev: true, ...setting("STORAGE__COMPACT_GRACE", "0s"), ...setting("MEMORY__OPENER", "4GiB") }

/** Devices without anything that come for a small document, one after the other, until the end. */
class Newcomers {
  #stopped = false
  #took = []

  static async begin(scene) {
    const own = new Newcomers()
    const host = await scene.client("v2")
    const documentId = await host.create({ value: { small: true } })
    const url = scene.server.url(await scene.server.token({ name: "newcomers" }))
    await eventually(async () => (await shown(scene, documentId)).heads, "the small document")
    own.#ended = own.#run(host, { url, documentId })
    // A failure is for whoever asks how long it took, and until then nobody's.
    own.#ended.catch(() => {})
    return own
  }

  #ended

  async #run(host, what) {
    while (!this.#stopped) {
      this.#took.push(await host.firstSync(what))
      await new Promise(done => setTimeout(done, 200))
    }
  }

  /** The longest that one of them waited, in milliseconds. */
  async slowest() {
    this.#stopped = true
    await this.#ended
    return Math.max(...this.#took)
  }
}

const shown = (scene, documentId) =>
  scene.server.command("docs", "show", NAMESPACE, documentId, "--json").then(JSON.parse, () => ({}))

const stored = (scene, documentId, heads) =>
  eventually(async () => `${(await shown(scene, documentId)).heads}` === `${heads}`, "all on the server's disk", PATIENCE_MS)

const warnings = async scene =>
  JSON.parse(await scene.server.command("status", "--json")).warnings.map(warning => warning.code)

/** A note that a device has and the server too, the picture pasted into it, then `edits` more changes. */
async function noteWithPicture(scene, line, { equal, edits, characters = CHARACTERS }) {
  const writer = await scene.client(line)
  const documentId = await writer.create({ value: { title: "a note" } })
  await stored(scene, documentId, await writer.heads({ documentId }))
  // A device that has seen the note, and is away while the picture comes.
  const away = await scene.client("v1", { storage: true })
  assert.equal(await away.find({ documentId }), "ready")
  await away.disconnect()
  await writer.paste({ documentId, key: "picture", characters, equal })
  await stored(scene, documentId, await writer.heads({ documentId }))
  const heads = await writer.count({ documentId, key: "n", to: edits })
  await stored(scene, documentId, heads)
  return { documentId, heads, away, writer, digest: await writer.digest({ documentId, key: "picture" }) }
}

/** Devices of both lines that have nothing get the document, and so does the one that was away. */
async function reachesEveryDevice(scene, { documentId, heads, away, digest }) {
  const has = async client => {
    await client.waitForHeads({ documentId, heads, timeoutMs: PATIENCE_MS })
    assert.equal(await client.digest({ documentId, key: "picture" }), digest)
  }
  await away.connect()
  await has(away)
  for (const line of ["v1", "v2"]) {
    const reader = await scene.client(line)
    assert.equal(await reader.find({ documentId, timeoutMs: PATIENCE_MS }), "ready")
    await has(reader)
    await reader.close()
  }
}

/** What holds however large a document is. */
async function nobodyElseNoticed(t, scene, newcomers, pid) {
  const { server } = scene
  const [slowest, peak] = [await newcomers.slowest(), memoryBytes(server.pid, "VmHWM")]
  t.diagnostic(`server's peak ${megabytes(peak)}, longest first sync of a small document ${Math.round(slowest)} ms`)
  assert.ok(server.isRunning && server.pid === pid, server.log)
  assert.ok(peak < SERVER_BYTES, megabytes(peak))
  assert.ok(slowest < FIRST_SYNC_MS, `${slowest} ms`)
}

const text = equal => (equal ? "equal characters" : "a picture as base64")

const roomy = [["v1", false], ["v2", true], ...(FULL ? [["v2", false], ["v1", true]] : [])]
describe(`${CHARACTERS} characters in one change`, { skip }, () => {
  for (const [line, equal] of roomy)
    test(`${text(equal)} from ${line} is compacted in a process of its own, and reaches every device`, async t => {
      const scene = await Scene.begin(t, ROOMY)
      const { server } = scene
      const { pid } = server
      const newcomers = await Newcomers.begin(scene)
      const note = await noteWithPicture(scene, line, { equal, edits: EDITS })
      let apart = 0
      const isCompacted = async () => {
        for (const child of children(pid)) apart = Math.max(apart, memoryBytes(child, "VmHWM"))
        return (await shown(scene, note.documentId)).snapshot_changes > 0
      }
      await eventually(isCompacted, "the compaction", PATIENCE_MS)
      t.diagnostic(`the process that compacted took ${megabytes(apart)}`)
      await reachesEveryDevice(scene, note)
      assert.match(await server.command("status"), /All is well\./)
      await nobodyElseNoticed(t, scene, newcomers, pid)
    })

  test("the server is killed while it compacts: it comes back, the clients too, and the next compaction is the last", async t => {
    const scene = await Scene.begin(t, ROOMY)
    const { server } = scene
    const { writer, documentId } = await noteWithPicture(scene, "v1", { equal: true, edits: EDITS })
    let opener
    await eventually(() => ([opener] = children(server.pid)).length > 0, "the process that compacts", PATIENCE_MS)
    await server.stop("SIGKILL")
    await eventually(() => memoryBytes(opener, "VmRSS") === 0, "its end with the server")
    await server.start()
    await writer.connected({ timeoutMs: PATIENCE_MS })
    await stored(scene, documentId, await writer.count({ documentId, key: "after", to: 1 }))
    await eventually(async () => (await shown(scene, documentId)).snapshot_changes > 0, "the compaction", PATIENCE_MS)
    await eventually(() => children(server.pid).length === 0, "no other process")
    assert.deepEqual(await warnings(scene), ["was_killed"], "of the document there is nothing to say")
    assert.ok(server.isRunning, server.log)
  })
})

const skipGroup = skip || MemoryGroup.missing
/**
 * A client of the 2.x line sends a document of few changes whole. On the last machine that is more than may be opened, also
 * where the text is shorter: it is refused, and comes change by change on the next connection.
 */
const machines = [
  ["v1", false, 512, CHARACTERS],
  ["v2", true, 256, FULL ? CHARACTERS : 800_000],
  ...(FULL ? [["v2", false, 512, CHARACTERS], ["v1", true, 256, CHARACTERS]] : []),
]
describe("on a small machine, all defaults", { skip: skipGroup }, () => {
  for (const [line, equal, mebibytes, characters] of machines)
    test(`${characters} characters, ${text(equal)}, from ${line} with ${mebibytes} MiB: the owner is told, nothing is killed, every device gets it`, async t => {
      const group = MemoryGroup.make(mebibytes << 20)
      const scene = await Scene.begin(t, { dev: true }, group)
      const { server } = scene
      const { pid } = server
      const newcomers = await Newcomers.begin(scene)
      const note = await noteWithPicture(scene, line, { equal, edits: MANY_EDITS, characters })
      const told = async () => `${await warnings(scene)}` === "document_too_large_to_compact"
      await eventually(told, "the warning, and no other")
      assert.doesNotMatch(await server.command("status"), /All is well/)
      await reachesEveryDevice(scene, note)
      t.diagnostic(`the group's peak ${megabytes(group.peakBytes)}, kills ${group.kills}`)
      assert.equal(group.kills, 0)
      await nobodyElseNoticed(t, scene, newcomers, pid)
    })
})
