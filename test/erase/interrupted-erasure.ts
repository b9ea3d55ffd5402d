import { fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { createRowhouse } from '../../src/index.ts'
import { poll, withClient } from '../setup/connection.ts'
import { createLargeData, makeCanary, needlesOf } from './large-data.ts'
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
 * Then a dump of the whole database holds no canary of it, and still those of another tenant.
 */
export async function eraseInterrupted(options: InterruptedErasureOptions): Promise<InterruptedErasure> {
  const { urls, pgDump, tables, rows, tenants, interruptions, log = () => {} } = options
  const problems: string[] = []
  const canaries = [
    'victim',
    'control',
    'twin',
    ...Array.from({ length: tenants - 3 }, (_, index) => `other-${index}`),
  ].map(makeCanary)
  const [victim, control] = canaries.map(needlesOf) as [ReturnType<typeof needlesOf>, ReturnType<typeof needlesOf>]
  await withClient(urls.owner, (owner) => createLargeData(owner, urls, { tables, rows, canaries }))
  const before = await searchDump(pgDump, urls.superuser, [...Object.values(victim), ...Object.values(control)])
  for (const [needle, count] of before.found) {
    if (count === 0) problems.push(`negative control: ${needle} is not found before the erasure`)
  }
  log(`${(before.bytes / 1e6).toFixed(0)} MB dumped, with all canaries`)

  const tenantRows = await rowsOf(urls.owner, 'victim')
  const begun = performance.now()
  const twin = await eraseHere(urls.owner, 'twin')
  const seconds = (performance.now() - begun) / 1000
  log(`erased a tenant of ${twin} rows in ${seconds.toFixed(1)} s, undisturbed`)

  const cutOff: Record<Interruption, number> = { 'process killed': 0, 'backend terminated': 0, 'backend killed': 0 }
  for (const interruption of interruptions) {
    // Not so late that it is done before.
    const after = Math.random() * seconds * 750
    const finished = await eraseCutOff(urls, interruption, after)
    const left = await rowsOf(urls.owner, 'victim')
    log(`${interruption} after ${after.toFixed(0)} ms: ${left} rows`)
    if (left !== 0 && left !== tenantRows) problems.push(`${interruption}: ${left} rows of ${tenantRows} are left`)
    if (left === 0) break
    if (finished) problems.push(`it said that it erased the tenant, and ${left} rows are left`)
    cutOff[interruption]++
  }
  if ((await rowsOf(urls.owner, 'victim')) > 0) await eraseHere(urls.owner, 'victim')
  await withClient(urls.owner, async (owner) => {
    const { rows: broken } = await owner.query('select tenant_id from rowhouse.verify_erasures() where not intact')
    if (broken.length > 0) problems.push('a receipt does not hold')
  })

  const dump = await searchDump(pgDump, urls.superuser, [...Object.values(victim), ...Object.values(control)])
  for (const [kind, needle] of Object.entries(victim)) {
    if (dump.found.get(needle)! > 0) problems.push(`${kind}: found ${dump.found.get(needle)} times after the erasure`)
  }
  for (const [kind, needle] of Object.entries(control)) {
    if (dump.found.get(needle) !== before.found.get(needle)) problems.push(`${kind} of another tenant changed`)
  }
  return { tenantRows, erased: { rows: twin, seconds }, cutOff, dumpBytes: dump.bytes, problems }
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
  interruption: Interruption,
  afterMs: number,
): Promise<boolean> {
  const child = fork(join(import.meta.dirname, 'erase-process.ts'), [urls.owner, 'victim'], {
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
