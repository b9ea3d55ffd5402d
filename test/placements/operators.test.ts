// What operators ask of all tenants, or of one that is in another database, is asked of every database, or of that one.

import { generateKeyPairSync } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createRowhouse, type Rowhouse, verifyErasureCertificate } from '../../src/index.ts'
import { expectError } from '../documents/fixture.ts'
import { useDatabase } from '../setup/database.ts'

const homeDatabase = useDatabase({ needs: ['parallelBackends'] })
const euDatabase = useDatabase({ needs: ['parallelBackends'] })
let rowhouse: Rowhouse
/** Knows the one at home only. */
let homeOnly: Rowhouse
/** Another one, whose home is the other database. */
let euOnly: Rowhouse

beforeAll(async () => {
  rowhouse = createRowhouse({
    pool: homeDatabase.pool('owner', { max: 4 }),
    placements: { eu: { pool: euDatabase.pool('owner', { max: 4 }) } },
  })
  homeOnly = createRowhouse({ pool: homeDatabase.pool('owner', { max: 2 }) })
  euOnly = createRowhouse({ pool: euDatabase.pool('owner', { max: 2 }) })
  await rowhouse.tenants.provision('stays')
  for (const id of ['moves', 'leaver7']) {
    await rowhouse.tenants.provision(id)
    await rowhouse.tenants.move(id, 'eu')
  }
  await euOnly.tenants.provision('stranger')
})
afterAll(() => Promise.all([rowhouse, homeOnly, euOnly].map((opened) => opened.close())))

test('seal of all seals trails in every database, and those of no other home', async () => {
  for (const id of ['stays', 'moves', 'leaver7']) await rowhouse.tenant(id).audit.append({ action: 'some.thing' })
  await euOnly.tenant('stranger').audit.append({ action: 'some.thing' })
  const sealed = await rowhouse.auditLog.seal()
  expect(sealed.map(({ tenantId }) => tenantId).sort()).toEqual(['leaver7', 'moves', 'stays'])
  for (const id of ['stays', 'moves', 'leaver7']) {
    expect(await rowhouse.auditLog.verify(id), id).toMatchObject({ intact: true, unsealed: 0 })
  }
  expect((await euOnly.auditLog.verify('stranger')).unsealed).toBeGreaterThan(0)
  expect(await rowhouse.auditLog.seal()).toEqual([])
})

test('sweep visits tenants in every database', async () => {
  await rowhouse.tenant('moves').state.set('old', 1, { ttlMs: 1 })
  const swept = await rowhouse.sweep()
  expect(swept.map(({ tenantId }) => tenantId).sort()).toEqual(expect.arrayContaining(['leaver7', 'moves', 'stays']))
  expect(swept.find(({ tenantId }) => tenantId === 'moves')).toMatchObject({ values: 1 })
})

test('what operators do to a tenant is done where it is', async () => {
  await rowhouse.tenants.suspend('moves', { reason: 'unpaid' })
  expect(await euOnly.tenants.get('moves')).toMatchObject({ status: 'suspended', statusReason: 'unpaid' })
  await rowhouse.tenants.resume('moves')
  await rowhouse.tenants.setTier('moves', 'enterprise')
  expect(await rowhouse.tenants.get('moves')).toMatchObject({ status: 'active', tier: 'enterprise', placement: 'eu' })
  // The control: who does not know the other database is told so.
  await expectError(homeOnly.tenants.suspend('moves'), 'tenant_moved')
})

test('an erasure elsewhere is certified, verified and in the list', async () => {
  await rowhouse.tenants.erase('leaver7')
  const { privateKey, publicKey } = generateKeyPairSync('ed25519')
  const certificate = await rowhouse.erasures.certify('leaver7', privateKey)
  const receipt = await rowhouse.erasures.receipt('leaver7')
  expect(await verifyErasureCertificate(certificate, { publicKeys: [publicKey] })).toEqual(receipt)
  const verified = await rowhouse.erasures.verify('leaver7', { certificate, publicKeys: [publicKey] })
  expect(verified).toMatchObject({ intact: true, receipt: { tenantId: 'leaver7' } })
  expect(verified.residue.filter(({ rows }) => rows !== undefined)).toEqual([])
  const receipts = await rowhouse.tenants.verifyErasures()
  expect(receipts).toContainEqual({ erasureNumber: 1, tenantId: 'leaver7', placement: 'eu', intact: true })
  // What the move left behind was erased at home.
  expect(receipts).toContainEqual(expect.objectContaining({ tenantId: 'leaver7', placement: 'home', intact: true }))
  expect((await homeOnly.tenants.verifyErasures())[0]).not.toHaveProperty('placement')
  await expectError(rowhouse.erasures.receipt('stays'), 'tenant_not_found')
  const error = await expectError(homeOnly.erasures.receipt('leaver7'), 'tenant_moved')
  expect(error).toMatchObject({ placement: 'eu' })
})
