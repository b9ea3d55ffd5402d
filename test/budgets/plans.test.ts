// Plans are made once for a connection, perhaps while a table is empty, and kept. Whatever the table becomes, rows must be
// found by their key then.
import { expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'

const database = useDatabase()

const LOOKUPS = [
  ['reservations', `(text, text)`, 'r.tenant_id = $1 and r.request_id = $2'],
  ['usage_events', `(text, text)`, 'r.tenant_id = $1 and r.request_id = $2'],
  ['usage_events', `(text, text, text)`, 'r.tenant_id = $1 and r.request_id = $2 and r.part = $3'],
  ['queue_tickets', `(text, uuid, text)`, 'r.tenant_id = $1 and r.ticket = $2 and r.queue = $3'],
  ['rate_limit_counters', `(text, text, text)`, 'r.tenant_id = $1 and r.name = $2 and r.subject = $3'],
] as const

/** The indexes that a plan uses which is made for any values, as the functions of rowhouse make theirs. */
async function indexesOf(table: string, types: string, condition: string, before = ''): Promise<string[]> {
  const owner = await database.connect('owner')
  const count = types.split(',').length
  await owner.query('begin; set local role rowhouse_owner')
  await owner.query(`set local plan_cache_mode = force_generic_plan; set local enable_seqscan = off; ${before}`)
  await owner.query(`prepare lookup ${types} as select * from rowhouse.${table} r where ${condition}`)
  const { rows } = await owner.query(`explain (format json) execute lookup (${Array(count).fill('null').join(', ')})`)
  await owner.query('deallocate lookup; rollback')
  const plan = JSON.stringify(rows)
  return [...plan.matchAll(/"Index Name":\s*"([^"]+)"/g)].map(([, name]) => name!)
}

test.each(LOOKUPS)('%s %s: found by the key while the table is empty', async (table, types, condition) => {
  const owner = await database.connect('owner')
  const { rows } = await owner.query(`select pg_relation_size('rowhouse.${table}')::integer as size`)
  expect(rows).toEqual([{ size: 0 }])
  expect(await indexesOf(table, types, condition)).toEqual([`${table}_pkey`])
})

test('control: an index that any lookup of a tenant may use is taken in place of the key', async () => {
  const index = 'create index plain on rowhouse.reservations (tenant_id, status, expires_at);'
  const [table, types, condition] = LOOKUPS[0]
  expect(await indexesOf(table, types, condition, index)).toEqual(['plain'])
})

test('what is asked for by time is found by the indexes on it', async () => {
  const byTime = (table: string, condition: string) => indexesOf(table, '(text, timestamptz)', condition)
  expect(await byTime('reservations', "r.tenant_id = $1 and r.status = 'active' and r.expires_at <= $2")).toEqual([
    'reservations_expiry',
  ])
  expect(await byTime('usage_events', 'r.tenant_id = $1 and r.recorded_at >= $2')).toEqual(['usage_events_recorded'])
  expect(await byTime('usage_events', 'r.tenant_id = $1 and r.occurred_at >= $2')).toEqual(['usage_events_occurred'])
  expect(await byTime('rate_limit_counters', 'r.tenant_id = $1 and r.sweep_at <= $2')).toEqual([
    'rate_limit_counters_sweep',
  ])
})
