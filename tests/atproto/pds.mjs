// The reference PDS, configured by PDS_… in the environment; prints {"port"} when it is up.
import { PDS } from "@atproto/pds"

const pds = await PDS.fromEnv()
await pds.start()
console.log(JSON.stringify({ port: pds.server.address().port }))
