import { expect, test } from 'vitest'
import * as z from 'zod'
import { runWithoutAmbientTenant } from '../../src/context/current-tenant.ts'
import { defineSettings } from '../../src/index.ts'
import { ACME, GLOBEX, inTransaction, openRowhouse, useRowhouse } from '../audit/support.ts'
import { expectError } from '../documents/fixture.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'

const appSettings = defineSettings(
  z.strictObject({
    models: z.array(z.string()).default(['small-1']),
    promptPrefix: z.string().max(20).default(''),
    retentionDays: z.number().int().positive().default(30),
    features: z.object({ search: z.boolean().default(true), agents: z.boolean().default(false) }).prefault({}),
  }),
  { tiers: { enterprise: { retentionDays: 365, features: { agents: true } }, '*': { promptPrefix: 'Be kind.' } } },
)

const database = useDatabase()
const fixture = useRowhouse(database, { settings: appSettings })

async function provision(tenantId: string, options = {}) {
  await fixture.rowhouse.tenants.provision(tenantId, options)
  return fixture.rowhouse.tenant(tenantId, { userId: 'u_7' }).settings.as(appSettings)
}

/** Settings without a definition. */
const openSettings = (tenantId: string) =>
  fixture.rowhouse.tenant(tenantId).settings.as({
    complete: (stored) => stored as Record<string, unknown>,
  })

async function waitingTransactions(): Promise<number> {
  const { rows } = await fixture.operator.query(
    `select count(*)::integer as count from pg_locks join pg_stat_activity using (pid)
      where not granted and datname = current_database()`,
  )
  return rows[0].count
}

test('defaults come from the tier, then from the schema', async () => {
  const free = await provision('plain')
  expect(await free.get()).toEqual({
    models: ['small-1'],
    promptPrefix: 'Be kind.',
    retentionDays: 30,
    features: { search: true, agents: false },
  })
  const enterprise = await provision('large', { tier: 'enterprise' })
  expect(await enterprise.load()).toEqual({
    values: { models: ['small-1'], promptPrefix: '', retentionDays: 365, features: { search: true, agents: true } },
    stored: {},
    version: 0,
    tier: 'enterprise',
  })
})

test('a change keeps what it does not name, replaces lists, and gives defaults back', async () => {
  const settings = await provision('changing', { tier: 'enterprise' })
  await settings.change({ models: ['large-1', 'large-2'], features: { search: false } })
  await settings.change({ models: ['large-3'], features: { agents: false } })
  expect(await settings.load()).toMatchObject({
    values: { models: ['large-3'], retentionDays: 365, features: { search: false, agents: false } },
    stored: { models: ['large-3'], features: { search: false, agents: false } },
    version: 2,
  })
  const changed = await settings.change({ models: null, features: { agents: null } })
  expect(changed).toMatchObject({
    values: { models: ['small-1'], features: { search: false, agents: true } },
    version: 3,
  })
  expect(await settings.load()).toEqual(changed)
})

test('what does not fit the schema is refused, and nothing is stored', async () => {
  const settings = await provision('strict')
  await expectError(settings.change({ retentionDays: -1 }), 'invalid_settings', /retentionDays/)
  await expectError(settings.change({ features: { search: 'yes' as never } }), 'invalid_settings', /features\.search/)
  await expectError(settings.change({ surprise: 1 } as never), 'invalid_settings', /surprise/)
  await expectError(settings.change({ promptPrefix: 'zero \0' }), 'invalid_settings', /zero byte/)
  expect(await settings.load()).toMatchObject({ stored: {}, version: 0 })
  // The definition of createRowhouse holds for the untyped settings too.
  const untyped = fixture.rowhouse.tenant('strict').settings
  await expectError(untyped.change({ retentionDays: -1 }), 'invalid_settings')
  expect(await untyped.get()).toMatchObject({ retentionDays: 30 })
})

test('a default that the schema refuses is noticed when the program starts', () => {
  expect(() => defineSettings(z.object({ days: z.number() }), { tiers: { free: { days: 'x' as never } } })).toThrow(
    /days/,
  )
})

test('who names a version that is not the last one is told so', async () => {
  const settings = await provision('locked')
  const { version } = await settings.load()
  await settings.change({ retentionDays: 60 }, { version })
  await expectError(settings.change({ retentionDays: 90 }, { version }), 'settings_conflict', /version 0/)
  expect(await settings.get()).toMatchObject({ retentionDays: 60 })
  // Also when the other change came in between, which only the database sees.
  const { app } = fixture
  await expect(
    inTransaction(app, { role: 'rowhouse_app', tenantId: 'locked' }, () =>
      app.query("select rowhouse.change_settings('{}', 0)"),
    ),
  ).rejects.toMatchObject({ code: 'RH080' })
})

test('what is stored and does not fit the schema any more can be repaired', async () => {
  const before = defineSettings(z.object({ days: z.number().default(1), name: z.string().default('') }))
  const now = defineSettings(z.object({ days: z.number().max(10).default(1), name: z.string().default('') }))
  await fixture.rowhouse.tenants.provision('outgrown')
  const { settings } = fixture.rowhouse.tenant('outgrown')
  const stricter = settings.as(now)
  for (const repair of [{ days: 5 }, { days: null }]) {
    await settings.as(before).change({ days: 50 })
    // The control: it does not fit, and a change of something else leaves that as it is.
    await expectError(stricter.get(), 'invalid_settings', /days/)
    await expectError(stricter.change({ name: 'x' }), 'invalid_settings', /days/)
    expect(await stricter.change(repair)).toMatchObject({ values: { days: repair.days ?? 1 } })
    expect(await stricter.get()).toEqual({ days: repair.days ?? 1, name: '' })
  }
  const { version } = await settings.as(before).change({ days: 50 })
  await expectError(stricter.change({ days: 5 }, { version: version - 1 }), 'settings_conflict')
  expect(await stricter.change({ days: 5 }, { version })).toMatchObject({ values: { days: 5 } })
})

test('what is no change of settings, or no option, is refused and changes nothing', async () => {
  await fixture.rowhouse.tenants.provision('misspelled')
  const settings = openSettings('misspelled')
  for (const change of ['x', null, undefined, 5, [1], new Date(), new Map()]) {
    await expectError(settings.change(change as never), 'invalid_settings', /not an object/)
  }
  for (const options of [{ verison: 0 }, { version: Number.NaN }, { version: '0' }, { version: 0.5 }, null, 3]) {
    await expectError(settings.change({ field: 1 }, options as never), 'invalid_argument')
  }
  expect(await settings.load()).toMatchObject({ stored: {}, version: 0 })
  expect(await settings.change({ since: new Date(0) as never })).toMatchObject({
    values: { since: '1970-01-01T00:00:00.000Z' },
  })
  const dates = settings.as(defineSettings(z.object({ since: z.date().optional() })))
  await expectError(dates.change({ since: new Date(0) }), 'invalid_settings', /since/)
})

test('changes at the same time that name no version are all kept', needs('parallelBackends'), async () => {
  const counters = defineSettings(z.record(z.string(), z.number()))
  const rowhouse = openRowhouse(database)
  await rowhouse.tenants.provision('busy')
  const settings = rowhouse.tenant('busy').settings.as(counters)
  const fields = Array.from({ length: 40 }, (_, index) => [`field_${index}`, index] as const)
  await Promise.all(fields.map(([field, index]) => settings.change({ [field]: index })))
  expect(await settings.load()).toMatchObject({ values: Object.fromEntries(fields), version: 40 })
  await rowhouse.close()
})

test(
  'who changes settings in a transaction waits for another one that does, and sees what it made of them',
  needs('parallelBackends'),
  async () => {
    const rowhouse = openRowhouse(database)
    await rowhouse.tenants.provision('waiting')
    let second: Promise<unknown> | undefined
    await rowhouse.withTenant('waiting', async (_db, tenant) => {
      await tenant.settings.change({ first: 1 })
      second = runWithoutAmbientTenant(() => rowhouse.tenant('waiting').settings.change({ second: 2 }))
      second.catch(() => {})
      await expect.poll(() => waitingTransactions()).toBe(1)
    })
    await second
    expect(await rowhouse.tenant('waiting').settings.get()).toEqual({ first: 1, second: 2 })
    await rowhouse.close()
  },
)

test('of changes at the same time that name one version, one is kept', needs('parallelBackends'), async () => {
  const settings = await provision('racing')
  const outcomes = await Promise.allSettled(
    [40, 50, 60, 70].map((retentionDays) => settings.change({ retentionDays }, { version: 0 })),
  )
  expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
  expect(await settings.load()).toMatchObject({ version: 1 })
})

test('a change is in the audit trail: who, which setting, from what to what', async () => {
  const settings = await provision('recorded')
  await settings.change({ retentionDays: 60 })
  await settings.change({ retentionDays: null, promptPrefix: 'Hello' })
  const entries = await fixture.rowhouse
    .tenant('recorded')
    .audit.query({ action: 'rowhouse.settings.*', order: 'oldest' })
  expect(entries).toMatchObject([
    { userId: 'u_7', detail: { version: 1, changes: { retentionDays: { to: 60 } } } },
    { detail: { version: 2, changes: { retentionDays: { from: 60 }, promptPrefix: { to: 'Hello' } } } },
  ])
  expect(entries[0]!.detail.changes).toEqual({ retentionDays: { to: 60 } })
  expect(await fixture.rowhouse.auditLog.verify('recorded')).toMatchObject({ intact: true })
})

test('a large change is named in the audit trail, without its values', async () => {
  const rowhouse = openRowhouse(database)
  await rowhouse.tenants.provision('wordy')
  const settings = rowhouse.tenant('wordy').settings
  await settings.change({ text: 'x'.repeat(150_000), other: 'y'.repeat(60_000) })
  const [entry] = await rowhouse.tenant('wordy').audit.query({ action: 'rowhouse.settings.change' })
  expect(entry!.detail).toEqual({ version: 1, changes: { text: {}, other: {} } })
  await expectError(settings.change({ more: 'z'.repeat(100_000) }), 'invalid_settings', /262144 bytes/)
  await rowhouse.close()
})

test('inside withTenant a change shares the fate of the transaction, and a conflict does not end it', async () => {
  const settings = await provision('inside')
  await expect(
    fixture.rowhouse.withTenant('inside', async (_db, tenant) => {
      await tenant.settings.change({ retentionDays: 60 })
      throw new Error('undone')
    }),
  ).rejects.toThrow('undone')
  expect(await settings.load()).toMatchObject({ version: 0 })
  await fixture.rowhouse.withTenant('inside', async (_db, tenant) => {
    await expectError(tenant.settings.change({ retentionDays: 60 }, { version: 9 }), 'settings_conflict')
    await tenant.settings.change({ retentionDays: 61 })
  })
  expect(await settings.get()).toMatchObject({ retentionDays: 61 })
})

test('a tenant changes its own settings only, and nothing else of its row', async () => {
  const { app } = fixture
  const before = await fixture.rowhouse.tenants.get(GLOBEX)
  for (const statement of [
    `update rowhouse.tenants set settings = '{"models": []}' where tenant_id = 'globex'`,
    `update rowhouse.tenants set tier = 'enterprise'`,
    'update rowhouse.tenants set settings_version = 5',
  ]) {
    await expect(
      inTransaction(app, { role: 'rowhouse_app', tenantId: ACME }, () => app.query(statement)),
      statement,
    ).rejects.toMatchObject({ code: '42501' })
  }
  await inTransaction(app, { role: 'rowhouse_app', tenantId: ACME }, () =>
    app.query(`select rowhouse.change_settings('{"models": ["a"]}', 0)`),
  )
  expect(await fixture.rowhouse.tenants.get(GLOBEX)).toEqual(before)
  expect(await fixture.rowhouse.tenant(ACME).settings.get()).toMatchObject({ models: ['a'] })
})

test('a suspended tenant changes nothing, and an erased one has none', async () => {
  const settings = await provision('leaving')
  await settings.change({ retentionDays: 60 })
  await fixture.rowhouse.tenants.suspend('leaving')
  await expectError(settings.change({ retentionDays: 61 }), 'tenant_suspended')
  await fixture.rowhouse.tenants.erase('leaving')
  expect(await fixture.rowhouse.tenants.get('leaving')).toMatchObject({ settings: {}, status: 'erased' })
})

test('a field called __proto__ is a field', async () => {
  const rowhouse = openRowhouse(database)
  await rowhouse.tenants.provision('odd')
  const settings = rowhouse.tenant('odd').settings
  await settings.change(JSON.parse('{"__proto__": {"polluted": true}, "plain": {"constructor": 1}}'))
  expect(({} as Record<string, unknown>).polluted).toBeUndefined()
  expect(JSON.stringify(await settings.get())).toContain('"__proto__":{"polluted":true}')
  await rowhouse.close()
})
