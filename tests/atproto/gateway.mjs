// One TLS front for all names of the lab: passes requests on by host name, serves small files, and fails as told.
import { request as httpRequest } from "node:http"
import { createServer } from "node:https"
import { connect } from "node:net"

/** Starts on a free port. `gateway.route(host, port | (request, response) => void)` says who answers for a name. */
export class Gateway {
  #routes = new Map()
  #faults = new Map()
  #server
  /** Everything asked so far, as `METHOD host/path` without the query: whom a server under test has turned to. */
  asked = []

  static async start({ cert, key }) {
    const gateway = new Gateway()
    gateway.#server = createServer({ cert, key }, (request, response) => gateway.#answer(request, response))
    gateway.#server.on("upgrade", (request, socket, head) => gateway.#upgrade(request, socket, head))
    await new Promise(done => gateway.#server.listen(0, "127.0.0.1", done))
    gateway.port = gateway.#server.address().port
    return gateway
  }

  route(host, target) {
    this.#routes.set(host, target)
  }

  routeOf(host) {
    return this.#routes.get(host)
  }

  /** All names that it answers for. */
  get hosts() {
    return [...this.#routes.keys()]
  }

  /** Serve one JSON value at `path` of `host`, and 404 elsewhere; called again for the same host it adds. */
  serve(host, path, value) {
    const files = this.#routes.get(host)?.files ?? new Map()
    files.set(path, value)
    const handler = (request, response) => {
      const found = files.get(request.url.split("?")[0])
      response.setHeader("access-control-allow-origin", "*")
      if (found === undefined) return response.writeHead(404).end()
      const [type, body] = typeof found === "string" ? ["text/html", found] : ["application/json", JSON.stringify(found)]
      response.setHeader("content-type", type).end(body)
    }
    this.#routes.set(host, Object.assign(handler, { files }))
  }

  /**
   * From now on `host` is "down" (connections are cut), slow (`{ delayMs }`), or answers what `(request, response)`
   * says, which returns false to let a request through. The function returned ends it.
   */
  fault(host, fault) {
    this.#faults.set(host, fault)
    return () => this.#faults.delete(host)
  }

  async #answer(request, response) {
    const host = (request.headers.host ?? "").split(":")[0]
    this.asked.push(`${request.method} ${host}${request.url.split("?")[0]}`)
    const fault = this.#faults.get(host)
    if (fault === "down") return request.socket.destroy()
    if (typeof fault === "function" && fault(request, response) !== false) return
    if (fault?.delayMs) await new Promise(done => setTimeout(done, fault.delayMs).unref())
    const target = this.#routes.get(host)
    if (typeof target === "function") return target(request, response)
    if (!target) return response.writeHead(404).end()
    // As proxies do: behind what one before it said.
    const forwarded = [request.headers["x-forwarded-for"], "127.0.0.1"].filter(Boolean).join(", ")
    const headers = { ...request.headers, "x-forwarded-for": forwarded, "x-forwarded-proto": "https" }
    const onward = httpRequest({ host: "127.0.0.1", port: target, method: request.method, path: request.url, headers }, answer => {
      response.writeHead(answer.statusCode, answer.statusMessage, answer.rawHeaders)
      answer.pipe(response)
    })
    onward.on("error", () => (response.headersSent ? response.destroy() : response.writeHead(502).end()))
    request.pipe(onward)
  }

  #upgrade(request, socket, head) {
    const target = this.#routes.get((request.headers.host ?? "").split(":")[0])
    if (typeof target !== "number") return socket.destroy()
    const onward = connect(target, "127.0.0.1", () => {
      const lines = [`${request.method} ${request.url} HTTP/1.1`]
      for (let n = 0; n < request.rawHeaders.length; n += 2) lines.push(`${request.rawHeaders[n]}: ${request.rawHeaders[n + 1]}`)
      onward.write(`${lines.join("\r\n")}\r\n\r\n`)
      onward.write(head)
      socket.pipe(onward).pipe(socket)
    })
    for (const [one, other] of [[socket, onward], [onward, socket]]) {
      one.on("error", () => other.destroy())
      one.on("close", () => other.destroy())
    }
  }

  stop() {
    this.#server.closeAllConnections()
    return new Promise(done => this.#server.close(done))
  }
}
