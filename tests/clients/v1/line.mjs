// What ../client.mjs needs of the 1.x line.
export { Repo } from "@automerge/automerge-repo"
export { BrowserWebSocketClientAdapter as WebSocketAdapter } from "@automerge/automerge-repo-network-websocket"
export { NodeFSStorageAdapter } from "@automerge/automerge-repo-storage-nodefs"

/** Start looking for a document; the handle is returned at once. */
export const find = (repo, documentId) => repo.find(documentId)
/** The document's present value. */
export const doc = handle => handle.docSync()
/** The document's heads in hexadecimal. */
export const heads = handle => handle.heads()
