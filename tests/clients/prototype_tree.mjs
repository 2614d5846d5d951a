// Writes a tree of documents as the prototype did: automerge-repo 1.1.12 on its file storage.
//   node prototype_tree.mjs DIR COUNT PREFIX
// Prints what it wrote: [{documentId, before, value, heads}], `before` being the value before the last change.
import { createHash } from "node:crypto"
import { NodeFSStorageAdapter, Repo, doc, heads } from "./v1/line.mjs"

const [dir, count, prefix] = process.argv.slice(2)
const repo = new Repo({ network: [], storage: new NodeFSStorageAdapter(dir), saveDebounceRate: 1 })
// So long that it does not compress below 1 kB: later changes then go to files of their own instead of a new snapshot.
const body = n => Array.from({ length: 40 }, (_, k) => createHash("sha256").update(`${prefix}${n} ${k}`).digest("hex")).join("")

const handles = Array.from({ length: Number(count) }, (_, n) => repo.create({ title: `${prefix}${n}`, body: body(n) }))
const wrote = []
for (const [n, handle] of handles.entries()) {
  for (let edit = 0; edit < 3; edit++) {
    await repo.flush([handle.documentId])
    if (edit === 2) wrote.push({ documentId: handle.documentId, before: { ...doc(handle) } })
    handle.change(it => (it.edit = edit))
  }
  Object.assign(wrote[n], { value: { ...doc(handle) }, heads: heads(handle) })
}
await repo.flush()
process.stdout.write(JSON.stringify(wrote), () => process.exit(0))
