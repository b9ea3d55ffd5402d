// Sealed contexts as an application uses them: everything works as before, and nothing without a valid proof.
import { createHmac } from 'node:crypto'
import { sql } from 'kysely'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { createRowhouse, type Rowhouse } from '../../src/index.ts'
import { withClient } from '../setup/connection.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'

const KEY = 'the first key of this test, 32 bytes'
const NEXT_KEY = new Uint8Array(32).fill(7)
const UUID = '0b9c5d4e-9f44-4b3a-8f52-6f6f4d1c2a10'

interface Tables {
  notes: { tenant_id: string; id: number; text: string }
  counts: { tenant_id: number; id: number }
  files: { tenant_id: string; id: number }
}

const database = useDatabase()
let operators: Rowhouse<Tables>
let sealed: Rowhouse<Tables>
const opened: Rowhouse[] = []
const open = (options: { seal?: string | Uint8Array } = {}): Rowhouse<Tables> => {
  const rowhouse = createRowhouse<Tables>({
    connectionString: database.url('app'),
    poolOptions: { max: 2 },
    ...options,
  })
  opened.push(rowhouse)
  return rowhouse
}

beforeAll(async () => {
  const owner = await database.connect('owner')
  await owner.query(`
    create table notes (tenant_id text not null, id integer, text text not null, primary key (tenant_id, id));
    create table counts (tenant_id bigint not null, id integer, primary key (tenant_id, id));
    create table files (tenant_id uuid not null, id integer, primary key (tenant_id, id));
    select rowhouse.protect_table('notes', p_partition => true);
    select rowhouse.protect_table('counts');
    select rowhouse.protect_table('files')`)
  operators = createRowhouse<Tables>({ connectionString: database.url('owner'), poolOptions: { max: 1 } })
  opened.push(operators)
  for (const tenant of ['acme', 'globex', '42', UUID]) await operators.tenants.provision(tenant)
})
afterAll(async () => {
  await Promise.all(opened.map((rowhouse) => rowhouse.close()))
})

describe('on the way to seals', () => {
  test('they cannot be required before there is a key', async () => {
    await expect(operators.seals.require(true)).rejects.toThrow('while the database knows no key')
    expect(await operators.seals.required()).toBe(false)
  })

  test('a key has 32 to 64 bytes', async () => {
    for (const key of ['short', 'x'.repeat(65), new Uint8Array(31)]) {
      await expect(operators.seals.addKey(key)).rejects.toMatchObject({ code: 'invalid_argument' })
      expect(() => open({ seal: key })).toThrow('32 to 64 bytes')
    }
  })

  test('an application with a key that the database does not know is refused', async () => {
    await expect(open({ seal: KEY }).query('acme', (db) => db.selectFrom('notes').selectAll())).rejects.toMatchObject({
      code: 'invalid_seal',
      sqlstate: 'RH008',
    })
  })

  test('a key is added once; applications with it and without it work', async () => {
    const keyId = await operators.seals.addKey(KEY)
    expect(await operators.seals.addKey(KEY)).toBe(keyId)
    expect(await operators.seals.keys()).toEqual([{ keyId, addedAt: expect.any(Date) }])
    for (const rowhouse of [open({ seal: KEY }), open()]) {
      expect(await rowhouse.query('acme', (db) => db.selectFrom('notes').selectAll())).toEqual([])
    }
  })
})

describe('where seals are required', () => {
  beforeAll(async () => {
    await operators.seals.addKey(KEY)
    expect(await operators.seals.require(true)).toBeGreaterThanOrEqual(3)
    sealed = open({ seal: KEY })
  })
  afterAll(async () => {
    await operators.seals.require(false)
  })
  beforeEach(async () => {
    await sealed.query('acme', (db) => db.deleteFrom('notes'))
  })

  const add = (id: number) => ({ id, text: `note ${id}` }) as Tables['notes']

  test('every way into a tenant works', async () => {
    await sealed.withTenant('acme', async (db, tenant) => {
      await db
        .insertInto('notes')
        .values([add(1), add(2)])
        .execute()
      await db.updateTable('notes').set({ text: 'changed' }).where('id', '=', 2).execute()
      await tenant.runContext((nested) => nested.deleteFrom('notes').where('id', '=', 1).execute())
    })
    await sealed
      .kysely('acme')
      .transaction()
      .execute((trx) => trx.insertInto('notes').values(add(3)).execute())
    const ids = await sealed.query('acme', (db) => db.selectFrom('notes').select('id').orderBy('id'))
    expect(ids).toEqual([{ id: 2 }, { id: 3 }])
    const streamed: number[] = []
    for await (const { id } of sealed.kysely('acme').selectFrom('notes').selectAll().stream(1)) streamed.push(id)
    expect(streamed.toSorted()).toEqual([2, 3])
    expect(await sealed.query('globex', (db) => db.selectFrom('notes').selectAll())).toEqual([])
  })

  test('tenant columns of other types work, in the spelling of Postgres alone', async () => {
    await sealed.query('42', (db) => db.insertInto('counts').values({ id: 1 } as Tables['counts']))
    expect(await sealed.query('42', (db) => db.selectFrom('counts').selectAll())).toHaveLength(1)
    await sealed.query(UUID, (db) => db.insertInto('files').values({ id: 1 } as Tables['files']))
    expect(await sealed.query(UUID, (db) => db.selectFrom('files').selectAll())).toHaveLength(1)
    await operators.tenants.provision('042')
    expect(await sealed.query('042', (db) => db.selectFrom('counts').selectAll())).toEqual([])
  })

  test('an unknown, suspended or erased tenant gets its own error', async () => {
    const ask = (tenant: string) => sealed.query(tenant, (db) => db.selectFrom('notes').selectAll())
    await expect(ask('nobody')).rejects.toMatchObject({ code: 'tenant_not_found' })
    await operators.tenants.suspend('globex')
    await expect(ask('globex')).rejects.toMatchObject({ code: 'tenant_suspended' })
    await operators.tenants.resume('globex')
    await operators.tenants.provision('gone')
    await operators.tenants.erase('gone')
    await expect(ask('gone')).rejects.toMatchObject({ code: 'tenant_inactive' })
  })

  test('promotion, demotion and erasure work, and leave the tables sealed', async () => {
    await operators.tenants.provision('brief')
    await sealed.query('brief', (db) => db.insertInto('notes').values([add(1), add(2)]))
    expect((await operators.tenants.promote('brief')).tables).toMatchObject({ 'public.notes': 2 })
    expect(await sealed.query('brief', (db) => db.selectFrom('notes').selectAll())).toHaveLength(2)
    const owner = await database.connect('owner')
    // Who enters with a seal between its steps waits for the last one.
    await owner.query("select rowhouse.begin_demotion('brief')")
    const reading = sealed.query('brief', (db) => db.selectFrom('notes').selectAll())
    expect((await operators.tenants.demote('brief')).tables).toMatchObject({ 'public.notes': 2 })
    expect(await reading).toHaveLength(2)
    expect((await operators.tenants.erase('brief')).tables).toMatchObject({ 'public.notes': 2 })
    const { rows } = await owner.query(
      "select count(*)::int as unsealed from pg_policies where policyname like 'rowhouse%' and qual not like '%sealed_tenant%'",
    )
    expect(rows).toEqual([{ unsealed: 0 }])
  })

  test('operators visit every tenant', async () => {
    const visits = await open({ seal: KEY }).query('acme', (db) => db.selectFrom('notes').selectAll())
    expect(visits).toEqual([])
    const work = createRowhouse<Tables>({
      connectionString: database.url('app'),
      admin: { connectionString: database.url('owner'), poolOptions: { max: 1 } },
      seal: KEY,
    })
    opened.push(work)
    const counted = await work.forEachTenant((db) => sql`select 1`.execute(db))
    expect(counted.map(({ tenantId }) => tenantId)).toContain('acme')
  })

  test('an application without a seal is refused before its first transaction', async () => {
    await expect(open().query('acme', (db) => db.selectFrom('notes').selectAll())).rejects.toMatchObject({
      code: 'tenant_not_sealed',
      message: expect.stringContaining('was given no seal'),
    })
  })

  test('a function of the user decides by the sealed tenant', async () => {
    const ask = (statement: string) =>
      sealed.withTenant('acme', (db) => sql.raw<{ tenant: string }>(statement).execute(db))
    const { rows } = await ask('select rowhouse.require_verified_tenant() as tenant')
    expect(rows).toEqual([{ tenant: 'acme' }])
    const forged = `select set_config('app.tenant_id', 'globex', true), rowhouse.%s() as tenant`
    await expect(ask(forged.replace('%s', 'require_verified_tenant'))).rejects.toMatchObject({
      code: 'tenant_not_sealed',
    })
    // The control: this one says what is set.
    expect((await ask(forged.replace('%s', 'require_tenant'))).rows).toMatchObject([{ tenant: 'globex' }])
  })

  test('the key is changed while applications run', async () => {
    const nextId = await operators.seals.addKey(NEXT_KEY)
    const next = open({ seal: NEXT_KEY })
    for (const rowhouse of [sealed, next]) {
      expect(await rowhouse.query('acme', (db) => db.selectFrom('notes').selectAll())).toEqual([])
    }
    expect(await operators.seals.dropKey(nextId)).toBe(true)
    await expect(next.query('acme', (db) => db.selectFrom('notes').selectAll())).rejects.toMatchObject({
      code: 'invalid_seal',
    })
    expect(await operators.seals.dropKey(nextId)).toBe(false)
    const [{ keyId } = { keyId: '' }] = await operators.seals.keys()
    await expect(operators.seals.dropKey(keyId)).rejects.toThrow('the last seal key')
  })

  describe('a proof', () => {
    const enter = (tenant: string, proof: string | null) =>
      withClient(database.url('app'), async (client) => {
        await client.query(`begin; set local role rowhouse_app; set local app.tenant_id = '${tenant}'`)
        await client.query('select rowhouse.enter_sealed_tenant($1)', [proof])
        const { rows } = await client.query('select count(*)::int as rows from notes')
        await client.query('rollback')
        return rows
      })
    const prove = async (tenant: string, { key = KEY, time = Date.now() } = {}) => {
      const [{ keyId } = { keyId: '' }] = await operators.seals.keys()
      return `${keyId}.${time}.${createHmac('sha256', key).update(`rowhouse:1:${time}:${tenant}`).digest('hex')}`
    }

    test('can be made in any language', async () => {
      expect(await enter('acme', await prove('acme'))).toEqual([{ rows: 0 }])
    })

    test('of another tenant, of another key or changed is refused', async () => {
      const good = await prove('acme')
      for (const proof of [
        await prove('globex'),
        await prove('acme', { key: 'another key, also of 32 bytes or more' }),
        `${good.slice(0, -1)}${good.endsWith('0') ? '1' : '0'}`,
        good.toUpperCase(),
        good.replace(/\.\d+\./, '.1.'),
        good.slice(20),
        '',
        '..',
        null,
      ]) {
        await expect(enter('acme', proof), String(proof)).rejects.toMatchObject({
          code: 'RH008',
          message: 'the proof of the tenant is not valid',
        })
      }
    })

    test('holds for 5 minutes by the clock of the database, in both directions', async () => {
      for (const minutes of [-4, 4])
        expect(await enter('acme', await prove('acme', { time: Date.now() + minutes * 60_000 }))).toHaveLength(1)
      for (const [minutes, direction] of [
        [-6, 'ago'],
        [6, 'in the future'],
      ] as const) {
        await expect(enter('acme', await prove('acme', { time: Date.now() + minutes * 60_000 }))).rejects.toMatchObject(
          {
            code: 'RH008',
            message: expect.stringMatching(new RegExp(`3\\d\\d seconds ${direction}`)),
          },
        )
      }
    })
  })

  test('tables that are protected from now on are sealed as well', async () => {
    const owner = await database.connect('owner')
    await owner.query("create table later (tenant_id text not null); select rowhouse.protect_table('later')")
    const { rows } = await owner.query("select distinct qual from pg_policies where tablename = 'later'")
    expect(rows).toEqual([{ qual: expect.stringContaining('rowhouse.sealed_tenant()') }])
  })

  test(
    'a sealed transaction carries its seal through savepoints and failed statements',
    needs('realRoles'),
    async () => {
      await sealed.withTenant('acme', async (db, tenant) => {
        await tenant.runContext((nested) => sql`select 1 / 0`.execute(nested)).catch(() => {})
        await db.insertInto('notes').values(add(9)).execute()
      })
      expect(await sealed.query('acme', (db) => db.selectFrom('notes').select('id'))).toEqual([{ id: 9 }])
    },
  )
})

test('without the requirement, everything is as before', async () => {
  expect(await operators.seals.required()).toBe(false)
  expect(await open().query('acme', (db) => db.selectFrom('notes').select('id'))).toEqual([{ id: 9 }])
})
