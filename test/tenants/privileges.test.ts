// Who may call what: the lifecycle belongs to operators. The application may call nothing of it, and sees its own row.

import type pg from 'pg'
import { beforeAll, describe, expect, test } from 'vitest'
import { failure, provision } from '../protect/support.ts'
import { useDatabase } from '../setup/database.ts'

const database = useDatabase()
let owner: pg.Client

beforeAll(async () => {
  owner = await database.connect('owner')
  await provision(owner, 'acme', 'globex')
})

/** Runs as a role, in a tenant, and undoes it. */
async function as(role: string, sql: string): Promise<pg.QueryResult> {
  await owner.query(`begin; set local role ${role}; set local app.tenant_id = 'acme'`)
  try {
    return await owner.query(sql)
  } finally {
    await owner.query('rollback')
  }
}

/** Functions that only other functions of rowhouse call, and what operators call. */
const LIFECYCLE = [
  "rowhouse.provision_tenant('new')",
  "rowhouse.suspend_tenant('acme')",
  "rowhouse.deactivate_tenant('acme')",
  "rowhouse.resume_tenant('acme')",
  "rowhouse.set_tenant_tier('acme', 'gold')",
  "rowhouse.promote_tenant('acme')",
  "rowhouse.demote_tenant('acme')",
  "rowhouse.promotion_plan('acme')",
  "rowhouse.prepare_promotion('acme')",
  "rowhouse.begin_relocation('acme')",
  'rowhouse.await_entries(1)',
  "rowhouse.end_relocation('acme')",
  "rowhouse.begin_demotion('acme')",
  "rowhouse.demote_next('acme')",
  "rowhouse.begin_erasure('acme')",
  "rowhouse.erase_tenant('acme')",
  "rowhouse.erase_tenant('acme', true)",
  'rowhouse.verify_erasures()',
]
const INTERNAL = [
  "rowhouse.change_tenant_status('acme', '{}', 'active', null)",
  "rowhouse.lock_tenant('acme')",
  'rowhouse.lock_moves()',
  "rowhouse.lock_tables('{}', 'access share')",
  "rowhouse.work_as('globex', true)",
  "rowhouse.enter_for_move('acme')",
  "rowhouse.finish_relocation('acme')",
  "rowhouse.move_detached_rows('acme')",
  "rowhouse.await_relocation('acme')",
  "rowhouse.hold_rows('acme')",
  "rowhouse.erase_everywhere('acme')",
  "rowhouse.delete_all_tenant_rows('acme', '{}')",
  "rowhouse.delete_tenant_rows('{}', 'acme')",
  "rowhouse.count_tenant_rows('acme')",
  "rowhouse.drop_own_partitions('acme')",
  "rowhouse.store_receipt('acme', now(), '{}')",
  "rowhouse.tenant_tables('acme')",
  "rowhouse.erasure_obstacles('acme')",
]

describe('rowhouse_app', () => {
  test.each([...LIFECYCLE, ...INTERNAL])('may not call %s', async (call) => {
    expect((await failure(as('rowhouse_app', `select ${call}`))).code).toBe('42501')
  })

  test.each([
    "insert into rowhouse.tenants (tenant_id, name) values ('new', 'new')",
    "update rowhouse.tenants set status = 'active'",
    'delete from rowhouse.tenants',
    'select lock_key from rowhouse.tenants',
    'select partition_schema from rowhouse.tenants',
    'select status_reason from rowhouse.tenants',
    'select * from rowhouse.tenants for update',
  ])('may not run %s', async (sql) => {
    expect((await failure(as('rowhouse_app', sql))).code).toBe('42501')
  })

  test('sees the row of its own tenant, and no other', async () => {
    const { rows } = await as('rowhouse_app', 'select tenant_id, name, status, tier, settings from rowhouse.tenants')
    expect(rows).toEqual([{ tenant_id: 'acme', name: 'acme', status: 'active', tier: 'free', settings: {} }])
  })
})

describe('rowhouse_admin', () => {
  test.each(LIFECYCLE)('may call %s', async (call) => {
    await as('rowhouse_admin', `select ${call}`)
  })

  test.each(INTERNAL)('may not call %s', async (call) => {
    expect((await failure(as('rowhouse_admin', `select ${call}`))).code).toBe('42501')
  })

  test('reads the registry, and changes it by the functions only', async () => {
    const { rows } = await as('rowhouse_admin', 'select tenant_id from rowhouse.tenants order by tenant_id')
    expect(rows.map((row) => row.tenant_id)).toEqual(['acme', 'default', 'globex'])
    for (const sql of [
      "update rowhouse.tenants set status = 'active'",
      'delete from rowhouse.tenants',
      "insert into rowhouse.tenants (tenant_id, name) values ('new', 'new')",
      'select lock_key from rowhouse.tenants',
    ]) {
      expect((await failure(as('rowhouse_admin', sql))).code).toBe('42501')
    }
  })
})

test('negative control: what is granted can be called', async () => {
  const asRowhouseOwner = (sql: string) => owner.query(`begin; set local role rowhouse_owner; ${sql}; commit`)
  await asRowhouseOwner('grant execute on function rowhouse.suspend_tenant(text, text) to rowhouse_app')
  await as('rowhouse_app', "select rowhouse.suspend_tenant('globex')")
  await asRowhouseOwner('revoke execute on function rowhouse.suspend_tenant(text, text) from rowhouse_app')
  expect((await failure(as('rowhouse_app', "select rowhouse.suspend_tenant('globex')"))).code).toBe('42501')
})
