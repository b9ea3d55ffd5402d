import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { createRowhouse, type Rowhouse } from '../../src/index.ts'
import { withClient } from '../setup/connection.ts'
import { watchLocks } from './locks-support.ts'
import type { BenchContext } from './run.ts'

interface Tables {
  visits: { id: number; note: string }
  events: { id: number; visit: number; note: string }
}

const TENANT = 'acme'
const OTHERS = ['globex', 'initech', 'umbrella', 'hooli', 'stark', 'wayne'] as const
const OTHER_ROWS = 50_000
const WRITES_PER_SECOND = 50

/**
 * A tenant with 1,000,000 rows is promoted and demoted, while it writes 50 times a second and others read and write.
 * `npm run bench -- promote 100000` for fewer rows. Ends with an error when a query or a move fails, or a row is lost.
 */
export default async function benchPromote({ urls, args }: BenchContext): Promise<void> {
  const total = Number(args[0] ?? 1_000_000)
  await withClient(urls.owner!, (client) => prepare(client, total))
  const admin = createRowhouse({ connectionString: urls.owner! })
  try {
    const failures: string[] = []
    for (const name of ['promote', 'demote'] as const) {
      // The first identifiers that nobody has used.
      const load = await startLoad(urls, total * (name === 'promote' ? 2 : 3), failures)
      await delay(1000)
      const begun = performance.now()
      const { tables } = await admin.tenants[name](TENANT).catch((error: Error) => {
        failures.push(`${name}: ${error.message}`)
        return { tables: {} }
      })
      const seconds = (performance.now() - begun) / 1000
      await delay(1000)
      print(name, tables, seconds, await load.stop())
    }
    await withClient(urls.owner!, async (client) => {
      await client.query(`set app.tenant_id = '${TENANT}'`)
      const { rows } = await client.query<{ n: number }>(
        'select ((select count(*) from visits) + (select count(*) from events))::int as n',
      )
      const expected = total + written.get(TENANT)!
      if (rows[0]!.n !== expected) failures.push(`${rows[0]!.n} rows are left of ${expected}`)
    })
    for (const failure of new Set(failures)) console.error(failure)
    if (failures.length > 0) process.exitCode = 1
    else console.log('No query failed, and no row was lost.')
  } finally {
    await admin.close()
  }
}

async function prepare(client: pg.ClientBase, total: number): Promise<void> {
  await client.query(`
    create table visits (tenant_id text not null, id bigint, note text, at timestamptz not null default now(), primary key (tenant_id, id));
    create table events (tenant_id text not null, id bigint, visit bigint, note text, at timestamptz not null default now(),
      primary key (tenant_id, id), foreign key (tenant_id, visit) references visits);
    create index on events (tenant_id, visit)`)
  for (const [tenantId, rows] of [[TENANT, total], ...OTHERS.map((id) => [id, OTHER_ROWS] as const)] as const) {
    await client.query('select rowhouse.provision_tenant($1)', [tenantId])
    const visits = Math.floor(rows / 10)
    const fill = `select $1, i, repeat('note ', 10) || i`
    await client.query(`insert into visits (tenant_id, id, note) ${fill} from generate_series(1, $2::int) i`, [
      tenantId,
      visits,
    ])
    await client.query(
      `insert into events (tenant_id, id, note, visit) ${fill}, 1 + i % $3::int from generate_series(1, $2::int) i`,
      [tenantId, rows - visits, visits],
    )
  }
  for (const table of ['visits', 'events']) {
    await client.query('select rowhouse.protect_table($1::regclass, p_partition => true)', [table])
  }
  await client.query('vacuum analyze')
}

/** Rows that each tenant wrote. */
const written = new Map<string, number>()

interface Measured {
  readonly queries: Record<'the tenant' | 'others', number[]>
  readonly locks: Record<'the tenant' | 'others', number>
}

async function startLoad(urls: BenchContext['urls'], firstId: number, failures: string[]) {
  const pools = (['the tenant', 'others'] as const).map(
    (name) => new pg.Pool({ connectionString: urls.app!, max: name === 'others' ? 6 : 40, application_name: name }),
  )
  const [own, others] = pools.map((pool) => createRowhouse<Tables>({ pool })) as [Rowhouse<Tables>, Rowhouse<Tables>]
  const queries: Measured['queries'] = { 'the tenant': [], others: [] }
  const locks = await watchLocks(urls.superuser!)
  let stopped = false
  const measure = async (name: keyof typeof queries, work: () => Promise<unknown>) => {
    const begun = performance.now()
    await work().catch((error: Error) => failures.push(`${name}: ${error.message}`))
    queries[name].push(performance.now() - begun)
  }
  const write = async (on: Rowhouse<Tables>, tenantId: string, id: number) => {
    await on.withTenant(tenantId, async (db) => {
      await db.insertInto('visits').values({ id, note: 'written meanwhile' }).execute()
      await db.insertInto('events').values({ id, visit: id, note: 'written meanwhile' }).execute()
      await db
        .updateTable('events')
        .set({ note: 'changed' })
        .where('id', '=', id - firstId + 1)
        .execute()
    })
    written.set(tenantId, (written.get(tenantId) ?? 0) + 2)
  }
  const read = (on: Rowhouse<Tables>, tenantId: string, id: number) =>
    on.query(tenantId, (db) => db.selectFrom('events').select(['id', 'note']).where('id', '=', id))

  const writing: Promise<void>[] = []
  let id = firstId
  const writer = setInterval(() => {
    writing.push(measure('the tenant', () => write(own, TENANT, id++)))
  }, 1000 / WRITES_PER_SECOND)
  const working = OTHERS.slice(0, 4).map(async (tenantId, index) => {
    for (let number = firstId; !stopped; number++) {
      await measure('others', () =>
        index % 2 === 0 ? write(others, tenantId, number) : read(others, tenantId, number % 1000),
      )
      await delay(2)
    }
  })
  return {
    async stop(): Promise<Measured> {
      clearInterval(writer)
      stopped = true
      await Promise.all([...writing, ...working])
      const longest = await locks.stop()
      await Promise.all([own.close(), others.close()])
      await Promise.all(pools.map((pool) => pool.end()))
      return { queries, locks: { 'the tenant': longest.get('the tenant') ?? 0, others: longest.get('others') ?? 0 } }
    },
  }
}

function print(name: string, tables: Readonly<Record<string, number>>, seconds: number, measured: Measured): void {
  const rows = Object.values(tables).reduce((sum, count) => sum + count, 0)
  console.log(`${name}: ${rows.toLocaleString('en')} rows in ${seconds.toFixed(1)} s`)
  console.log(
    `${''.padEnd(14)}${['queries', 'longest ms', 'longest lock ms'].map((head) => head.padStart(18)).join('')}`,
  )
  for (const who of ['the tenant', 'others'] as const) {
    const durations = measured.queries[who]
    const columns = [
      durations.length.toLocaleString('en'),
      Math.max(...durations).toFixed(0),
      measured.locks[who].toFixed(0),
    ]
    console.log(`${who.padEnd(14)}${columns.map((column) => column.padStart(18)).join('')}`)
  }
  console.log()
}
