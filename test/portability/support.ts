import { Readable, Writable } from 'node:stream'
import { gunzipSync, gzipSync } from 'node:zlib'
import { packTar, unpackTar } from 'modern-tar'
import type pg from 'pg'
import type { ExportOptions, ExportReceipt, Rowhouse } from '../../src/index.ts'
import { asTenant } from '../protect/support.ts'

export interface Archive {
  readonly data: Buffer
  readonly receipt: ExportReceipt
}

/** Exports into memory. */
export async function exportToMemory(
  rowhouse: Rowhouse,
  tenantId: string,
  options: Omit<ExportOptions, 'to'> = {},
): Promise<Archive> {
  const chunks: Buffer[] = []
  const to = new Writable({
    write(chunk, _encoding, done) {
      chunks.push(chunk)
      done()
    },
  })
  const receipt = await rowhouse.tenants.export(tenantId, { to, ...options })
  return { data: Buffer.concat(chunks), receipt }
}

export function streamOf(data: Uint8Array): AsyncIterable<Uint8Array> {
  return Readable.from([data])
}

/** The entries of an archive, as text. */
export async function unpack(data: Uint8Array): Promise<[name: string, text: string][]> {
  const entries = await unpackTar(gunzipSync(data))
  return entries.map(({ header, data: body }) => [header.name, Buffer.from(body ?? []).toString()])
}

/** An archive of these entries. */
export async function pack(entries: readonly (readonly [name: string, text: string])[]): Promise<Buffer> {
  const packed = await packTar(
    entries.map(([name, text]) => ({
      header: { name, size: Buffer.byteLength(text), type: 'file' as const },
      body: text,
    })),
  )
  return gzipSync(packed)
}

/** Rows of a tenant in a table, each column as its text, without the tenant. */
export async function textsOf(client: pg.ClientBase, table: string, tenantId: string): Promise<unknown[]> {
  const { rows } = await asTenant(client, tenantId, (c) =>
    c.query<{ row: Record<string, string | null> }>(
      `select (select jsonb_object_agg(e.key, e.value) from jsonb_each_text(to_jsonb(the_row) - 'tenant_id') e) as row
        from ${table} the_row order by 1`,
    ),
  )
  return rows.map(({ row }) => row)
}
