// Provisioning, suspension, tiers, listing: what operators do with the registry, and what it means to the tenant's next
// transaction.

import type pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  createRowhouse,
  type Rowhouse,
  RowhouseError,
  TenantInactiveError,
  TenantNotFoundError,
  TenantSuspendedError,
} from '../../src/index.ts'
import { failure, protect } from '../protect/support.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { openSessions } from '../setup/sessions.ts'

const database = useDatabase()
let owner: pg.Client
let rowhouse: Rowhouse<{ notes: { v: number } }>

beforeAll(async () => {
  owner = await database.connect('owner')
  await owner.query('create table notes (tenant_id text, v int)')
  await protect(owner, 'notes')
  rowhouse = createRowhouse({
    connectionString: database.url('app'),
    admin: { connectionString: database.url('operator') },
  })
})
afterAll(() => rowhouse?.close())

const write = (tenantId: string) =>
  rowhouse.withTenant(tenantId, (db) => db.insertInto('notes').values({ v: 1 }).execute())
const read = (tenantId: string) => rowhouse.query(tenantId, (db) => db.selectFrom('notes').selectAll())

describe('provision', () => {
  test('creates a tenant, and twice changes nothing', async () => {
    const settings = { locale: 'de', limits: [1, 2], quote: `'"\\` }
    const created = await rowhouse.tenants.provision('acme', { name: 'Acme & Söhne', tier: 'gold', settings })
    expect(created).toMatchObject({
      id: 'acme',
      name: 'Acme & Söhne',
      tier: 'gold',
      settings,
      status: 'active',
      statusReason: null,
      promoted: false,
      erasedAt: null,
      created: true,
    })
    const again = await rowhouse.tenants.provision('acme', { name: 'Other', tier: 'free', settings: {} })
    expect(again).toEqual({ ...created, created: false })
    expect(await rowhouse.tenants.get('acme')).toEqual({ ...created, created: undefined })
    await write('acme')
  })

  test('has defaults', async () => {
    expect(await rowhouse.tenants.provision('plain')).toMatchObject({ name: 'plain', tier: 'free', settings: {} })
    expect(await rowhouse.tenants.get('nobody')).toBeUndefined()
  })

  test('twenty at once create one', needs('parallelBackends'), async () => {
    const outcomes = await Promise.all(Array.from({ length: 20 }, () => rowhouse.tenants.provision('race')))
    expect(outcomes.filter(({ created }) => created)).toHaveLength(1)
  })

  test.each(['a', 'A-Z_09', '-', '_', 'x'.repeat(64), 'default2'])('takes the id %s', async (id) => {
    expect((await rowhouse.tenants.provision(id)).id).toBe(id)
  })

  test.each(['', ' ', 'a b', 'ä', 'a.b', "a'b", 'x'.repeat(65), 'a\n', '\na', 'a\0'])(
    'refuses the id %j, in TypeScript and SQL',
    async (id) => {
      const error = await failure(rowhouse.tenants.provision(id))
      expect(error).toBeInstanceOf(RowhouseError)
      expect(error).toMatchObject({ code: 'invalid_tenant_id', httpStatus: 400 })
      if (id.includes('\0')) return
      expect((await failure(owner.query('select rowhouse.provision_tenant($1)', [id]))).code).toBe('RH006')
      const cast = await owner.query('select $1::rowhouse.tenant_id', [id]).catch((cause) => cause)
      expect(cast.code).toBe('23514')
    },
  )

  test.each([
    ['a name that is too long', { name: 'x'.repeat(201) }],
    ['an empty name', { name: '' }],
    ['a tier', { tier: 'Gold!' }],
    ['settings that are no object', { settings: [] as never }],
    ['an unknown option', { color: 'red' } as never],
  ])('refuses %s', async (_what, options) => {
    expect(await failure(rowhouse.tenants.provision('never', options))).toMatchObject({ code: 'invalid_argument' })
    expect(await rowhouse.tenants.get('never')).toBeUndefined()
  })

  test('never gives an erased id again', async () => {
    await rowhouse.tenants.provision('once')
    await owner.query("select rowhouse.begin_erasure('once')")
    expect(await failure(rowhouse.tenants.provision('once'))).toBeInstanceOf(TenantInactiveError)
    await rowhouse.tenants.erase('once')
    const error = await failure(rowhouse.tenants.provision('once'))
    expect(error).toMatchObject({ code: 'tenant_inactive', message: expect.stringContaining('never used again') })
    expect(await failure(write('once'))).toBeInstanceOf(TenantInactiveError)
    expect(await rowhouse.tenants.get('once')).toMatchObject({ status: 'erased', erasedAt: expect.any(Date) })
  })

  test('the tenant of a single-tenant deployment is there from the start', async () => {
    expect(rowhouse.defaultTenantId).toBe(process.env.ROWHOUSE_TENANT_ID ?? 'default')
    expect(await rowhouse.tenants.get('default')).toMatchObject({ id: 'default', status: 'active' })
    await write('default')
  })
})

describe('status', () => {
  test.each([
    ['suspend', 'suspended', TenantSuspendedError],
    ['deactivate', 'inactive', TenantInactiveError],
  ] as const)('%s: the next transaction is refused, until it is resumed', async (method, status, ErrorClass) => {
    const id = `to_${method}`
    await rowhouse.tenants.provision(id)
    await write(id)
    await rowhouse.tenants[method](id, { reason: 'unpaid' })
    expect(await rowhouse.tenants.get(id)).toMatchObject({ status, statusReason: 'unpaid' })
    for (const call of [
      write,
      read,
      (name: string) => rowhouse.kysely(name).selectFrom('notes').selectAll().execute(),
    ]) {
      expect(await failure(call(id))).toBeInstanceOf(ErrorClass)
    }
    await rowhouse.tenants[method](id)
    await rowhouse.tenants.resume(id)
    await rowhouse.tenants.resume(id)
    expect(await rowhouse.tenants.get(id)).toMatchObject({ status: 'active', statusReason: null })
    await write(id)
    expect(await read(id)).toHaveLength(2)
  })

  test('an unknown tenant is an error of its own', async () => {
    const calls = [
      () => rowhouse.tenants.suspend('nobody'),
      () => rowhouse.tenants.resume('nobody'),
      () => rowhouse.tenants.deactivate('nobody'),
      () => rowhouse.tenants.setTier('nobody', 'gold'),
      () => rowhouse.tenants.promote('nobody'),
      () => rowhouse.tenants.demote('nobody'),
      () => rowhouse.tenants.erase('nobody'),
      () => write('nobody'),
    ]
    for (const call of calls) expect(await failure(call())).toBeInstanceOf(TenantNotFoundError)
  })

  test('what began erasing or was erased stays that', async () => {
    await rowhouse.tenants.provision('final')
    await owner.query("select rowhouse.begin_erasure('final')")
    for (const method of ['suspend', 'resume', 'deactivate', 'promote', 'demote'] as const) {
      expect(await failure(rowhouse.tenants[method]('final'))).toBeInstanceOf(TenantInactiveError)
    }
    expect(await failure(rowhouse.tenants.setTier('final', 'gold'))).toBeInstanceOf(TenantInactiveError)
  })

  test.each(['read committed', 'repeatable read', 'serializable'])(
    'a transaction that runs (%s) does not hold up a suspension, and writes no more',
    needs('parallelBackends'),
    async (level) => {
      const id = `running_${level.replace(' ', '_')}`
      await rowhouse.tenants.provision(id)
      const { writer } = await openSessions(database, { writer: 'app' })
      await writer.run(`begin isolation level ${level}; set local role rowhouse_app; set local app.tenant_id = '${id}'`)
      await writer.run('insert into notes (v) values (1)')
      await rowhouse.tenants.suspend(id)
      const next = await writer.client.query('insert into notes (v) values (2)').catch((error) => error)
      // An older snapshot does not see the suspension; the next transaction does.
      expect(next.code ?? 'written').toBe(level === 'read committed' ? 'RH003' : 'written')
      await writer.run('rollback')
      expect(await failure(write(id))).toBeInstanceOf(TenantSuspendedError)
    },
  )

  test('negative control: without the check of the status a suspended tenant writes', async () => {
    await rowhouse.tenants.provision('control')
    await rowhouse.tenants.suspend('control')
    const insert = () =>
      owner.query(
        "begin; set local role rowhouse_app; set local app.tenant_id = 'control'; insert into notes (v) values (1); rollback",
      )
    expect((await failure(insert())).code).toBe('RH003')
    await owner.query('rollback; alter table notes disable trigger rowhouse_guard')
    await insert()
    await protect(owner, 'notes')
    expect((await failure(insert())).code).toBe('RH003')
    await owner.query('rollback')
  })
})

describe('list', () => {
  test('goes through all tenants page by page, each once, in the order of ids', async () => {
    const ids = Array.from({ length: 25 }, (_, index) => `page_${String(index).padStart(2, '0')}`)
    for (const id of ids) await rowhouse.tenants.provision(id, { tier: 'paged' })
    const seen: string[] = []
    for (let after: string | undefined; ; ) {
      const page = await rowhouse.tenants.list({ tier: 'paged', after, limit: 10 })
      seen.push(...page.map(({ id }) => id))
      if (page.length < 10) break
      after = page.at(-1)!.id
    }
    expect(seen).toEqual(ids)
    expect(await rowhouse.tenants.list({ tier: 'paged', status: 'suspended' })).toEqual([])
    await rowhouse.tenants.setTier('page_03', 'other')
    expect((await rowhouse.tenants.list({ tier: 'other' })).map(({ id }) => id)).toEqual(['page_03'])
    await rowhouse.tenants.suspend('page_04')
    expect((await rowhouse.tenants.list({ status: 'suspended', tier: 'paged' })).map(({ id }) => id)).toEqual([
      'page_04',
    ])
  })

  test.each([
    [{ limit: 0 }],
    [{ limit: 1001 }],
    [{ limit: 1.5 }],
    [{ status: 'gone' as never }],
    [{ after: 'a b' }],
    [{ page: 1 } as never],
  ])('refuses %j', async (options) => {
    expect(await failure(rowhouse.tenants.list(options))).toBeInstanceOf(RowhouseError)
  })
})
