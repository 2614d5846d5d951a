// Many small documents, put into a server by its admin socket.
import { createHash, randomBytes } from "node:crypto"
import { Agent, request } from "node:http"
import { join } from "node:path"
import { NAMESPACE } from "../clients/harness.mjs"

const AT_ONCE = 64
const DIGITS = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

const sha256 = bytes => createHash("sha256").update(bytes).digest()

/** An automerge document id: 16 bytes and their checksum in base 58. */
function newId() {
  // No zero first, which base 58 would write as a digit of its own.
  const bytes = Buffer.concat([Buffer.from([1]), randomBytes(15)])
  let number = BigInt(`0x${bytes.toString("hex")}${sha256(sha256(bytes)).toString("hex", 0, 4)}`)
  let id = ""
  for (; number > 0n; number /= 58n) id = DIGITS[Number(number % 58n)] + id
  return id
}

/** Store `count` copies of a document under ids of their own. */
export async function fillUp(scene, documentId, count) {
  const agent = new Agent({ keepAlive: true, maxSockets: AT_ONCE })
  const path = id => `/api/documents/${NAMESPACE}/${id}/automerge`
  const ask = (method, id, body) =>
    new Promise((done, failed) => {
      const asked = request({ socketPath: join(scene.server.dataDir, "admin.sock"), path: path(id), method, agent }, async answer => {
        const bytes = Buffer.concat(await Array.fromAsync(answer))
        answer.statusCode === 200 ? done(bytes) : failed(new Error(`${answer.statusCode} ${bytes}`))
      })
      asked.on("error", failed).end(body)
    })
  const bytes = await ask("GET", documentId)
  let left = count
  await Promise.all(Array.from({ length: AT_ONCE }, async () => {
    while (left-- > 0) await ask("POST", newId(), bytes)
  }))
  agent.destroy()
}
