import { type Kysely, sql } from 'kysely'
import type { AdminExecutor } from '../context/admin-executor.ts'
import { packageVersion } from '../migrate/package-version.ts'
import {
  type ExportFacts,
  type FileDigest,
  FileDigester,
  FORMAT,
  FORMAT_VERSION,
  LineDigest,
  type Manifest,
  type ManifestTable,
  NOTES,
  sha256,
  type TableDigest,
} from './archive-format.ts'
import { ArchiveWriter } from './archive-writer.ts'
import type { ExportedFile, ExportOptions, ExportReceipt } from './portability-types.ts'
import { tableLabel } from './table-label.ts'

/** Of the lines that one statement fetches, which are a part of the archive. */
const PART_BYTES = 2 * 1024 * 1024

/** Writes everything of the tenant, as it is at one moment, to a stream. */
export function exportTenant(
  admin: AdminExecutor,
  tenantId: string,
  options: ExportOptions,
  { compressionLevel }: { readonly compressionLevel?: number } = {},
): Promise<ExportReceipt> {
  return admin.transaction((db) => writeArchive(db, tenantId, options, compressionLevel), {
    isolationLevel: 'repeatable read',
    accessMode: 'read only',
  })
}

async function writeArchive(
  db: Kysely<any>,
  tenantId: string,
  { to, files = [], onProgress }: ExportOptions,
  compressionLevel: number | undefined,
): Promise<ExportReceipt> {
  const { rows } = await sql<{ facts: ExportFacts }>`select rowhouse.begin_export(${tenantId}) as facts`.execute(db)
  const { facts } = rows[0]!
  const manifest: Manifest = {
    format: FORMAT,
    formatVersion: FORMAT_VERSION,
    rowhouseVersion: packageVersion(),
    ...facts,
    notes: [...NOTES],
  }
  if (to.errored) throw to.errored
  const totalRows = facts.tables.reduce((sum, table) => sum + table.rows, 0)
  const writer = new ArchiveWriter(to, compressionLevel)
  try {
    const manifestData = Buffer.from(JSON.stringify(manifest, null, 2))
    await writer.add('manifest.json', manifestData)
    const tables: (ManifestTable & { digest: string })[] = []
    let done = 0
    for (const [index, table] of facts.tables.entries()) {
      if (table.rows === 0) continue
      const digest = new LineDigest()
      let part = 0
      for await (const lines of readLines(db, tenantId, table)) {
        for (const line of lines) digest.add(line)
        await writer.add(`tables/${index + 1}/${++part}.jsonl`, joinLines(lines))
        done += lines.length
        onProgress?.({ table: tableLabel(table), rows: done, totalRows })
      }
      tables.push({ ...table, rows: digest.rows, digest: digest.toString() })
    }
    const fileDigests = await writeFiles(writer, files)
    const contentHash = await hashContent(db, tables)
    const digests = { manifest: sha256(manifestData), contentHash, tables: tables.map(toDigest), files: fileDigests }
    await writer.add('digests.json', Buffer.from(JSON.stringify(digests, null, 2)))
    await writer.finish()
    return {
      tenantId,
      exportedAt: facts.exportedAt,
      contentHash,
      tables: Object.fromEntries(tables.map((table) => [tableLabel(table), table.rows])),
      rows: done,
      files: fileDigests.length,
      bytes: writer.bytes,
    }
  } catch (error) {
    await writer.abort(error)
    throw error
  }
}

/** The lines of a table, in the order in which they are digested. */
async function* readLines(db: Kysely<any>, tenantId: string, { schema, name }: ManifestTable) {
  await sql`select rowhouse.open_export(${tenantId}, ${schema}, ${name})`.execute(db)
  for (let more = true; more; ) {
    const { rows } = await sql<{ line: string }>`
      select line from rowhouse.fetch_export(${tenantId}, ${PART_BYTES}) f (line)`.execute(db)
    const lines = rows.map(({ line }) => Buffer.from(line))
    if (lines.length > 0) yield lines
    more = lines.reduce((bytes, line) => bytes + line.length + 1, 0) >= PART_BYTES
  }
}

const LINE_FEED = Buffer.from('\n')

function joinLines(lines: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat(lines.flatMap((line) => [line, LINE_FEED]))
}

/** By the database, so that both ends hash alike. */
async function hashContent(db: Kysely<any>, tables: readonly ManifestTable[]): Promise<string> {
  const { rows } = await sql<{ hash: string }>`
    select rowhouse.content_hash(${JSON.stringify(tables)}::jsonb) as hash`.execute(db)
  return rows[0]!.hash
}

function toDigest({ schema, name, rows, digest }: TableDigest): TableDigest {
  return { schema, name, rows, digest }
}

async function writeFiles(writer: ArchiveWriter, files: NonNullable<ExportOptions['files']>): Promise<FileDigest[]> {
  const digests: FileDigest[] = []
  for await (const { name, content } of files) {
    const folder = `files/${digests.length + 1}`
    await writer.add(`${folder}/name.json`, Buffer.from(JSON.stringify({ name })))
    const digest = new FileDigester()
    let part = 0
    for await (const chunk of piecesOf(content)) {
      for (let start = 0; start < chunk.length; start += PART_BYTES) {
        const piece = chunk.subarray(start, start + PART_BYTES)
        digest.add(piece)
        await writer.add(`${folder}/${++part}`, piece)
      }
    }
    digests.push({ name, size: digest.size, digest: digest.toString() })
  }
  return digests
}

function piecesOf(content: ExportedFile['content']): AsyncIterable<Uint8Array> | Iterable<Uint8Array> {
  if (typeof content === 'string') return [Buffer.from(content)]
  return content instanceof Uint8Array ? [content] : content
}
