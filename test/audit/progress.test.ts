// Sealing and verifying tell how far they are.
import { expect, test } from 'vitest'
import type { AuditProgress } from '../../src/index.ts'
import { useDatabase } from '../setup/database.ts'
import { ACME, GLOBEX, useRowhouse } from './support.ts'

const database = useDatabase()
const fixture = useRowhouse(database)

const appendTo = async (tenantId: string, count: number) => {
  const { audit } = fixture.rowhouse.tenant(tenantId)
  await audit.append(Array.from({ length: count }, () => ({ action: 'a.b' })))
}

/** Collects what is told, without the place among tenants. */
function listener(): { seen: AuditProgress[]; onProgress: (progress: AuditProgress) => void } {
  const seen: AuditProgress[] = []
  return { seen, onProgress: (progress) => seen.push(progress) }
}

test('of one trail, by its entries', async () => {
  // And the one of its provisioning.
  await appendTo(ACME, 2499)
  const sealing = listener()
  await fixture.rowhouse.auditLog.seal(ACME, { onProgress: sealing.onProgress })
  const place = { tenantId: ACME, totalEntries: 2500, tenants: 0, totalTenants: 1 }
  expect(sealing.seen).toEqual([1000, 2000, 2500].map((entries) => ({ ...place, entries })))
  const verifying = listener()
  const verified = await fixture.rowhouse.auditLog.verify(ACME, { onProgress: verifying.onProgress })
  expect(verified).toMatchObject({ intact: true, entries: 2500 })
  expect(verifying.seen).toEqual([1000, 2000].map((entries) => ({ ...place, entries })))
})

test('of several, by tenants too; and to nobody who does not ask', async () => {
  for (const tenantId of [ACME, GLOBEX]) await appendTo(tenantId, 5)
  const { seen, onProgress } = listener()
  await fixture.rowhouse.auditLog.seal({ onProgress })
  expect(seen).toEqual([
    { tenantId: ACME, entries: 5, totalEntries: 5, tenants: 0, totalTenants: 2 },
    { tenantId: GLOBEX, entries: 6, totalEntries: 6, tenants: 1, totalTenants: 2 },
  ])
  await fixture.rowhouse.auditLog.verify(ACME)
  await fixture.rowhouse.auditLog.seal()
  expect(seen).toHaveLength(2)
  await expect(fixture.rowhouse.auditLog.verify(ACME, { onProgress: 1 as never })).rejects.toMatchObject({
    code: 'invalid_argument',
  })
})
