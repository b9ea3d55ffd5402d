import { execFileSync, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { withClient } from '../setup/connection.ts'
import { findServerBinaries } from '../setup/engines/binaries.ts'

/** A `pg_dump` that can read this server, which older ones refuse to; undefined where there is none. */
export async function findPgDump(url: string): Promise<string | undefined> {
  const server = await withClient(url, async (client) => {
    const { rows } = await client.query("select current_setting('server_version_num')::int / 10000 as major")
    return rows[0].major as number
  })
  return findServerBinaries()
    .map(({ binDirectory }) => join(binDirectory, 'pg_dump'))
    .find((path) => existsSync(path) && majorOf(path) >= server)
}

/** As in `pg_dump (PostgreSQL) 15.20`. */
function majorOf(pgDump: string): number {
  return Number(/\d+/.exec(execFileSync(pgDump, ['--version'], { encoding: 'utf8' }))?.[0])
}

export interface DumpSearch {
  readonly bytes: number
  /** How often each needle was found. */
  readonly found: ReadonlyMap<string, number>
}

/** Dumps the whole database and looks for texts in the stream, without keeping it. */
export async function searchDump(pgDump: string, url: string, needles: readonly string[]): Promise<DumpSearch> {
  const dump = spawn(pgDump, ['--no-sync', '--dbname', url], { stdio: ['ignore', 'pipe', 'pipe'] })
  let problem = ''
  dump.stderr.on('data', (chunk: Buffer) => {
    problem += chunk.toString()
  })
  const ended = new Promise<number | null>((resolve, reject) => dump.once('error', reject).once('close', resolve))
  const wanted = needles.map((needle) => ({ needle, bytes: Buffer.from(needle) }))
  const found = new Map(needles.map((needle) => [needle, 0]))
  // What may be the beginning of a needle that ends in the next chunk.
  const overlap = Math.max(...wanted.map(({ bytes }) => bytes.length)) - 1
  let bytes = 0
  let rest = Buffer.alloc(0)
  for await (const chunk of dump.stdout as AsyncIterable<Buffer>) {
    bytes += chunk.length
    const text = Buffer.concat([rest, chunk])
    for (const { needle, bytes: sought } of wanted) {
      // One that ended in the chunk before was counted there.
      for (let at = text.indexOf(sought); at !== -1; at = text.indexOf(sought, at + sought.length)) {
        if (at + sought.length > rest.length) found.set(needle, found.get(needle)! + 1)
      }
    }
    rest = text.subarray(Math.max(0, text.length - overlap))
  }
  const code = await ended
  if (code !== 0) throw new Error(`pg_dump ended with ${code}: ${problem}`)
  return { bytes, found }
}
