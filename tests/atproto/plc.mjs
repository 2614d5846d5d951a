// A PLC directory that keeps everything in memory; prints {"port"} when it is up.
import plc from "@did-plc/server"

const server = plc.PlcServer.create({ db: plc.Database.mock(), port: 0 })
const { port } = (await server.start()).address()
console.log(JSON.stringify({ port }))
