import { type Kysely, sql } from 'kysely'
import type { AdminExecutor } from '../context/admin-executor.ts'
import {
  type Digests,
  invalidArchive,
  LineDigest,
  type Manifest,
  parseDigests,
  parseManifest,
  sha256,
  type TableDigest,
} from './archive-format.ts'
import { type ArchiveEntry, readArchive } from './archive-reader.ts'
import type { ImportOptions, ImportReceipt } from './portability-types.ts'
import { readFiles } from './read-files.ts'
import { tableLabel } from './table-label.ts'

/** A table of the archive whose rows are wanted here. */
interface PlannedTable {
  readonly schema: string
  readonly name: string
  /** Tables of one place that are written together. */
  readonly place: number
  readonly together: boolean
}

/** The entries of an archive, and the one that was read already. */
export interface EntryCursor {
  current: ArchiveEntry | undefined
  next(): Promise<void>
}

/** Makes what an archive holds a tenant, in one transaction. With `opens: false` nobody may work with it yet. */
export async function importTenant(
  admin: AdminExecutor,
  source: AsyncIterable<Uint8Array>,
  options: ImportOptions,
  { opens = true } = {},
): Promise<ImportReceipt> {
  const archive = readArchive(source)
  const entries: EntryCursor = {
    current: undefined,
    next: async () => {
      const { value } = await archive.next()
      entries.current = value ?? undefined
    },
  }
  try {
    await entries.next()
    const { current } = entries
    if (current?.name !== 'manifest.json') throw invalidArchive('it does not begin with a manifest')
    const manifest = parseManifest(current.data)
    await entries.next()
    return await admin.transaction((db) => writeTenant(db, entries, manifest, sha256(current.data), options, opens))
  } finally {
    await archive.return()
  }
}

async function writeTenant(
  db: Kysely<any>,
  entries: EntryCursor,
  manifest: Manifest,
  manifestDigest: string,
  { as = manifest.tenant.id, contentHash: expected, onFile, onProgress }: ImportOptions,
  opens: boolean,
): Promise<ImportReceipt> {
  const plan = await beginImport(db, as, manifest, !opens)
  const read = await writeRows(db, entries, manifest, plan, as, onProgress)
  const files = await readFiles(entries, onFile)
  const digests = await readDigests(entries)
  if (digests.manifest !== manifestDigest) throw invalidArchive('its manifest was changed')
  assertSame('rows', digests.tables, read)
  assertSame('files', digests.files, files)
  if (expected !== undefined && expected !== digests.contentHash) {
    throw invalidArchive('its content is not the one that was expected')
  }
  const wanted = read.filter((table) => plan.has(tableLabel(table)))
  const origin = { id: manifest.tenant.id, status: manifest.tenant.status, exportedAt: manifest.exportedAt }
  const { rows } = await sql<{ result: { contentHash: string } }>`
    select rowhouse.finish_import(${as}, ${JSON.stringify(wanted)}::jsonb, ${JSON.stringify(origin)}::jsonb, ${opens}) as result`.execute(
    db,
  )
  const { contentHash } = rows[0]!.result
  if (contentHash !== digests.contentHash) throw invalidArchive('its digests do not agree with each other')
  const count = (tables: readonly TableDigest[]) =>
    Object.fromEntries(tables.map((table) => [tableLabel(table), table.rows]))
  return {
    tenantId: as,
    from: manifest.tenant.id,
    contentHash,
    tables: count(wanted),
    rows: wanted.reduce((sum, table) => sum + table.rows, 0),
    leftOut: count(read.filter((table) => !plan.has(tableLabel(table)))),
    files: onFile === undefined ? 0 : files.length,
  }
}

async function beginImport(
  db: Kysely<any>,
  tenantId: string,
  manifest: Manifest,
  arrives: boolean,
): Promise<Map<string, PlannedTable>> {
  const { rows } = await sql<{ plan: PlannedTable[] }>`
    select rowhouse.begin_import(${tenantId}, ${JSON.stringify(manifest.tenant)}::jsonb,
      ${JSON.stringify(manifest.tables)}::jsonb, ${arrives}) as plan`.execute(db)
  return new Map(rows[0]!.plan.map((table) => [tableLabel(table), table]))
}

/** Writes the rows of all tables, in the order of the archive; returns what was read. */
async function writeRows(
  db: Kysely<any>,
  entries: EntryCursor,
  { tables }: Manifest,
  plan: ReadonlyMap<string, PlannedTable>,
  tenantId: string,
  onProgress: ImportOptions['onProgress'],
): Promise<TableDigest[]> {
  const totalRows = tables.reduce((sum, table) => sum + table.rows, 0)
  const read: TableDigest[] = []
  let done = 0
  let together: number | undefined
  const writeTogether = async () => {
    if (together !== undefined) await sql`select rowhouse.import_together(${tenantId})`.execute(db)
    together = undefined
  }
  for (const [index, table] of tables.entries()) {
    if (table.rows === 0) continue
    const label = tableLabel(table)
    const target = plan.get(label)
    if (target !== undefined && together !== target.place) await writeTogether()
    const digest = new LineDigest()
    for (let part = 1; entries.current?.name === `tables/${index + 1}/${part}.jsonl`; part++) {
      const { data } = entries.current
      for (const line of linesOf(data, label)) digest.add(line)
      if (target !== undefined) {
        const lines = textOf(data, label)
        await sql`select rowhouse.import_rows(${tenantId}, ${table.schema}, ${table.name}, ${lines}, ${target.together})`.execute(
          db,
        )
      }
      onProgress?.({ table: label, rows: done + digest.rows, totalRows })
      await entries.next()
    }
    if (digest.rows !== table.rows) {
      throw invalidArchive(`it holds ${digest.rows} rows of ${label}, and its manifest says ${table.rows}`)
    }
    if (target?.together) together = target.place
    done += digest.rows
    read.push({ schema: table.schema, name: table.name, rows: digest.rows, digest: digest.toString() })
  }
  await writeTogether()
  return read
}

const LINE_FEED = 0x0a

function* linesOf(data: Uint8Array, label: string): Generator<Uint8Array> {
  if (data.at(-1) !== LINE_FEED) throw invalidArchive(`a line of ${label} is cut off`)
  for (let start = 0; start < data.length; ) {
    const end = data.indexOf(LINE_FEED, start)
    yield data.subarray(start, end)
    start = end + 1
  }
}

/** Without the last line feed. */
function textOf(data: Uint8Array, label: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(data.subarray(0, -1))
  } catch (error) {
    throw invalidArchive(`a line of ${label} is no UTF-8`, { cause: error })
  }
}

async function readDigests(entries: EntryCursor): Promise<Digests> {
  const { current } = entries
  if (current === undefined) throw invalidArchive('its end is missing')
  if (current.name !== 'digests.json') throw invalidArchive('its entries are not in the order of archives')
  await entries.next()
  if (entries.current !== undefined) throw invalidArchive('something follows its end')
  return parseDigests(current.data)
}

function assertSame(what: string, expected: readonly object[], read: readonly object[]): void {
  const changed = expected.length !== read.length || expected.some((entry, index) => !isSame(entry, read[index]!))
  if (changed) throw invalidArchive(`its ${what} are not those that it was written with`)
}

function isSame(left: object, right: object): boolean {
  return Object.entries(left).every(([name, value]) => (right as Record<string, unknown>)[name] === value)
}
