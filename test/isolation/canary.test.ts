// Canaries: every tenant table, as the catalog has it, is filled with values that can be told apart. Then one tenant runs
// every verb, every function that it may call and every method of the library, over connections whose every byte from
// the server is kept: rows, errors with all their fields, notices, notifications. No byte is another tenant's.
import { inspect } from 'node:util'
import { sql } from 'kysely'
import pg from 'pg'
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { createRowhouse, type Rowhouse, type RowhouseOptions } from '../../src/index.ts'
import type { TableShape } from '../../src/testing/table-shape.ts'
import { VERBS } from '../../src/testing/verbs.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { startProxy, type TcpProxy } from '../setup/proxy.ts'
import { ACME, GLOBEX, protect, TENANTS, useAppTables } from './support/app-tables.ts'
import { EVERY_TYPE, fillWithCanaries } from './support/canaries.ts'
import { useClients } from './support/clients.ts'
import { expectClosed } from './support/expect-closed.ts'
import { inTenant, undone } from './support/in-tenant.ts'

const database = useDatabase()
useAppTables(database)
const clients = useClients(database, 'owner', 'app')

let tables: readonly TableShape[]
let foreign: readonly string[]
let proxy: TcpProxy
/** Where acme works: what the server sends here is kept. */
let acme: pg.Client
let rowhouse: Rowhouse<any>
/** What the library and Node print while acme works. */
const printed: unknown[] = []

const hasCollection = () => database.engine.pgvector

beforeAll(async () => {
  await clients.owner.query(EVERY_TYPE)
  await protect(clients.owner, 'every_type')
  if (hasCollection()) {
    await clients.owner.query(
      "begin; set local role rowhouse_admin; select rowhouse.create_collection('documents', 3); commit",
    )
  }
  const filled = await fillWithCanaries(clients.owner, clients.app, TENANTS)
  tables = filled.tables
  // The canaries of support/app-tables.ts as well.
  foreign = [...filled.canaries.get(GLOBEX)!, `canary:${GLOBEX}:`]
  proxy = await startProxy(database.url('app'), { record: true })
  acme = new pg.Client(proxy.url)
  acme.on('error', () => {})
  await acme.connect()
  const log: RowhouseOptions['log'] = (event) => void printed.push(event)
  rowhouse = createRowhouse({ connectionString: proxy.url, poolOptions: { max: 2 }, log })
})
afterAll(async () => {
  await rowhouse?.close()
  await acme?.end()
  await proxy?.close()
})
beforeEach(() => {
  proxy.resetCounters()
  printed.length = 0
})

/** What of globex came over the wire, or was printed, since the last look. */
function seen(...also: readonly unknown[]): string[] {
  const text = [proxy.received.toString('latin1'), ...[...printed, ...also].map(show)].join('\n')
  proxy.resetCounters()
  printed.length = 0
  return foreign.filter((canary) => text.includes(canary))
}

const show = (value: unknown): string =>
  typeof value === 'string'
    ? value
    : inspect(value, { depth: 8, maxArrayLength: null, maxStringLength: null, showHidden: true })

test('every table of the catalog holds canaries of both tenants', async () => {
  expect(tables.map(({ name }) => name)).toEqual(
    expect.arrayContaining(['public.customers', 'public.events', 'public.every_type', 'public.invoices']),
  )
  expect(tables.some(({ name }) => name === 'rowhouse.documents_documents')).toBe(hasCollection())
  expect(foreign.length).toBeGreaterThan(30)
  await inTenant(acme, GLOBEX, async () => {
    for (const { name } of tables) await acme.query(`select * from ${name}`)
  })
  // Who asks as globex gets every one of them: the search works, for text, numbers, bytes and UUIDs.
  expect(seen().sort()).toEqual([...foreign].sort())
})

describe('every verb', () => {
  const runVerbs = (verb: (typeof VERBS)[string]) => async () => {
    await inTenant(acme, ACME, async () => {
      for (const table of tables) {
        await undone(acme, async () => {
          for (const statement of verb(table, { own: ACME, other: GLOBEX })) await acme.query(statement)
        }).catch((error: pg.DatabaseError) => {
          if (error.code === undefined) throw error
        })
      }
    })
    return seen()
  }

  test.each(Object.keys(VERBS))('%s', async (name) => {
    expect(await runVerbs(VERBS[name]!)()).toEqual([])
  })

  // Each table open once, and all of them attacked each time.
  test('the canaries are seen where a table is open: the negative control', { timeout: 120_000 }, async () => {
    for (const verb of ['select', 'cursor', 'query to xml', 'do block', 'delete', 'merge that inserts']) {
      const leaks: string[] = []
      for (const { name } of tables) {
        const asOwner = (statement: string) => clients.owner.query(statement)
        await asOwner(`alter table ${name} disable row level security`)
        leaks.push(...(await runVerbs(VERBS[verb]!)()))
        await asOwner(`alter table ${name} enable row level security`)
      }
      // A merge and a do block show rows in errors, where they show any.
      if (verb !== 'merge that inserts') expect(leaks.length, verb).toBeGreaterThan(tables.length)
    }
    expect(await runVerbs(VERBS.select!)()).toEqual([])
  })
})

/** Arguments that an attacker would pass, by type. */
const ARGUMENTS: Readonly<Record<string, readonly string[]>> = {
  text: [GLOBEX, ACME, 'documents', 'public.invoices', "x' or true --", ''],
  name: ['tenant_id', 'note'],
  regclass: ['public.invoices', 'public.events', 'public.every_type'],
  regtype: ['text'],
  jsonb: ['{}', `{"tenant_id": "${GLOBEX}"}`],
  'text[]': ['{}', '{1,2}', `{${GLOBEX}}`],
  'name[]': ['{public}'],
  'regclass[]': ['{public.invoices,public.events}'],
  'jsonb[]': ['{}', '{"{}"}'],
  'smallint[]': ['{1}'],
  integer: ['1', '10'],
  smallint: ['1'],
  bigint: ['1', '100'],
  boolean: ['false', 'true'],
  'double precision': ['0'],
  oid: ['0'],
}

interface CallableFunction {
  readonly name: string
  readonly types: string[]
}

const callable = async (role: string): Promise<CallableFunction[]> =>
  (
    await clients.owner.query<CallableFunction>(
      `select p.oid::regproc::text as name,
          array(select format_type(t.type, null) from unnest(p.proargtypes) with ordinality t (type, place) order by place) as types
        from pg_proc p
        where p.pronamespace = 'rowhouse'::regnamespace and p.prokind = 'f'
          and p.prorettype <> all (array['trigger', 'event_trigger']::regtype[]) and has_function_privilege($1, p.oid, 'execute')
        order by 1`,
      [role],
    )
  ).rows

/** Calls with each argument in turn taking each of its values, the others their first; a null at the end. */
function callsOf({ name, types }: CallableFunction): string[] {
  const choices = types.map((type) => ARGUMENTS[type] ?? [])
  const literal = (value: string | undefined, type: string) =>
    value === undefined ? `null::${type}` : `'${value.replaceAll("'", "''")}'::${type}`
  const calls = new Set<string>()
  const width = Math.max(1, ...choices.map(({ length }) => length))
  for (let shift = 0; shift < width; shift++) {
    for (let turn = 0; turn < Math.max(types.length, 1); turn++) {
      const values = types.map((type, place) => literal(choices[place]![place === turn ? shift : 0], type))
      calls.add(`select * from ${name}(${values.join(', ')})`)
    }
  }
  calls.add(`select * from ${name}(${types.map((type) => `null::${type}`).join(', ')})`)
  return [...calls]
}

async function callEvery(client: pg.ClientBase, role: string, functions: readonly CallableFunction[]): Promise<number> {
  let answered = 0
  await inTenant(
    client,
    ACME,
    async () => {
      for (const call of functions.flatMap(callsOf)) {
        await undone(client, async () => {
          await client.query(call)
          answered++
          // The rest of the transaction is acme's still: what it reads now is searched as well.
          const { rows } = await client.query(
            "select current_setting('app.tenant_id') as tenant, current_user::text as role",
          )
          expect(rows, call).toEqual([{ tenant: ACME, role }])
          if (role === 'rowhouse_app') await client.query('select * from public.invoices')
        }).catch((error: pg.DatabaseError) => {
          if (error.code === undefined) throw error
        })
      }
    },
    { role },
  )
  return answered
}

describe('every function', () => {
  test('that the application may call', { timeout: 120_000 }, async () => {
    const functions = await callable('rowhouse_app')
    expect(functions.length).toBeGreaterThan(hasCollection() ? 12 : 6)
    expect(await callEvery(acme, 'rowhouse_app', functions)).toBeGreaterThan(functions.length / 2)
    expect(seen()).toEqual([])
  })

  test('a function that reads an open table is noticed: the negative control', { timeout: 120_000 }, async () => {
    await clients.owner.query(`begin; set local role rowhouse_owner;
      create function rowhouse.peek(p_tenant text) returns setof text language plpgsql set search_path = pg_catalog, pg_temp
        as $$ begin return query select i.note from public.invoices i; end $$;
      grant execute on function rowhouse.peek(text) to rowhouse_app; commit`)
    try {
      await expectClosed({
        probe: async () => {
          await callEvery(acme, 'rowhouse_app', await callable('rowhouse_app'))
          return seen()
        },
        removeProtection: () => clients.owner.query('alter table invoices disable row level security'),
        restoreProtection: () => protect(clients.owner, 'invoices'),
      })
    } finally {
      await clients.owner.query('begin; set local role rowhouse_owner; drop function rowhouse.peek(text); commit')
    }
  })

  test('that an operator may call: rows of tenants are in no answer', { timeout: 120_000 }, async () => {
    await using operators = await startProxy(database.url('operator'), { record: true })
    const operator = new pg.Client(operators.url)
    await operator.connect()
    try {
      // These list what an operator asks for by the name of its tenant.
      const functions = (await callable('rowhouse_admin')).filter(
        ({ name }) => !/\.list_((api|credential)_keys|denials)$/.test(name),
      )
      expect(functions.length).toBeGreaterThan(20)
      await callEvery(operator, 'rowhouse_admin', functions)
      const received = operators.received.toString('latin1')
      expect(foreign.filter((canary) => received.includes(canary))).toEqual([])
    } finally {
      await operator.end()
    }
  })
})

/** Every method of an object, its own and those of its classes, and of the objects that it holds. */
function methodsOf(target: object, path: string): { path: string; call: (...args: unknown[]) => unknown }[] {
  const found = new Map<string, (...args: unknown[]) => unknown>()
  for (
    let level: object | null = target;
    level !== null && level !== Object.prototype;
    level = Object.getPrototypeOf(level)
  ) {
    for (const name of Object.getOwnPropertyNames(level)) {
      if (name === 'constructor' || found.has(`${path}.${name}`)) continue
      const value = (target as Record<string, unknown>)[name]
      if (typeof value === 'function') found.set(`${path}.${name}`, (...args) => value.apply(target, args))
    }
  }
  return [...found].map(([name, call]) => ({ path: name, call }))
}

/** Ends what the test needs. */
const NOT_CALLED = /\.(close|destroy)$/

/** Every list of arguments that some method takes. Most are refused by most methods: what they say is searched. */
const readAll = async (db: any) => {
  const rows: unknown[] = []
  for (const { name } of tables) rows.push((await sql.raw(`select * from ${name}`).execute(db)).rows)
  rows.push(await db.selectFrom('invoices').selectAll().execute())
  return rows
}
const build = (db: any) => db.selectFrom('invoices').selectAll()
const EMBEDDING = [1, 0, 0]
const ARGUMENT_LISTS: readonly (readonly unknown[])[] = [
  [],
  [ACME],
  [ACME, readAll],
  [ACME, build],
  [readAll],
  ['public.invoices'],
  ['public.invoices', { dryRun: true }],
  ['documents'],
  [{ embedding: EMBEDDING, limit: 10 }],
  [{ embedding: EMBEDDING, limit: 10, filter: { value: GLOBEX } }],
  [['1', GLOBEX]],
  [[{ id: '1', content: 'text', embedding: EMBEDDING, metadata: {} }]],
  [ACME, { dryRun: true }],
  [{}],
  [GLOBEX, 'free'],
  [`${GLOBEX}'`],
]

/** Runs every method with every list of arguments as a tenant: all answers and errors. */
async function useEverything(instance: Rowhouse<any>, tenantId: string): Promise<unknown[]> {
  const answers: unknown[] = []
  const as = (args: readonly unknown[]) => args.map((argument) => (argument === ACME ? tenantId : argument))
  const context = instance.tenant(tenantId, { userId: 'u', requestId: 'r' })
  const objects: [object, string][] = [
    [instance, 'rowhouse'],
    [instance.tenants, 'tenants'],
    [instance.collections, 'collections'],
    [context, 'tenant'],
    [context.documents(), 'documents'],
    [context.channel('room'), 'channel'],
    [context.documents('documents', { embed: async (texts) => texts.map(() => EMBEDDING) }), 'documents with embed'],
  ]
  for (const { path, call } of objects.flatMap(([object, path]) => methodsOf(object, path))) {
    if (NOT_CALLED.test(path)) continue
    for (const args of ARGUMENT_LISTS) {
      try {
        answers.push(path, await call(...as(args)))
      } catch (error) {
        answers.push(path, error)
      }
    }
  }
  for (const db of [instance.kysely(tenantId), context.db]) {
    answers.push(await readAll(db))
    answers.push(await db.transaction().execute(readAll))
    answers.push(await db.connection().execute(readAll))
    for await (const row of db.selectFrom('invoices').selectAll().stream()) answers.push(row)
  }
  return answers
}

// As the superuser that PGlite makes of every login, acme would erase tenants and take protections away.
describe('every method of the library', needs('realRoles'), () => {
  const work = async () => {
    const spies = (['log', 'info', 'warn', 'error', 'debug'] as const).map((method) =>
      vi.spyOn(console, method).mockImplementation((...args) => void printed.push(args)),
    )
    const warn = (warning: Error) => void printed.push(warning)
    process.on('warning', warn)
    try {
      const answers = await useEverything(rowhouse, ACME)
      expect(answers.length).toBeGreaterThan(500)
      expect(show(answers)).toContain('canary:acme:')
      return seen(answers)
    } finally {
      process.off('warning', warn)
      for (const spy of spies) spy.mockRestore()
    }
  }

  test('answers, errors, logs and bytes hold nothing of another tenant', async () => {
    await expectClosed({
      probe: work,
      removeProtection: () => clients.owner.query('alter table invoices disable row level security'),
      restoreProtection: () => protect(clients.owner, 'invoices'),
    })
  }, 60_000)

  test('what another tenant does is notified to nobody', needs('parallelBackends'), async () => {
    const { rows } = await clients.owner.query<{ channel: string }>(
      `select distinct m[1] as channel
        from pg_proc p, regexp_matches(p.prosrc, '(?:pg_notify\\s*\\(\\s*''|notify\\s+)([a-z_]+)', 'gi') m
        where p.pronamespace = 'rowhouse'::regnamespace`,
    )
    const listened = ['rowhouse', 'rowhouse_events', 'probe', ...rows.map(({ channel }) => channel)]
    for (const channel of listened) await acme.query(`listen "${channel}"`)
    const others = createRowhouse({ connectionString: database.url('app'), poolOptions: { max: 1 } })
    try {
      const probe = async () => {
        await useEverything(others, GLOBEX)
        await notify()
        // Notifications come before the answer of the next statement.
        await acme.query('select 1')
        return seen()
      }
      let notify: () => Promise<unknown> = async () => {}
      await expectClosed({
        probe,
        removeProtection: async () => {
          notify = () => clients.app.query(`select pg_notify('probe', $1)`, [foreign[0]])
        },
        restoreProtection: async () => {
          notify = async () => {}
        },
      })
    } finally {
      await others.close()
      await acme.query('unlisten *')
    }
  })
})
