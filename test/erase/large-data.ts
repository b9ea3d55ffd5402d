import type pg from 'pg'
import { createRowhouse } from '../../src/index.ts'

/** Tables that refer to each other in circles of six; the first of each circle refers to the first of the one before. */
const CIRCLE = 6

/** What marks every value of a tenant, as text and as digits. */
export interface Canary {
  readonly tenantId: string
  readonly text: string
  /** The first digits of its numbers, of 16. */
  readonly digits: string
}

export function makeCanary(tenantId: string, number: number): Canary {
  return { tenantId, text: `canary-${10 + number}-7f3a91c2`, digits: `7310458${10 + number}` }
}

/** How a dump prints what holds the canary: as text and JSON, as bytes, as numbers. */
export function needlesOf({ text, digits }: Canary): Readonly<Record<'text' | 'bytes' | 'numbers', string>> {
  return { text, bytes: Buffer.from(text).toString('hex'), numbers: digits }
}

export interface LargeData {
  readonly tables: number
  /** Of all tenants, in all tables. */
  readonly rows: number
  readonly canaries: readonly Canary[]
}

/** Creates and fills the tables, and puts canaries of every tenant into the tables of rowhouse as well. */
export async function createLargeData(
  owner: pg.ClientBase,
  urls: { readonly app: string; readonly owner: string },
  { tables, rows, canaries }: LargeData,
): Promise<void> {
  await fillRowhouse(urls, canaries)
  await owner.query('create schema large')
  const rowsOfTable = Math.max(1, Math.round(rows / tables / canaries.length))
  for (let index = 0; index < tables; index++) {
    await owner.query(`create table large.t${index} (tenant_id text not null, id bigint, ref bigint, second bigint, label text, body jsonb,
      raw bytea, tags text[], amount numeric, number bigint, primary key (tenant_id, id))`)
    await owner.query(
      `insert into large.t${index}
        select c.tenant_id, i, 1 + i * 7 % $4::int, 1 + i % $4::int, c.text || '-' || i, jsonb_build_object('note', c.text, 'of', array[i, i + 1]),
            convert_to(c.text || '-' || i, 'UTF8'), array[c.text, 'tag ' || i], (c.digits || lpad(i::text, 7, '0') || '.25')::numeric,
            (c.digits || lpad(i::text, 7, '0'))::bigint
          from unnest($1::text[], $2::text[], $3::text[]) c (tenant_id, text, digits), generate_series(1, $4::int) i`,
      [canaries.map((c) => c.tenantId), canaries.map((c) => c.text), canaries.map((c) => c.digits), rowsOfTable],
    )
    await owner.query(`create index on large.t${index} (tenant_id, ref)`)
  }
  for (let index = 0; index < tables; index++) {
    const first = index - (index % CIRCLE)
    const next = index + 1 < Math.min(first + CIRCLE, tables) ? index + 1 : first
    await owner.query(`alter table large.t${index} add foreign key (tenant_id, ref) references large.t${next}`)
    if (index !== first || first === 0) continue
    await owner.query(`create index on large.t${index} (tenant_id, second);
      alter table large.t${index} add foreign key (tenant_id, second) references large.t${first - CIRCLE}`)
  }
  for (let index = 0; index < tables; index++) {
    await owner.query('select rowhouse.protect_table($1::regclass)', [`large.t${index}`])
  }
  await owner.query('analyze')
}

async function fillRowhouse(
  urls: { readonly app: string; readonly owner: string },
  canaries: readonly Canary[],
): Promise<void> {
  const rowhouse = createRowhouse({ connectionString: urls.app, admin: { connectionString: urls.owner } })
  try {
    for (const { tenantId, text, digits } of canaries) {
      await rowhouse.tenants.provision(tenantId, { name: text })
      const tenant = rowhouse.tenant(tenantId, { userId: text })
      await tenant.state.set(text, { note: text, number: digits })
      await tenant.audit.append({ action: 'note', detail: { note: text } })
      const { id } = await tenant.sessions.create({ metadata: { note: text } })
      await tenant.sessions.append(id, [{ role: 'user', content: text }])
      await tenant.settings.change({ note: text })
      await rowhouse.apiKeys.issue(tenantId, { name: text })
      await rowhouse.auditLog.seal(tenantId)
    }
  } finally {
    await rowhouse.close()
  }
}
