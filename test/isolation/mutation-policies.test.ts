// Mutants of row-level security and of policies; see mutation.test.ts.
import { describe, expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { ofEach, RELATIONS, readNames, survivors, TABLES, TIMEOUT, useMutants } from './support/mutants.ts'

const mutation = useMutants(useDatabase({ needs: ['realRoles'] }))
const { clients } = mutation
const read = (sql: string) => readNames(clients.owner, sql)

describe('every mutant is noticed', TIMEOUT, () => {
  test('row-level security of each relation', async () => {
    const mutants = ofEach(
      await read(RELATIONS),
      'alter table %s disable row level security',
      'alter table %s no force row level security',
    )
    expect(mutants.length).toBeGreaterThan(15)
    expect(await survivors(mutation.detectors, clients.owner, mutants)).toEqual([])
  })

  test.each(['rowhouse_tenant', 'rowhouse_isolation'])('the policy %s of each relation', async (policy) => {
    const mutants = ofEach(
      await read(RELATIONS),
      `drop policy ${policy} on %s`,
      `alter policy ${policy} on %s using (true)`,
      `alter policy ${policy} on %s with check (true)`,
      `alter policy ${policy} on %s to rowhouse_app`,
      `drop policy ${policy} on %s; create policy ${policy} on %s as restrictive for select using (true)`,
    )
    expect(await survivors(mutation.detectors, clients.owner, mutants)).toEqual([])
  })

  test('another policy, a looser condition that looks alike', async () => {
    const setting = "current_setting('app.tenant_id', true)"
    const mutants = ofEach(
      (await read(TABLES)).filter((name) => name !== 'public.by_uuid'),
      'create policy careless on %s using (true)',
      `alter policy rowhouse_isolation on %s using (tenant_id = ${setting} or tenant_id = 'shared')`,
      `alter policy rowhouse_isolation on %s using (tenant_id = ${setting} or ${setting} is null)`,
      `alter policy rowhouse_isolation on %s using (lower(tenant_id) = lower(${setting}))`,
      `alter policy rowhouse_isolation on %s using (tenant_id like ${setting})`,
      `alter policy rowhouse_isolation on %s using (tenant_id >= ${setting})`,
      "alter policy rowhouse_isolation on %s using (tenant_id = current_setting('app.tenant', true))",
    )
    expect(await survivors(mutation.detectors, clients.owner, mutants)).toEqual([])
  })
})
