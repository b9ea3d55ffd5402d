import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { poll } from '../setup/connection.ts'

/** What a process saw since it was last asked. Times are milliseconds of the server's clock. */
export interface Seen {
  accepted: number
  refused: number
  /** When the last transaction of which a statement was accepted began. */
  lastBegin: number
  /** When the last statement that was accepted began. */
  lastStatement: number
  readonly errors: string[]
}

export interface SuspendedProcessesOptions {
  readonly url: string
  readonly tenantId: string
  readonly processes: number
  readonly connections: number
  /** Whether they run statements by rowhouse, or by hand without asking. */
  readonly mode: 'checked' | 'unchecked'
}

/** Real processes, each with a rowhouse and a pool of its own, that run statements of one tenant until they are stopped. */
export class SuspendedProcesses {
  readonly #children: ChildProcess[]

  constructor({ url, tenantId, processes, connections, mode }: SuspendedProcessesOptions) {
    const program = join(import.meta.dirname, 'suspended-process.ts')
    this.#children = Array.from({ length: processes }, () =>
      fork(program, [url, tenantId, String(connections), mode], { execArgv: [] }),
    )
  }

  /** What each process saw since it was last asked. */
  report(): Promise<Seen[]> {
    return Promise.all(
      this.#children.map(async (child) => {
        const answer = once(child, 'message')
        child.send('report')
        return (await answer)[0] as Seen
      }),
    )
  }

  /** Returns once every process has seen this since, and what they saw meanwhile. */
  async until(what: 'accepted' | 'refused'): Promise<Seen[]> {
    const all = await this.report()
    return poll(
      async () => {
        if (all.every((seen) => seen[what] >= 20)) return all
        await delay(20)
        for (const [index, seen] of (await this.report()).entries()) all[index] = add(all[index]!, seen)
        return undefined
      },
      { message: () => `not every process was ${what}: ${JSON.stringify(all)}`, timeoutMs: 20_000 },
    )
  }

  async stop(): Promise<void> {
    await Promise.all(
      this.#children.map(async (child) => {
        if (child.exitCode !== null || child.signalCode !== null) return
        const ended = once(child, 'exit')
        child.kill('SIGKILL')
        await ended
      }),
    )
  }
}

function add(one: Seen, other: Seen): Seen {
  return {
    accepted: one.accepted + other.accepted,
    refused: one.refused + other.refused,
    lastBegin: Math.max(one.lastBegin, other.lastBegin),
    lastStatement: Math.max(one.lastStatement, other.lastStatement),
    errors: [...one.errors, ...other.errors],
  }
}
