// The law: whatever several tenants do at once on a small pool, in whatever order, and whatever fails in between, each
// reads what it would read if it were alone. A model of each tenant, which saw its own committed operations only, says
// what that is; afterwards no connection of the pool carries anything of anybody.
import fc from 'fast-check'
import { type Kysely, sql } from 'kysely'
import type pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createRowhouse, type Rowhouse } from '../../src/index.ts'
import { useDatabase } from '../setup/database.ts'
import { protect, provision } from './support/app-tables.ts'
import { tracesOn, useClients } from './support/clients.ts'

const database = useDatabase({ needs: ['parallelBackends', 'realRoles'] })
const clients = useClients(database, 'owner', 'operator', 'app')

const TENANTS = ['north', 'south', 'east'] as const
type Tenant = (typeof TENANTS)[number]
const KEYS = [1, 2, 3, 4]
const POOL_SIZE = 2

let pool: pg.Pool
let rowhouse: Rowhouse<any>
/** The same with statements sent before the answers of earlier ones. */
let pipelinedPool: pg.Pool
let pipelined: Rowhouse<any>
/** Without a prelude of its own, and with a tenant for the session: what rowhouse replaces. */
let careless: pg.Pool

beforeAll(async () => {
  await clients.owner.query(`
    create table law (tenant_id text not null, key int, value int not null, primary key (tenant_id, key));
    create table law_parts (tenant_id text not null, key int, value int not null, primary key (tenant_id, key))`)
  await protect(clients.owner, 'law')
  await protect(clients.owner, 'law_parts', { partition: true })
  await provision(clients.operator, ...TENANTS)
  pool = database.pool('app', { max: POOL_SIZE })
  careless = database.pool('app', { max: POOL_SIZE })
  rowhouse = createRowhouse({ pool })
  pipelinedPool = database.pool('app', { max: POOL_SIZE, pipeline: true } as pg.PoolConfig)
  pipelined = createRowhouse({ pool: pipelinedPool, pipeline: true })
})
afterAll(async () => {
  await rowhouse?.close()
  await pipelined?.close()
})

type Rows = Map<number, number>

/** A change of the rows of one tenant. */
type Change =
  | { readonly do: 'put'; readonly key: number; readonly value: number }
  | { readonly do: 'add'; readonly value: number }
  | { readonly do: 'remove'; readonly key: number }
  | { readonly do: 'clear' }

/** How a request of a tenant goes. Those that end badly change nothing. */
const ENDINGS = [
  'commits',
  'throws',
  'fails in a statement',
  'fails and goes on',
  'runs out of time',
  'is aborted',
  'loses its backend',
  'commits inside',
  'leaves a statement unawaited',
] as const
type Ending = (typeof ENDINGS)[number]

const PATHS = [
  'withTenant',
  'nested',
  'nested that fails',
  'kysely',
  'single statements',
  'connection',
  'stream',
] as const

interface Request {
  readonly tenant: Tenant
  readonly table: 'law' | 'law_parts'
  readonly path: (typeof PATHS)[number]
  readonly changes: readonly Change[]
  readonly ending: Ending
  /** What it leaves in the session, on purpose. */
  readonly leaves: string | null
}

const changes: fc.Arbitrary<Change> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ do: fc.constant('put' as const), key: fc.constantFrom(...KEYS), value: fc.nat(99) }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('add' as const), value: fc.nat(9) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('remove' as const), key: fc.constantFrom(...KEYS) }) },
  { weight: 1, arbitrary: fc.constant({ do: 'clear' as const }) },
)

/** Requests of any tenant, in any order. */
const requests: fc.Arbitrary<Request> = fc.record({
  tenant: fc.constantFrom(...TENANTS),
  table: fc.constantFrom('law' as const, 'law_parts' as const),
  path: fc.constantFrom(...PATHS),
  changes: fc.array(changes, { maxLength: 4 }),
  ending: fc.oneof(
    { weight: 6, arbitrary: fc.constant('commits' as const) },
    { weight: 4, arbitrary: fc.constantFrom(...ENDINGS) },
  ),
  leaves: fc.option(
    fc.constantFrom(
      "select set_config('app.tenant_id', 'south', false)",
      "select set_config('app.user_id', 'somebody', false)",
      'declare left_open cursor with hold for select * from law',
      'create temporary table left_there as select * from law',
      'select pg_advisory_lock(4711)',
      'listen left_there',
    ),
    { freq: 4 },
  ),
})

function applyToModel(rows: Rows, change: Change): void {
  if (change.do === 'put') rows.set(change.key, change.value)
  else if (change.do === 'remove') rows.delete(change.key)
  else if (change.do === 'clear') rows.clear()
  else for (const [key, value] of rows) rows.set(key, value + change.value)
}

/** No statement names the tenant: who it is, is the context's business alone. */
function apply(db: Kysely<any>, table: string, change: Change): Promise<unknown> {
  switch (change.do) {
    case 'put':
      return sql`insert into ${sql.table(table)} (key, value) values (${change.key}, ${change.value})
        on conflict (tenant_id, key) do update set value = excluded.value`.execute(db)
    case 'add':
      return db
        .updateTable(table)
        .set((eb) => ({ value: eb('value', '+', change.value) }))
        .execute()
    case 'remove':
      return db.deleteFrom(table).where('key', '=', change.key).execute()
    case 'clear':
      return sql`delete from ${sql.table(table)}`.execute(db)
  }
}

const sortRows = (rows: readonly (readonly [number, number])[]) => rows.toSorted(([left], [right]) => left - right)

/** All rows that the context sees, with the tenants they say they are of. */
async function readRows(db: Kysely<any>, table: string): Promise<{ rows: [number, number][]; tenants: Set<string> }> {
  const { rows } = await sql<{ tenant_id: string; key: number; value: number }>`
    select tenant_id, key, value from ${sql.table(table)}`.execute(db)
  return {
    rows: sortRows(rows.map(({ key, value }): [number, number] => [key, value])) as [number, number][],
    tenants: new Set(rows.map(({ tenant_id }) => tenant_id)),
  }
}

class Deliberate extends Error {}

/** Ends a callback the way it is told to. */
async function end(db: Kysely<any>, ending: Ending): Promise<void> {
  switch (ending) {
    case 'commits':
    case 'is aborted':
      return
    case 'throws':
      throw new Deliberate('the request failed')
    case 'fails in a statement':
      await sql`select 1 / 0`.execute(db)
      return
    case 'fails and goes on':
      await sql`select 1 / 0`.execute(db).catch(() => {})
      return
    case 'runs out of time':
      await sql`set local statement_timeout = 20`.execute(db)
      await sql`select pg_sleep(5)`.execute(db)
      return
    case 'loses its backend': {
      const { rows } = await sql<{ pid: number }>`select pg_backend_pid() as pid`.execute(db)
      await clients.app.query('select pg_terminate_backend($1)', [rows[0]!.pid])
      await sql`select 1`.execute(db)
      return
    }
    case 'commits inside':
      await sql`commit`.execute(db)
      return
    case 'leaves a statement unawaited':
      void sql`select pg_sleep(0.01)`.execute(db).catch(() => {})
  }
}

interface World {
  /** Committed rows of each tenant and table, as a lone tenant would have them. */
  readonly model: Map<string, Rows>
  readonly violations: string[]
}

const rowsOf = (world: World, tenant: string, table: string): Rows => {
  const key = `${tenant}.${table}`
  if (!world.model.has(key)) world.model.set(key, new Map())
  return world.model.get(key)!
}

/** Runs one request, compares all that it reads with the model, and keeps the model up to date. */
async function run(world: World, instance: Rowhouse<any>, request: Request): Promise<void> {
  const { tenant, table, path, ending, leaves } = request
  const committed = rowsOf(world, tenant, table)
  const own = new Map(committed)
  const compare = async (db: Kysely<any>, expected: Rows) => {
    const { rows, tenants } = await readRows(db, table)
    tenants.delete(tenant)
    if (tenants.size > 0) world.violations.push(`${tenant} saw rows of ${[...tenants]} by ${path}`)
    if (JSON.stringify(rows) !== JSON.stringify(sortRows([...expected]))) {
      world.violations.push(
        `${tenant} read ${JSON.stringify(rows)} of ${table} by ${path}, not ${JSON.stringify([...expected])}`,
      )
    }
  }
  const work = async (db: Kysely<any>) => {
    await compare(db, own)
    for (const change of request.changes) {
      await apply(db, table, change)
      applyToModel(own, change)
    }
    await compare(db, own)
    if (leaves !== null) await sql.raw(leaves).execute(db)
    await end(db, ending)
  }
  try {
    await PERFORM[path](instance, request, work, { committed, compare, own })
    for (const key of KEYS) {
      if (own.has(key)) committed.set(key, own.get(key)!)
      else committed.delete(key)
    }
    // As in Kysely: a transaction of its own waits for a statement that the callback did not.
    const waits = path === 'kysely' && ending === 'leaves a statement unawaited'
    const alone = path === 'single statements' || path === 'connection' || path === 'stream'
    if (ending !== 'commits' && !waits && !alone) {
      world.violations.push(`${tenant} by ${path}: a request that ${ending} was committed`)
    }
  } catch (error) {
    if (ending === 'commits') world.violations.push(`${tenant} by ${path} failed: ${error}`)
  }
}

type Work = (db: Kysely<any>) => Promise<void>
interface State {
  readonly committed: Rows
  readonly own: Rows
  readonly compare: (db: Kysely<any>, expected: Rows) => Promise<void>
}

/** Each its own transaction: what was done before a failure stays. */
async function runStatements(
  db: Kysely<any>,
  { table, changes, ending, leaves }: Request,
  { committed, own, compare }: State,
): Promise<void> {
  for (const change of changes) {
    await apply(db, table, change)
    applyToModel(own, change)
    applyToModel(committed, change)
  }
  await compare(db, own)
  if (leaves !== null) await sql.raw(leaves).execute(db)
  if (ending === 'fails in a statement') await sql`select 1 / 0`.execute(db).catch(() => {})
  if (ending === 'throws') throw new Deliberate('the request failed')
}

/** Every way in which a tenant uses the library. */
const PERFORM: Record<
  Request['path'],
  (instance: Rowhouse<any>, request: Request, work: Work, state: State) => Promise<void>
> = {
  withTenant: async (instance, { tenant, ending }, work) => {
    const abort = new AbortController()
    await instance.withTenant(
      tenant,
      async (db) => {
        await work(db)
        if (ending === 'is aborted') {
          abort.abort(new Deliberate('aborted'))
          await sql`select pg_sleep(5)`.execute(db)
        }
      },
      { signal: abort.signal },
    )
  },
  nested: async (instance, { tenant, ending }, work) => {
    await instance.withTenant(tenant, async () => {
      await instance.withTenant(tenant, work)
      if (ending === 'is aborted') throw new Deliberate('aborted')
    })
  },
  // The inner transaction is undone; the outer one goes on in the same tenant, and does the work.
  'nested that fails': async (instance, { tenant, table, ending }, work) => {
    await instance.withTenant(tenant, async (db) => {
      const inner = instance.withTenant(tenant, async (nested) => {
        await sql`delete from ${sql.table(table)}`.execute(nested)
        throw new Deliberate('the inner one failed')
      })
      await expect(inner).rejects.toBeInstanceOf(Deliberate)
      await work(db)
      if (ending === 'is aborted') throw new Deliberate('aborted')
    })
  },
  kysely: async (instance, { tenant, ending }, work) => {
    await instance
      .kysely(tenant)
      .transaction()
      .execute(async (db) => {
        await work(db)
        if (ending === 'is aborted') throw new Deliberate('aborted')
      })
  },
  'single statements': (instance, request, _work, state) =>
    runStatements(instance.kysely(request.tenant), request, state),
  connection: (instance, request, _work, state) =>
    instance
      .kysely(request.tenant)
      .connection()
      .execute((db) => runStatements(db, request, state)),
  stream: async (instance, { tenant, table, ending }, _work, { committed }) => {
    const read: [number, number][] = []
    for await (const row of instance.kysely(tenant).selectFrom(table).select(['key', 'value']).stream(1)) {
      read.push([row.key, row.value])
      // Left in the middle: the cursor, its transaction and its tenant end with it.
      if (ending === 'throws') break
    }
    const expected = JSON.stringify(sortRows([...committed]))
    if (ending !== 'throws' && JSON.stringify(sortRows(read)) !== expected) {
      throw new Error(`a stream gave ${JSON.stringify(read)}, not ${expected}`)
    }
  },
}

/** One queue for each tenant, so that its model is exact; the queues run at once on the same two connections. */
async function interleave(instance: Rowhouse<any>, all: readonly Request[]): Promise<string[]> {
  const world: World = { model: new Map(), violations: [] }
  await clients.owner.query(
    'alter table law no force row level security; alter table law_parts no force row level security',
  )
  await clients.owner.query('truncate law, law_parts')
  await clients.owner.query('alter table law force row level security; alter table law_parts force row level security')
  await Promise.all(
    TENANTS.map(async (tenant) => {
      for (const request of all.filter((candidate) => candidate.tenant === tenant)) await run(world, instance, request)
    }),
  )
  for (const tenant of TENANTS) {
    for (const table of ['law', 'law_parts']) {
      const { rows, tenants } = await instance.withTenant(tenant, (db) => readRows(db, table))
      tenants.delete(tenant)
      const expected = sortRows([...rowsOf(world, tenant, table)])
      if (tenants.size > 0 || JSON.stringify(rows) !== JSON.stringify(expected)) {
        world.violations.push(`${tenant} has ${JSON.stringify(rows)} in ${table}, not ${JSON.stringify(expected)}`)
      }
    }
  }
  return world.violations
}

/** What the connections of a pool carry when nobody works. */
async function leftOn(subject: pg.Pool): Promise<string[]> {
  const held = await Promise.all(Array.from({ length: POOL_SIZE }, () => subject.connect()))
  try {
    const traces: string[] = []
    for (const client of held) {
      traces.push(...(await tracesOn(client)))
      // The next request forgot its tenant.
      const { rows } = await client.query(
        'select (select count(*) from law) + (select count(*) from law_parts) as rows',
      )
      if (Number(rows[0].rows) > 0) traces.push(`${rows[0].rows} rows without a tenant`)
    }
    return traces
  } finally {
    for (const client of held) client.release()
  }
}

test('what a tenant reads equals a model that saw this tenant only, and no connection keeps a context', async () => {
  const seen = { endings: new Set<string>(), paths: new Set<string>() }
  await fc.assert(
    fc.asyncProperty(fc.array(requests, { minLength: 3, maxLength: 18 }), fc.boolean(), async (all, inPipeline) => {
      for (const { ending, path } of all) {
        seen.endings.add(ending)
        seen.paths.add(path)
      }
      expect(await interleave(inPipeline ? pipelined : rowhouse, all)).toEqual([])
      expect(await leftOn(inPipeline ? pipelinedPool : pool)).toEqual([])
    }),
    {
      numRuns: Number(process.env.ROWHOUSE_LAW_RUNS ?? 40),
      interruptAfterTimeLimit: 60_000,
      markInterruptAsFailure: false,
    },
  )
  expect([...seen.endings].sort()).toEqual([...ENDINGS].sort())
  expect([...seen.paths].sort()).toEqual([...PATHS].sort())
}, 120_000)

const COMMON = { table: 'law', leaves: null } as const

test.each(ENDINGS.flatMap((ending) => [['', ending] as const, [' of a pipelined connection', ending] as const]))(
  'by every path%s, at once with the others: a request that %s',
  async (kind, ending) => {
    const all = TENANTS.flatMap((tenant) =>
      PATHS.flatMap((path): Request[] => [
        { ...COMMON, tenant, path: 'withTenant', changes: [{ do: 'put', key: 1, value: 7 }], ending: 'commits' },
        { ...COMMON, tenant, path, changes: [{ do: 'put', key: 2, value: 8 }], ending },
      ]),
    )
    expect(await interleave(kind === '' ? rowhouse : pipelined, all)).toEqual([])
    expect(await leftOn(kind === '' ? pool : pipelinedPool)).toEqual([])
  },
  60_000,
)

describe('negative controls', () => {
  const simple: Request[] = TENANTS.map((tenant, index) => ({
    tenant,
    table: 'law',
    path: 'withTenant',
    changes: [
      { do: 'put', key: 1, value: index },
      { do: 'add', value: 1 },
    ],
    ending: 'commits',
    leaves: null,
  }))

  test('without policies the tenants differ from their models', async () => {
    expect(await interleave(rowhouse, simple)).toEqual([])
    await clients.owner.query('alter table law disable row level security')
    try {
      const open = createRowhouse({ pool, predicate: false, role: 'rowhouse_app' })
      // Where a table is exposed the client refuses to start.
      await expect(open.withTenant('north', (db) => readRows(db, 'law'))).rejects.toMatchObject({
        code: 'role_not_restricted',
      })
      // One that looked before does not look again for each transaction, and the law notices.
      expect((await interleave(rowhouse, simple)).join()).toContain('saw rows of')
    } finally {
      await protect(clients.owner, 'law')
    }
    expect(await interleave(rowhouse, simple)).toEqual([])
  })

  test('a client that sets the tenant for the session leaves it on its connection', async () => {
    expect(await leftOn(careless)).toEqual([])
    await interleave(rowhouse, simple)
    const client = await careless.connect()
    await client.query("select set_config('app.tenant_id', 'north', false)")
    client.release()
    const traces = await leftOn(careless)
    expect(traces).toContain('setting app.tenant_id = north')
    expect(traces.join()).toMatch(/rows without a tenant/)
  })
})
