import { createHash, hash } from 'node:crypto'
import * as z from 'zod'
import { createRowhouseError } from '../errors.ts'

/**
 * An archive is a gzipped tar of, in this order: `manifest.json`; for each table with rows its lines of JSON, in parts
 * `tables/1/1.jsonl`, `tables/1/2.jsonl`, ...; for each file of the application `files/1/name.json` and its parts
 * `files/1/1`, ...; `digests.json`. Names of tables and files are data: no entry is ever called by one.
 */
export const FORMAT = 'rowhouse.tenant'
export const FORMAT_VERSION = 1

const count = z.int().min(0)
const digest = z.string().regex(/^[0-9a-f]{64}$/, 'is no SHA-256 in hexadecimal')
const tableName = { schema: z.string().min(1), name: z.string().min(1) }
const table = z.object({
  ...tableName,
  /** Whether its rows are of no use under another id. */
  bound: z.boolean(),
  tenantColumn: z.string().min(1),
  rows: count,
  columns: z.array(z.object({ name: z.string().min(1), type: z.string().min(1) })),
})
const manifestSchema = z.object({
  format: z.literal(FORMAT),
  formatVersion: z.literal(FORMAT_VERSION),
  rowhouseVersion: z.string(),
  exportedAt: z.string(),
  tenant: z.object({
    id: z.string(),
    name: z.string(),
    tier: z.string(),
    status: z.enum(['active', 'suspended', 'inactive']),
    settings: z.record(z.string(), z.unknown()),
    settingsVersion: count,
    timeouts: z.array(z.int().nullable()).nullable(),
    promoted: z.boolean(),
  }),
  tables: z.array(table),
  notes: z.array(z.string()),
})
const digestsSchema = z.object({
  /** SHA-256 of `manifest.json`. */
  manifest: digest,
  contentHash: digest,
  tables: z.array(z.object({ ...tableName, rows: count, digest })),
  files: z.array(z.object({ name: z.string(), size: count, digest })),
})

/** What an archive says of itself before its rows. */
export type Manifest = z.infer<typeof manifestSchema>
export type ManifestTable = z.infer<typeof table>
/** What an archive says of itself behind its rows. */
export type Digests = z.infer<typeof digestsSchema>
export type TableDigest = Digests['tables'][number]
export type FileDigest = Digests['files'][number]

/** What `begin_export` returns. */
export type ExportFacts = Pick<Manifest, 'exportedAt' | 'tenant' | 'tables'>

export const NOTES: readonly string[] = [
  'API keys contain the id of the tenant, credentials are encrypted for it, and the audit trail is evidence about it: an import under another id leaves them out.',
  'The credentials can be read only with the master key that encrypted their keys, which is not in this archive.',
  'Counters of rate limits and requests that wait in queues belong to the moment and are not in this archive.',
]

export function parseManifest(data: Uint8Array): Manifest {
  const value = parseJson('manifest.json', data)
  const { format, formatVersion } = (value ?? {}) as { format?: unknown; formatVersion?: unknown }
  if (format === FORMAT && typeof formatVersion === 'number' && formatVersion > FORMAT_VERSION) {
    throw invalidArchive(
      `it has format version ${formatVersion}, and this rowhouse reads versions up to ${FORMAT_VERSION}`,
      {
        hint: 'Import it with the version of rowhouse that exported it, or a later one.',
      },
    )
  }
  return check(manifestSchema, 'manifest.json', value)
}

export function parseDigests(data: Uint8Array): Digests {
  return check(digestsSchema, 'digests.json', parseJson('digests.json', data))
}

export function parseFileName(data: Uint8Array): string {
  return check(z.object({ name: z.string().min(1) }), 'the name of a file', parseJson('the name of a file', data)).name
}

function parseJson(what: string, data: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(data))
  } catch (error) {
    throw invalidArchive(`${what} is no JSON`, { cause: error })
  }
}

function check<T>(schema: z.ZodType<T>, what: string, value: unknown): T {
  const { success, data, error } = schema.safeParse(value)
  if (success) return data
  const [issue] = error.issues
  throw invalidArchive(`${what}, ${issue?.path.join('.')}: ${issue?.message}`)
}

export function invalidArchive(problem: string, options?: { readonly hint?: string; readonly cause?: unknown }): Error {
  return createRowhouseError('invalid_archive', `The archive can not be imported: ${problem}.`, options)
}

export function sha256(data: Uint8Array): string {
  return hash('sha256', data)
}

/** The digest of the lines of a table, as `rowhouse.table_digest` makes it. */
export class LineDigest {
  rows = 0
  #digest: Uint8Array = Buffer.alloc(32)

  add(line: Uint8Array): void {
    this.rows++
    this.#digest = hash('sha256', Buffer.concat([this.#digest, line]), 'buffer')
  }

  toString(): string {
    return Buffer.from(this.#digest).toString('hex')
  }
}

/** The digest of a file that comes in pieces. */
export class FileDigester {
  size = 0
  readonly #hash = createHash('sha256')

  add(data: Uint8Array): void {
    this.size += data.length
    this.#hash.update(data)
  }

  toString(): string {
    return this.#hash.digest('hex')
  }
}
