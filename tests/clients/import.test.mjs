// `import`: what automerge-repo 1.1.12 wrote to its file storage is found by clients of both lines, also if some of it is
// damaged, the server runs meanwhile, or somebody pulls the plug.
import assert from "node:assert/strict"
import { execFile, spawn } from "node:child_process"
import { appendFileSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, symlinkSync, truncateSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { after, before, describe, test } from "node:test"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { BINARY, REFERENCE, Scene, Server } from "./harness.mjs"
import { hexHeads } from "./heads.mjs"

const NOTES = "xyz.example.notes"
const TASKS = "org.example.tasks"
const COUNT = 150
const HERE = dirname(fileURLToPath(import.meta.url))

const run = (command, args) =>
  new Promise(done =>
    execFile(command, args, { maxBuffer: 64 << 20 }, (error, out, err) => done({ code: error ? error.code : 0, out, err })))

/** Import, and what it reports. */
async function imports(from, dataDir) {
  const { code, out, err } = await run(BINARY, ["import", from, "--json", "--data-dir", dataDir])
  assert.ok(code === 0 || code === 1, err)
  const report = JSON.parse(out)
  const of = Object.fromEntries(report.documents.map(it => [it.document, it]))
  return { code, of, ...report }
}

const list = async dataDir => JSON.parse((await run(BINARY, ["docs", "list", "--json", "--data-dir", dataDir])).out).documents

/** Everything under a directory with its content, to see that nothing is changed. */
const contents = dir =>
  readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile())
    .map(entry => join(entry.parentPath ?? entry.path, entry.name))
    .sort()
    .map(path => [path, statSync(path).mtimeMs, readFileSync(path, "base64")])

describe("import", { skip: REFERENCE && "a command of ours" }, () => {
  let root, data, wrote

  async function write(namespace, prefix) {
    const script = join(HERE, "prototype_tree.mjs")
    const { code, out, err } = await run("node", [script, join(data, namespace), String(COUNT), prefix])
    assert.equal(code, 0, err)
    return JSON.parse(out)
  }
  const files = (namespace, id, part) => {
    const dir = join(data, namespace, id.slice(0, 2), id.slice(2), part)
    return readdirSync(dir).map(name => join(dir, name))
  }
  const flip = path => {
    const bytes = readFileSync(path)
    bytes[bytes.length >> 1] ^= 0x10
    writeFileSync(path, bytes)
  }
  /** The file of a document's last change, or of one before it. */
  const incremental = (id, back) =>
    files(NOTES, id, "incremental").sort((one, other) => statSync(other).mtimeMs - statSync(one).mtimeMs)[back]

  before(async () => {
    root = mkdtempSync(join(tmpdir(), "groundmist-import-"))
    data = join(root, "prototype")
    const [notes, tasks] = await Promise.all([write(NOTES, "note "), write(TASKS, "task ")])
    wrote = { [NOTES]: notes, [TASKS]: tasks }
    const id = n => notes[n].documentId
    flip(incremental(id(0), 0)) // the last change is lost
    truncateSync(incremental(id(1), 0), 60) // the same
    flip(incremental(id(2), 1)) // and with it what rests on it
    for (const it of notes.slice(0, 3)) it.value = it.before
    notes[2].value.edit = 0
    writeFileSync(join(dirname(files(NOTES, id(3), "incremental")[0]), "empty"), "")
    writeFileSync(join(dirname(files(NOTES, id(4), "snapshot")[0]), "README"), "not a chunk")
    symlinkSync("/etc/passwd", join(dirname(files(NOTES, id(5), "snapshot")[0]), "link"))
    appendFileSync(files(NOTES, id(6), "snapshot")[0], "trailing garbage")
    truncateSync(files(NOTES, id(7), "snapshot")[0], 800) // all rests on it
    mkdirSync(join(data, "lost+found"))
    writeFileSync(join(data, NOTES, "zz"), "a file where directories are")
    mkdirSync(join(data, TASKS, "ab", "not-an-id", "snapshot"), { recursive: true })
    symlinkSync(TASKS, join(data, "com.example.linked"))
  })
  after(() => rmSync(root, { recursive: true, force: true }))

  function check(report) {
    const notes = wrote[NOTES]
    const outcome = n => report.of[notes[n].documentId]
    for (const n of [0, 1, 2, 3, 4, 5, 6]) assert.equal(outcome(n).outcome, "partly", JSON.stringify(outcome(n)))
    assert.deepEqual([outcome(0), outcome(2)].map(it => [it.files - it.whole, it.left_out]), [[1, 0], [1, 1]])
    assert.match(outcome(5).damaged[0].reason, /symbolic link/)
    assert.equal(outcome(7).outcome, "failed")
    assert.match(outcome(7).message, /lost/)
    assert.deepEqual([report.code, report.summary.partly, report.summary.failed], [1, 7, 1])
    assert.equal(report.documents.length, 2 * COUNT)
    for (const name of ["lost+found", "zz", "not-an-id", "com.example.linked"])
      assert.ok(report.notes.some(note => note.path.endsWith(name)), name)
  }

  /** Clients of both lines find every document with its content; those that lost nothing at the heads they had. */
  const found = (scene, lines) =>
    Promise.all(
      lines.flatMap(line => [NOTES, TASKS].map(async namespace => {
        const there = wrote[namespace].filter((_, n) => namespace !== NOTES || n !== 7)
        const client = await scene.client(line, { namespace })
        const documentIds = there.map(it => it.documentId)
        assert.deepEqual(await client.findMany({ documentIds }), { ready: there.length })
        const values = await client.values({ documentIds })
        values.forEach((value, n) => assert.deepEqual(value, there[n].value))
        for (const n of [10, 50, 100])
          assert.deepEqual(hexHeads(await client.heads({ documentId: documentIds[n] })), hexHeads(there[n].heads))
        await client.close()
      })),
    )

  test("while serving: who has a document open gets it at once, all find all, and again changes nothing", async t => {
    const scene = await Scene.begin(t)
    const waiting = await scene.client("v2", { namespace: TASKS })
    const { documentId, value } = wrote[TASKS][20]
    assert.equal(await waiting.find({ documentId }), "unavailable")
    const prototype = contents(data)
    const { dataDir } = scene.server
    const report = await imports(data, dataDir)
    check(report)
    await waiting.waitFor({ documentId, has: value })
    await found(scene, ["v1", "v2"])
    for (const it of wrote[TASKS]) assert.deepEqual(report.of[it.documentId].heads, hexHeads(it.heads))
    const stored = await list(dataDir)
    assert.equal(stored.length, 2 * COUNT - 1)
    const again = await imports(data, dataDir)
    check(again)
    assert.equal(again.summary.imported, 0)
    assert.deepEqual(await list(dataDir), stored)
    assert.deepEqual(contents(data), prototype)
    // Its last change is lost in the files, not at the client that made it: what the server has more stays.
    await waiting.change({ documentId, set: { later: true } })
    const witness = await scene.client("v1", { namespace: TASKS })
    await witness.find({ documentId })
    await witness.waitFor({ documentId, has: { later: true } })
    assert.equal((await imports(join(data), dataDir)).of[documentId].outcome, "unchanged")
    assert.equal((await witness.value({ documentId })).later, true)
  })

  test("while the server is stopped, also a single tree under a name", async t => {
    const dataDir = join(root, "stopped")
    check(await imports(data, dataDir))
    const one = await run(BINARY, ["import", join(data, TASKS), "--namespace", "com.example.other", "--data-dir", dataDir])
    assert.equal(one.code, 0, one.err)
    assert.match(one.out, new RegExp(`${COUNT} documents: ${COUNT} imported`))
    const wrong = await run(BINARY, ["import", join(data, TASKS), "--data-dir", dataDir])
    assert.equal(wrong.code, 2)
    assert.match(wrong.err, /--namespace/)
    const scene = await Scene.begin(t)
    const server = new Server(dataDir)
    t.after(() => server.stop())
    await server.start()
    await scene.server.stop()
    scene.server = server
    await found(scene, ["v2"])
  })

  for (const who of ["the command, the server stopped,", "the command", "the server"])
    test(`kill -9 of ${who} in the middle loses nothing, and the next run does the rest`, async t => {
      const scene = await Scene.begin(t)
      const { dataDir } = scene.server
      if (who.includes("stopped")) await scene.server.stop()
      const child = spawn(BINARY, ["import", data, "--data-dir", dataDir], { stdio: ["ignore", "pipe", "ignore"] })
      const ended = new Promise(done => child.on("close", done))
      const told = []
      for await (const line of createInterface({ input: child.stdout })) {
        const [, document] = /^\S+ {2}(\S+) {2}imported/.exec(line) ?? []
        if (document) told.push(document)
        if (told.length === 40) {
          if (who === "the server") await scene.server.stop("SIGKILL")
          else child.kill("SIGKILL")
        }
      }
      await ended
      assert.ok(told.length >= 40 && told.length < 2 * COUNT - 8, `it was killed too late: ${told.length}`)
      if (who !== "the command") await scene.server.start()
      const there = new Set((await list(dataDir)).map(it => it.document))
      for (const document of told) assert.ok(there.has(document), `${document} was told and is lost`)
      const report = await imports(data, dataDir)
      check(report)
      for (const document of told) assert.equal(report.of[document].outcome, "unchanged")
      assert.equal((await list(dataDir)).length, 2 * COUNT - 1)
      assert.equal((await imports(data, dataDir)).summary.imported, 0)
    })
})
