// Writes an automerge document of one change per keystroke, the same bytes for the same seed.
//   node large_document.mjs KEYSTROKES OUTPUT
import { writeFileSync } from "node:fs"
import * as A from "@automerge/automerge"

/** A small generator of numbers in 0..1 (mulberry32), so that the document never changes. */
function random(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

const [keystrokes, output] = [Number(process.argv[2]), process.argv[3]]
const next = random(42)
let doc = A.from({ text: "" }, { actor: "00112233445566778899aabbccddeeff" })
let cursor = 0
let length = 0
for (let i = 0; i < keystrokes; i++) {
  // Now and then the writer goes elsewhere in the text; one keystroke in ten takes a letter back.
  if (next() < 0.02) cursor = Math.floor(next() * (length + 1))
  const erase = cursor > 0 && next() < 0.1
  const letter = String.fromCharCode(97 + Math.floor(next() * 26))
  doc = A.change(doc, { time: 0 }, draft => {
    if (erase) A.splice(draft, ["text"], cursor - 1, 1)
    else A.splice(draft, ["text"], cursor, 0, letter)
  })
  cursor += erase ? -1 : 1
  length += erase ? -1 : 1
}
writeFileSync(output, A.save(doc))
console.log(JSON.stringify({ keystrokes, length, heads: A.getHeads(doc) }))
