// What ../client.mjs needs of the 2.x line.
import { decodeHeads } from "@automerge/automerge-repo"

export { Repo } from "@automerge/automerge-repo"
export { WebSocketClientAdapter as WebSocketAdapter } from "@automerge/automerge-repo-network-websocket"
export { NodeFSStorageAdapter } from "@automerge/automerge-repo-storage-nodefs"

/** Start looking for a document; the handle is returned at once. */
export const find = (repo, documentId) => repo.findWithProgress(documentId).handle
/** The document's present value. */
export const doc = handle => handle.doc()
/** The document's heads in hexadecimal. */
export const heads = handle => decodeHeads(handle.heads())
