// What memory the server takes, and a control group that limits it as a small machine would.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"

/** Where version 1 of control groups has its memory controller (cgroups(7)). */
const CONTROLLER = "/sys/fs/cgroup/memory"
const REMOVED_MS = 5000
let groups = 0

/** A figure of `/proc/<pid>/status` in bytes, such as `VmHWM`, the most that has been resident; 0 if the process is gone. */
export function memoryBytes(pid, figure) {
  let text = ""
  try {
    text = readFileSync(`/proc/${pid}/status`, "utf8")
  } catch {
    // The process has ended.
  }
  return 1024 * Number(new RegExp(`^${figure}:\\s+(\\d+) kB`, "m").exec(text)?.[1] ?? 0)
}

/** The processes that a process has started and that are alive. */
export function children(parent) {
  const isChild = pid => {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, "utf8")
      // The name stands in brackets and may hold anything.
      const [state, of] = stat.slice(stat.lastIndexOf(") ") + 2).split(" ")
      return Number(of) === parent && state !== "Z"
    } catch {
      return false
    }
  }
  return readdirSync("/proc").filter(name => /^\d+$/.test(name)).map(Number).filter(isChild)
}

/** A control group of its own for one server and the processes that it starts. */
export class MemoryGroup {
  #path

  /** Why no group can be made here; undefined where one can. */
  static get missing() {
    if (!existsSync(join(CONTROLLER, "memory.limit_in_bytes"))) return `no memory control group of version 1 at ${CONTROLLER}`
    if (process.getuid() !== 0) return "only root may make a control group"
    try {
      rmdirSync(MemoryGroup.make(1 << 30).#path)
    } catch (error) {
      return `a control group cannot be made: ${error.message}`
    }
    return undefined
  }

  static make(bytes) {
    const group = new MemoryGroup()
    group.#path = join(CONTROLLER, `groundmist-test-${process.pid}-${++groups}`)
    mkdirSync(group.#path)
    try {
      group.#write("memory.limit_in_bytes", bytes)
      // Where swap is counted, what does not fit must not go there. The file is missing where it is not counted.
      if (existsSync(join(group.#path, "memory.memsw.limit_in_bytes"))) group.#write("memory.memsw.limit_in_bytes", bytes)
    } catch (error) {
      rmdirSync(group.#path)
      throw error
    }
    return group
  }

  #write(file, value) {
    writeFileSync(join(this.#path, file), String(value))
  }

  #read(file) {
    return readFileSync(join(this.#path, file), "utf8")
  }

  /** A command that enters the group and then becomes `command`, with the same process id. */
  wrap(command, args) {
    return ["sh", ["-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', this.#path, command, ...args]]
  }

  /** How many processes of the group the system has killed for want of memory. */
  get kills() {
    return Number(/^oom_kill (\d+)$/m.exec(this.#read("memory.oom_control"))[1])
  }

  /** The most memory that the group has taken, in bytes, files that the system keeps in memory included. */
  get peakBytes() {
    return Number(this.#read("memory.max_usage_in_bytes"))
  }

  /** Remove the group; its processes must have ended, and the system may take a moment to see that. */
  async remove() {
    const end = Date.now() + REMOVED_MS
    for (;;) {
      try {
        return rmdirSync(this.#path)
      } catch (error) {
        if (error.code !== "EBUSY" || Date.now() > end) throw error
        await new Promise(done => setTimeout(done, 50))
      }
    }
  }
}
