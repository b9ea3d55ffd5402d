import { fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { createRowhouse } from '../../src/index.ts'
import { poll, withClient } from '../setup/connection.ts'
import { type Canary, createLargeData, makeCanary, needlesOf } from './large-data.ts'
import { searchDump } from './search-dump.ts'

/**
 * How an erasure is cut off: its process is killed (SIGKILL; the server notices), its backend is ended
 * (pg_terminate_backend), or its backend is killed (SIGKILL), upon which the whole server restarts from its log.
 */
export const INTERRUPTIONS = ['process killed', 'backend terminated', 'backend killed'] as const
export type Interruption = (typeof INTERRUPTIONS)[number]

export interface InterruptedErasureOptions {
  readonly urls: { readonly app: string; readonly owner: string; readonly superuser: string }
  readonly pgDump: string
  readonly tables: number
  /** Of all tenants together. */
  readonly rows: number
  readonly tenants: number
  /** How it is cut off, one after the other. */
  readonly interruptions: readonly Interruption[]
  readonly log?: (line: string) => void
}

export interface InterruptedErasure {
  readonly tenantRows: number
  readonly erased: { readonly rows: number; readonly seconds: number }
  /** Of those that came before the end. */
  readonly cutOff: Readonly<Record<Interruption, number>>
  readonly dumpBytes: number
  /** Empty when all is well. */
  readonly problems: readonly string[]
}

/**
 * Erases a tenant, cut off at random points, and resumed until it is done. After each point all rows are there, or none.
 * Then a dump of the whole database holds no canary of it, and still those of the other tenants.
 */
export async function eraseInterrupted(options: InterruptedErasureOptions): Promise<InterruptedErasure> {
  const { urls, pgDump, tables, rows, tenants, interruptions, log = () => {} } = options
  const problems: string[] = []
  const canaries = Array.from({ length: tenants }, (_, index) => makeCanary(`tenant-${index}`, index))
  const [control, twin, ...victims] = canaries as [Canary, Canary, ...Canary[]]
  await withClient(urls.owner, (owner) => createLargeData(owner, urls, { tables, rows, canaries }))
  const search = async () => {
    const { bytes, found } = await searchDump(
      pgDump,
      urls.superuser,
      canaries.flatMap((one) => Object.values(needlesOf(one))),
    )
    return { bytes, countsOf: (one: Canary) => Object.values(needlesOf(one)).map((needle) => found.get(needle)!) }
  }
  const before = await search()
  for (const one of canaries) {
    if (before.countsOf(one).includes(0))
      problems.push(`negative control: ${one.tenantId} is not found before its erasure`)
  }
  log(`${(before.bytes / 1e6).toFixed(0)} MB dumped, with the canaries of ${tenants} tenants`)

  const tenantRows = await rowsOf(urls.owner, twin.tenantId)
  const begun = performance.now()
  const erasedRows = await eraseHere(urls.owner, twin.tenantId)
  const seconds = (performance.now() - begun) / 1000
  log(`erased a tenant of ${erasedRows} rows in ${seconds.toFixed(1)} s, undisturbed`)

  const erased = [twin]
  const cutOff: Record<Interruption, number> = { 'process killed': 0, 'backend terminated': 0, 'backend killed': 0 }
  let victim = victims.shift()!
  let spanMs = seconds * 750
  for (const interruption of interruptions) {
    // Where it was done before, it was no interruption: once more, earlier, with another tenant.
    for (let left = 0; left === 0; ) {
      const after = Math.random() * spanMs
      const finished = await eraseCutOff(urls, victim.tenantId, interruption, after)
      left = await rowsOf(urls.owner, victim.tenantId)
      log(`${interruption} after ${after.toFixed(0)} ms: ${left} rows`)
      if (left !== 0 && left !== tenantRows) problems.push(`${interruption}: ${left} rows of ${tenantRows} are left`)
      if (left !== 0 && finished) problems.push(`it said that it erased the tenant, and ${left} rows are left`)
      if (left !== 0) break
      spanMs *= 0.6
      erased.push(victim)
      const next = victims.shift()
      if (next === undefined) throw new Error('every tenant was erased before it could be interrupted')
      victim = next
    }
    cutOff[interruption]++
  }
  await eraseHere(urls.owner, victim.tenantId)
  erased.push(victim)
  log(`erased ${erased.length} tenants`)
  await withClient(urls.owner, async (owner) => {
    const { rows: receipts } = await owner.query<{ intact: boolean }>('select intact from rowhouse.verify_erasures()')
    if (receipts.length !== erased.length || receipts.some(({ intact }) => !intact))
      problems.push('a receipt does not hold')
  })

  const after = await search()
  for (const one of erased) {
    const counts = after.countsOf(one)
    if (counts.some((count) => count > 0)) problems.push(`${one.tenantId}: found ${counts} times after its erasure`)
  }
  for (const one of [control, ...victims]) {
    if (String(after.countsOf(one)) !== String(before.countsOf(one))) problems.push(`what ${one.tenantId} has changed`)
  }
  return { tenantRows, erased: { rows: erasedRows, seconds }, cutOff, dumpBytes: after.bytes, problems }
}

async function eraseHere(connectionString: string, tenantId: string): Promise<number> {
  const rowhouse = createRowhouse({ connectionString })
  try {
    return (await rowhouse.tenants.erase(tenantId)).rows
  } finally {
    await rowhouse.close()
  }
}

async function rowsOf(url: string, tenantId: string): Promise<number> {
  return withClient(url, async (client) => {
    const { rows } = await client.query<{ n: string }>(
      `select sum(r.value::bigint) as n from jsonb_each_text(rowhouse.rows_of_tenant($1)) r where r.key like 'large.%'`,
      [tenantId],
    )
    return Number(rows[0]!.n)
  })
}

/** Starts an erasure in a process of its own and cuts it off; whether it had finished before. */
async function eraseCutOff(
  urls: InterruptedErasureOptions['urls'],
  tenantId: string,
  interruption: Interruption,
  afterMs: number,
): Promise<boolean> {
  const child = fork(join(import.meta.dirname, 'erase-process.ts'), [urls.owner, tenantId], {
    execArgv: [],
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
  })
  let finished = false
  child.once('message', () => {
    finished = true
  })
  const ended = once(child, 'exit')
  const watcher = new pg.Client({ connectionString: urls.superuser })
  watcher.on('error', () => {})
  let gone = false
  watcher.once('end', () => {
    gone = true
  })
  await watcher.connect()
  const backends = async () => {
    const { rows } = await watcher.query<{ pid: number }>(
      "select pid from pg_stat_activity where application_name = 'erases' and datname = current_database() and query like '%erase_tenant%'",
    )
    return rows.map(({ pid }) => pid)
  }
  await poll(async () => finished || child.exitCode !== null || (await backends()).length > 0 || undefined, {
    message: () => 'the erasure did not begin',
    timeoutMs: 30_000,
  })
  await delay(afterMs)
  const pids = await backends()
  if (interruption === 'process killed') child.kill('SIGKILL')
  for (const pid of pids) {
    if (interruption === 'backend terminated') await watcher.query('select pg_terminate_backend($1)', [pid])
    if (interruption === 'backend killed') killBackend(pid)
  }
  if (interruption === 'backend killed' && pids.length > 0) {
    // The server ends every connection when it notices, and takes new ones when it has recovered.
    if (!gone) await new Promise((resolve) => watcher.once('end', resolve))
    await poll(() => withClient(urls.superuser, async () => true).catch(() => undefined), {
      message: () => 'the server did not come back',
      timeoutMs: 120_000,
      everyMs: 100,
    })
  } else {
    await poll(async () => (await backends()).length === 0 || undefined, {
      message: () => 'the backend did not end',
      timeoutMs: 120_000,
      everyMs: 50,
    })
  }
  // It tries again by itself where it can; the point was this one.
  child.kill('SIGKILL')
  await ended
  await watcher.end().catch(() => {})
  return finished
}

function killBackend(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch (error) {
    // It ended by itself.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}
