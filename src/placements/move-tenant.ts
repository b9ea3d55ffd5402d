import { PassThrough } from 'node:stream'
import { sql } from 'kysely'
import type { AdminExecutor } from '../context/admin-executor.ts'
import { createRowhouseError } from '../errors.ts'
import { exportTenant } from '../portability/export-tenant.ts'
import { importTenant } from '../portability/import-tenant.ts'
import { type AdminDirectory, type RegistryRow, readRow } from './admin-directory.ts'
import { DEFAULT_MAX_PAUSE_MS } from './max-pause.ts'
import type { MoveOptions, MoveReceipt } from './move-types.ts'

/** Both ends are near each other, and what is compressed is thrown away. */
const NO_COMPRESSION = 0

/** One end of a move. */
interface End {
  readonly name: string
  readonly admin: AdminExecutor
}

interface Move {
  readonly tenantId: string
  readonly source: End
  readonly target: End
  readonly options: MoveOptions
  /** Which move of the tenant it is, as the source says; undefined: any. */
  readonly begun?: string | undefined
}

/** Moves a tenant to another database, or finishes a move that was interrupted. */
export async function moveTenant(
  directory: AdminDirectory,
  tenantId: string,
  to: string,
  options: MoveOptions,
): Promise<MoveReceipt> {
  const target = { name: to, admin: directory.get(to) }
  // A source that was not erased yet: its move got as far as the switch.
  const unfinished = (await directory.everywhere(tenantId)).find(
    ({ row }) => row?.status === 'moved' && row.statusBefore !== null,
  )
  if (unfinished !== undefined) {
    const name = unfinished.row!.placement!
    const receipt = await finish({
      tenantId,
      source: unfinished,
      target: { name, admin: directory.get(name) },
      options,
    })
    return name === to ? receipt : moveTenant(directory, tenantId, to, options)
  }
  const source = await directory.locate(tenantId)
  if (source.name === to && source.row !== undefined) {
    throw createRowhouseError('invalid_argument', `Tenant "${tenantId}" is in "${to}" already.`)
  }
  let move: Move = { tenantId, source, target, options }
  const started = performance.now()
  try {
    options.onStep?.('close')
    const { rows } = await sql<{ begun: string }>`
      select rowhouse.begin_move(${tenantId}, ${to}) as begun`.execute(source.admin.db)
    move = { ...move, begun: rows[0]!.begun }
    await copy(move)
    options.onStep?.('switch')
    await switchPlacement(move)
  } catch (error) {
    if (move.begun !== undefined) await cancel(move).catch(() => {})
    throw error
  }
  return finish(move, started)
}

/** Calls a move off that has not switched yet; false when there is none. */
export async function cancelMove(directory: AdminDirectory, tenantId: string): Promise<boolean> {
  const { name, admin, row } = await directory.locate(tenantId)
  if (row?.status !== 'moving' || row.placement === null) return false
  const target = { name: row.placement, admin: directory.get(row.placement) }
  return cancel({ tenantId, source: { name, admin }, target, options: {} })
}

async function copy(move: Move): Promise<void> {
  const { tenantId, source, target, options } = move
  await sql`select rowhouse.await_writers(${tenantId})`.execute(source.admin.db)
  options.onStep?.('copy')
  const arrived = await hasArrived(move)
  if (arrived === 'whole') return
  // Of an older move.
  if (arrived === 'otherwise') await discard(move)
  const { maxPauseMs = DEFAULT_MAX_PAUSE_MS, onProgress } = options
  const pipe = new PassThrough()
  let late: Error | undefined
  const timer = setTimeout(() => {
    late = createRowhouseError(
      'tenant_busy',
      `The copy of tenant "${tenantId}" was not ready after ${maxPauseMs} ms.`,
      {
        hint: 'The tenant works where it was. Give maxPauseMs more time.',
      },
    )
    pipe.destroy(late)
  }, maxPauseMs)
  try {
    const exporting = exportTenant(
      source.admin,
      tenantId,
      { to: pipe, onProgress },
      { compressionLevel: NO_COMPRESSION },
    )
    const importing = importTenant(target.admin, pipe, {}, { opens: false })
    const [exported, imported] = await Promise.allSettled([exporting, importing])
    // Whoever failed first made the other fail: the import, unless its source did.
    for (const end of [imported, exported]) {
      if (end.status === 'fulfilled') continue
      // Somebody who moves it at the same time may have been faster.
      if ((await hasArrived(move).catch(() => 'not')) === 'whole') return
      throw reasonOf(end.reason)
    }
    if (late !== undefined) throw late
  } finally {
    clearTimeout(timer)
  }
}

function reasonOf(error: unknown): unknown {
  const { code, cause } = error as { code?: unknown; cause?: unknown }
  return code === 'invalid_archive' && cause !== undefined ? cause : error
}

/** Whether the target has a copy that waits to be opened, with all that the source has. */
async function hasArrived({ tenantId, source, target }: Move): Promise<'whole' | 'otherwise' | 'not'> {
  const there = await readRow(target.admin, tenantId)
  if (there?.status !== 'importing') return 'not'
  return (await digestOf(source, tenantId)) === (await digestOf(target, tenantId)) ? 'whole' : 'otherwise'
}

/** What the tenant is, in every table. */
async function digestOf({ admin }: End, tenantId: string): Promise<string> {
  const { rows } = await admin.transaction(
    (db) =>
      sql<{ tables: string }>`
        select (select jsonb_agg(t.value - 'columns' order by t.value ->> 'schema', t.value ->> 'name')
          from jsonb_array_elements(rowhouse.tenant_digest(${tenantId}) -> 'tables') t
          where (t.value -> 'rows')::bigint > 0)::text as tables`.execute(db),
    { isolationLevel: 'repeatable read', accessMode: 'read only' },
  )
  return rows[0]!.tables
}

/** Runs `fn` while nobody can take the move a step further. */
function holding<T>(
  { source, tenantId }: Move,
  fn: (db: AdminExecutor['db'], row: RegistryRow) => Promise<T>,
): Promise<T> {
  return source.admin.transaction(async (db) => {
    const { rows } = await sql<RegistryRow>`
      select status, placement, status_before as "statusBefore" from rowhouse.hold_move(${tenantId})`.execute(db)
    return fn(db, rows[0] ?? { status: 'unknown', placement: null, statusBefore: null })
  })
}

async function switchPlacement(move: Move): Promise<void> {
  const { tenantId, target, begun } = move
  await holding(move, async (db) => {
    const there = await readRow(target.admin, tenantId)
    if (there?.status !== 'importing') throw overtaken(move)
    await sql`select rowhouse.switch_placement(${tenantId}, ${target.name}, ${begun!})`.execute(db)
  })
}

/** The steps that a move always takes after it has switched. */
async function finish(move: Move, started = performance.now()): Promise<MoveReceipt> {
  const { tenantId, source, target, options } = move
  options.onStep?.('open')
  await holding(move, async (_db, { status, placement, statusBefore }) => {
    if (status !== 'moved' || placement !== target.name) throw overtaken(move)
    const origin = { status: statusBefore, placement: source.name }
    await sql`select rowhouse.open_moved(${tenantId}, ${JSON.stringify(origin)}::jsonb)`.execute(target.admin.db)
  })
  const pausedMs = performance.now() - started
  options.onStep?.('erase')
  // In a transaction, so that the statement isn't sent after the tenant to where it is.
  const { rows } = await source.admin.transaction((db) =>
    sql<{ erasure: MoveReceipt['erasure'] }>`select rowhouse.finish_move(${tenantId}) as erasure`.execute(db),
  )
  const { erasure } = rows[0]!
  return { tenantId, from: source.name, to: target.name, contentHash: erasure.contentHash, pausedMs, erasure }
}

/** Opens the source again, then removes what was copied, which nobody worked with. */
async function cancel(move: Move): Promise<boolean> {
  const { rows } = await move.source.admin.transaction((db) =>
    sql<{
      cancelled: boolean
    }>`select rowhouse.cancel_move(${move.tenantId}, ${move.begun ?? null}) as cancelled`.execute(db),
  )
  if (rows[0]!.cancelled) await discard(move)
  return rows[0]!.cancelled
}

async function discard(move: Move): Promise<void> {
  const { tenantId, target } = move
  await holding(move, async (_db, { status }) => {
    if (status === 'moved') throw overtaken(move)
    const there = await readRow(target.admin, tenantId)
    if (there?.status !== 'importing') return
    await sql`select rowhouse.discard_import(${tenantId})`.execute(target.admin.db)
  })
}

function overtaken({ tenantId }: Move): Error {
  return createRowhouseError('tenant_moving', `Somebody else moves tenant "${tenantId}" at the same time.`)
}
