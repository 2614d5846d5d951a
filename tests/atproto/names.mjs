// Preloaded into every Node process of the lab: `*.internal` and `*.test` are at the lab's gateway, whatever DNS says.
import { Socket } from "node:net"

const ours = /\.(internal|test)$/
const connect = Socket.prototype.connect

/** The same options, for the gateway. TLS has taken the server's name from them already. */
const redirected = options =>
  ours.test(options?.host ?? "") && process.env.LAB_GATEWAY
    ? { ...options, host: "127.0.0.1", port: Number(process.env.LAB_GATEWAY), lookup: undefined, autoSelectFamily: false }
    : options

Socket.prototype.connect = function (first, ...rest) {
  // Node's own callers hand over an array that is normalised, and marked so.
  if (Array.isArray(first)) first[0] = redirected(first[0])
  else first = redirected(first)
  return connect.call(this, first, ...rest)
}
