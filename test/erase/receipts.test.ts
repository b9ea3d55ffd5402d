// The receipts of erasures: chained, so that a changed, missing or moved one shows, whoever did it.

import type pg from 'pg'
import { beforeAll, describe, expect, test } from 'vitest'
import type { ErasureReceipt } from '../../src/index.ts'
import { createRowhouse } from '../../src/index.ts'
import { failure, protect, provision } from '../protect/support.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { brokenReceipts, erase } from './support.ts'

const database = useDatabase()
let owner: pg.Client

beforeAll(async () => {
  owner = await database.connect('owner')
  await owner.query(
    "create table notes (tenant_id text, v int); insert into notes select 't' || g % 5, g from generate_series(1, 50) g",
  )
  await provision(owner, 't0', 't1', 't2', 't3', 't4')
  await protect(owner, 'notes')
  for (const tenantId of ['t0', 't1', 't2', 't3']) await erase(owner, tenantId)
})

test('a receipt says what was erased, when and by whom, and is stored as it was returned', async () => {
  await provision(owner, 'last')
  const erased = await owner.query("select rowhouse.erase_tenant('last') as receipt")
  const receipt: ErasureReceipt = erased.rows[0].receipt
  const { rows } = await owner.query('select session_user::text as login, now() as now')
  expect(receipt).toMatchObject({
    tenantId: 'last',
    erasureNumber: 5,
    erasedBy: rows[0].login,
    // Its provision and its erasure were recorded.
    tables: { 'public.notes': 0, 'rowhouse.audit_entries': 2 },
    rows: 2,
    partitionsDropped: 0,
    residue: { rows: 0, registeredTablesChecked: expect.any(Number), otherTablesChecked: 0 },
    exemptTables: {},
    auditDigest: expect.stringMatching(/^[0-9a-f]{64}$/),
  })
  expect(Date.parse(receipt.startedAt)).toBeLessThanOrEqual(Date.parse(receipt.erasedAt))
  expect(Math.abs(Date.parse(receipt.erasedAt) - Date.now())).toBeLessThan(60_000)
  const stored = await owner.query("select receipt from rowhouse.erasures where tenant_id = 'last'")
  expect(stored.rows).toEqual([{ receipt }])
})

test('nothing of the tenant stays in the registry but its id', async () => {
  await owner.query(`select rowhouse.provision_tenant('named', 'Secret Inc.', 'gold', '{"key": "secret"}');
    select rowhouse.suspend_tenant('named', 'secret reason')`)
  await erase(owner, 'named')
  const { rows } = await owner.query(
    "select name, tier, settings, status, status_reason, partition_schema from rowhouse.tenants where tenant_id = 'named'",
  )
  expect(rows).toEqual([
    { name: 'named', tier: 'gold', settings: {}, status: 'erased', status_reason: null, partition_schema: null },
  ])
})

test('an erased tenant is not erased twice, and an unknown one not at all', async () => {
  expect((await failure(erase(owner, 't0'))).code).toBe('RH004')
  expect((await failure(erase(owner, 'nobody'))).code).toBe('RH002')
  expect((await failure(erase(owner, 'not an id'))).code).toBe('RH006')
  expect((await failure(owner.query("select rowhouse.begin_erasure('nobody')"))).code).toBe('RH002')
})

test('an erasure that is rolled back leaves no receipt and no gap', async () => {
  await provision(owner, 'twice')
  await owner.query('begin')
  const first = await erase(owner, 'twice')
  await owner.query('rollback')
  expect((await erase(owner, 'twice')).erasureNumber).toBe(first.erasureNumber)
  expect(await brokenReceipts(owner)).toEqual([])
})

test('from TypeScript', async () => {
  const rowhouse = createRowhouse({ connectionString: database.url('owner') })
  const verified = await rowhouse.tenants.verifyErasures()
  await rowhouse.close()
  expect(verified.length).toBeGreaterThan(4)
  expect(verified.map(({ erasureNumber }) => erasureNumber)).toEqual(verified.map((_receipt, index) => index + 1))
  expect(verified.every(({ intact }) => intact)).toBe(true)
})

describe('tampering by a superuser is found', needs('superuser'), () => {
  const SECOND = 'update rowhouse.erasures set'
  test.each([
    ['a number of rows', `${SECOND} receipt = jsonb_set(receipt, '{rows}', '1') where erasure_number = 2`],
    ['one more field', `${SECOND} receipt = receipt || '{"more": 1}' where erasure_number = 2`],
    ['one field less', `${SECOND} receipt = receipt - 'erasedBy' where erasure_number = 2`],
    ['the digest in the receipt', `${SECOND} receipt = receipt || '{"auditDigest": "00"}' where erasure_number = 2`],
    ['no digest in the receipt', `${SECOND} receipt = receipt - 'auditDigest' where erasure_number = 2`],
    ['the digest', `${SECOND} digest = sha256('x') where erasure_number = 2`],
    ['a receipt that is no object', `${SECOND} receipt = '"none"' where erasure_number = 2`],
    ['an empty receipt', `${SECOND} receipt = '{}' where erasure_number = 2`],
    [
      'a receipt with a digest that fits',
      `with forged as (select e.erasure_number, (e.receipt - 'auditDigest') || '{"rows": 1}' as receipt,
            (select p.digest from rowhouse.erasures p where p.erasure_number = 1) as previous from rowhouse.erasures e where e.erasure_number = 2),
          digests as (select f.*, sha256(f.previous || convert_to(f.receipt::text, 'UTF8')) as digest from forged f)
        update rowhouse.erasures e set digest = d.digest, receipt = d.receipt || jsonb_build_object('auditDigest', encode(d.digest, 'hex'))
          from digests d where e.erasure_number = d.erasure_number`,
    ],
    ['the tenant', `${SECOND} tenant_id = 't4' where erasure_number = 2`],
    ['the time', `${SECOND} erased_at = erased_at - interval '1 day' where erasure_number = 2`],
    ['the number', `${SECOND} erasure_number = 99 where erasure_number = 2`],
    [
      'the receipts of two tenants exchanged',
      `${SECOND} receipt = (select o.receipt from rowhouse.erasures o where o.erasure_number = 5 - erasures.erasure_number) where erasure_number in (2, 3)`,
    ],
    ['the first receipt missing', 'delete from rowhouse.erasures where erasure_number = 1'],
    ['one in the middle missing', 'delete from rowhouse.erasures where erasure_number = 2'],
    [
      'the last receipt missing',
      'delete from rowhouse.erasures where erasure_number = (select max(erasure_number) from rowhouse.erasures)',
    ],
    ['all receipts missing', 'delete from rowhouse.erasures'],
    [
      'the tenant active again',
      "update rowhouse.tenants set status = 'active', erased_at = null where tenant_id = 't1'",
    ],
    [
      'the tenant erased on another day',
      "update rowhouse.tenants set erased_at = erased_at - interval '1 day' where tenant_id = 't1'",
    ],
    ['the tenant missing in the registry', "delete from rowhouse.tenants where tenant_id = 't1'"],
    [
      'a tenant erased without a receipt',
      "update rowhouse.tenants set status = 'erased', erased_at = now() where tenant_id = 't4'",
    ],
  ])('%s', async (_what, tampering) => {
    const superuser = await database.connect('superuser')
    expect(await brokenReceipts(superuser)).toEqual([])
    await superuser.query('begin')
    try {
      expect((await superuser.query(tampering)).rowCount).toBeGreaterThan(0)
      expect((await brokenReceipts(superuser)).length).toBeGreaterThan(0)
    } finally {
      await superuser.query('rollback')
    }
    expect(await brokenReceipts(superuser)).toEqual([])
  })

  test('negative control: who rewrites the whole chain is found by a digest kept elsewhere only', async () => {
    const superuser = await database.connect('superuser')
    const digests = async () =>
      (await superuser.query('select digest from rowhouse.erasures order by erasure_number')).rows
    const kept = await digests()
    await superuser.query('begin')
    await superuser.query(`do $$ declare v_row record; v_previous bytea := ''; v_receipt jsonb; begin
      for v_row in select * from rowhouse.erasures order by erasure_number loop
        v_receipt := (v_row.receipt - 'auditDigest') || '{"rows": 7}';
        v_previous := sha256(v_previous || convert_to(v_receipt::text, 'UTF8'));
        update rowhouse.erasures set digest = v_previous, receipt = v_receipt || jsonb_build_object('auditDigest', encode(v_previous, 'hex'))
          where erasure_number = v_row.erasure_number;
      end loop; end $$`)
    expect(await brokenReceipts(superuser)).toEqual([])
    expect(await digests()).not.toEqual(kept)
    await superuser.query('rollback')
  })
})

test(
  'neither the application nor operators write receipts; the application does not read them',
  needs('realRoles'),
  async () => {
    const [app, operator] = [await database.connect('app'), await database.connect('operator')]
    await app.query('set role rowhouse_app')
    await operator.query('set role rowhouse_admin')
    for (const client of [app, operator]) {
      for (const sql of [
        'delete from rowhouse.erasures',
        "update rowhouse.erasures set receipt = '{}'",
        'truncate rowhouse.erasures',
      ]) {
        expect((await failure(client.query(sql))).code).toBe('42501')
      }
    }
    expect((await failure(app.query('select from rowhouse.erasures'))).code).toBe('42501')
    expect((await failure(app.query('select rowhouse.verify_erasures()'))).code).toBe('42501')
    expect((await operator.query('select from rowhouse.erasures')).rowCount).toBeGreaterThan(0)
  },
)
