import { setTimeout as delay } from 'node:timers/promises'
import { beforeEach, expect, test } from 'vitest'
import {
  InvalidApiKeyError,
  type InvalidApiKeyReason,
  type IssuedApiKey,
  TooManyAttemptsError,
} from '../../src/index.ts'
import { ACME, GLOBEX, inTransaction, openRowhouse, useRowhouse } from '../audit/support.ts'
import { expectError } from '../documents/fixture.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'

const database = useDatabase()
const fixture = useRowhouse(database)
const keys = () => fixture.rowhouse.apiKeys

/** Guesses are counted by source, so each test comes from an address of its own. */
let ip = '198.51.100.0'
let tests = 0
beforeEach(() => {
  ip = `198.51.100.${++tests}`
})

async function refusal(key: string, options: { ip?: string; scopes?: string[] } = {}): Promise<InvalidApiKeyReason> {
  const error = await keys()
    .authenticate(key, { ip, ...options })
    .then(
      () => undefined,
      (reason: unknown) => reason,
    )
  expect(error).toBeInstanceOf(InvalidApiKeyError)
  return (error as InvalidApiKeyError).reason
}

/** The same key with another secret. */
const withOtherSecret = ({ key }: IssuedApiKey) => key.slice(0, -1) + (key.endsWith('0') ? '1' : '0')

test('a key that was issued is accepted, and says what its owner may', async () => {
  const issued = await keys().issue(ACME, {
    name: 'importer',
    scopes: ['documents:read', 'chat:*'],
    environment: 'test',
    expiresAt: new Date('2999-01-01T00:00:00Z'),
  })
  expect(issued.key).toMatch(/^rh_free_acme_[0-9a-f]{16}_[0-9A-Za-z]{43}$/)
  const { key, ...described } = issued
  expect(described).toEqual({
    tenantId: ACME,
    id: key.split('_')[3],
    name: 'importer',
    environment: 'test',
    scopes: ['documents:read', 'chat:*'],
    allowedIps: null,
    createdAt: expect.any(Date),
    expiresAt: new Date('2999-01-01T00:00:00Z'),
    lastUsedAt: null,
    revokedAt: null,
    replacedBy: null,
  })
  expect(await keys().authenticate(key, { ip, scopes: ['documents:read', 'chat:respond'] })).toEqual(described)
})

test('several keys of a tenant work side by side, and a tenant id with underscores has them too', async () => {
  const tenantId = 'under_score_-_tenant_'
  await fixture.rowhouse.tenants.provision(tenantId, { tier: 'pro_plus' })
  const issued = await Promise.all([1, 2, 3].map((n) => keys().issue(tenantId, { name: `key ${n}` })))
  for (const { key, id } of issued) expect(await keys().authenticate(key)).toMatchObject({ tenantId, id })
  expect((await keys().list(tenantId)).map(({ name }) => name).sort()).toEqual(['key 1', 'key 2', 'key 3'])
  expect(issued[0]!.key).toMatch(/^rh_pro-plus_under_score_-_tenant__/)
})

test('only a digest of the secret is kept, and no statement carries the secret', async () => {
  const statements: string[] = []
  const rowhouse = openRowhouse(database, {
    log: (event) => {
      statements.push(event.query.sql, JSON.stringify(event.query.parameters))
    },
  })
  const { key } = await rowhouse.apiKeys.issue(ACME, { name: 'secret' })
  await rowhouse.apiKeys.authenticate(key)
  await rowhouse.close()
  const secret = key.split('_').at(-1)!
  expect(statements.join('\n')).toContain('authenticate_api_key')
  expect(statements.join('\n')).not.toContain(secret)
  const owner = await database.connect('owner')
  const { rows } = await inTransaction(owner, { role: 'rowhouse_owner', tenantId: ACME }, () =>
    owner.query(
      `select t::text as row from rowhouse.api_keys t union all select e::text from rowhouse.audit_entries e`,
    ),
  )
  expect(rows.length).toBeGreaterThan(2)
  expect(rows.map(({ row }) => row).join('\n')).not.toContain(secret)
})

test('each reason of a refusal is told to the operator, and the caller sees one answer', async () => {
  const good = await keys().issue(ACME, { name: 'good' })
  const expired = await keys().issue(ACME, { name: 'expired', expiresAt: new Date(Date.now() + 1000) })
  await delay(1050)
  const revoked = await keys().issue(ACME, { name: 'revoked' })
  await keys().revoke(ACME, revoked.id, { reason: 'leaked' })
  const local = await keys().issue(ACME, { name: 'local', allowedIps: ['10.0.0.0/8', '2001:db8::/32', '192.0.2.7'] })
  const reader = await keys().issue(ACME, { name: 'reader', scopes: ['documents:read'] })
  await fixture.rowhouse.tenants.provision('idle')
  const idle = await keys().issue('idle', { name: 'idle' })
  await fixture.rowhouse.tenants.suspend('idle')

  expect(await refusal('nonsense')).toBe('malformed')
  expect(await refusal(good.key.replace('_acme_', '_nobody_'))).toBe('unknown_tenant')
  expect(await refusal(good.key.replace('_acme_', '_globex_'))).toBe('unknown_key')
  expect(await refusal(good.key.replace(good.id, '0123456789abcdef'))).toBe('unknown_key')
  expect(await refusal(withOtherSecret(good))).toBe('wrong_secret')
  expect(await refusal(good.key.replace(good.id, reader.id))).toBe('wrong_secret')
  expect(await refusal(expired.key)).toBe('expired')
  expect(await refusal(revoked.key)).toBe('revoked')
  expect(await refusal(local.key)).toBe('ip_not_allowed')
  expect(await refusal(reader.key, { scopes: ['documents:write'] })).toBe('missing_scope')
  expect(await refusal(reader.key, { scopes: ['documents:read', 'documents'] })).toBe('missing_scope')
  expect(await refusal(idle.key)).toBe('tenant_suspended')

  const one = new InvalidApiKeyError('revoked')
  const other = new InvalidApiKeyError('unknown_tenant')
  expect(JSON.stringify(one)).toBe(JSON.stringify(other))
  expect(one.message).toBe(other.message)
  expect(one).toMatchObject({ httpStatus: 401, code: 'invalid_api_key' })
  // The control: with the right key and scope nothing is wrong.
  expect(await keys().authenticate(reader.key, { ip, scopes: ['documents:read'] })).toMatchObject({ id: reader.id })
})

test('networks hold for IPv4, IPv6 and IPv4 over IPv6, and a key with networks needs an address', async () => {
  const { key } = await keys().issue(ACME, { name: 'nets', allowedIps: ['10.0.0.0/8', '2001:db8::/32', '192.0.2.7'] })
  for (const allowed of ['10.1.2.3', '::ffff:10.1.2.3', '2001:db8::1', '192.0.2.7']) {
    expect(await keys().authenticate(key, { ip: allowed }), allowed).toMatchObject({ tenantId: ACME })
  }
  for (const refused of ['11.0.0.1', '2001:db9::1', '192.0.2.8', 'not an address', '10.0.0.1, 11.0.0.1']) {
    expect(await refusal(key, { ip: refused }), refused).toBe('ip_not_allowed')
  }
  await expect(keys().authenticate(key)).rejects.toMatchObject({ reason: 'ip_not_allowed' })
})

test('after a rotation both keys work for a time, then the new one alone', async () => {
  const old = await keys().issue(ACME, { name: 'rotating', scopes: ['a:b'], allowedIps: ['198.51.100.0/24'] })
  const next = await keys().rotate(ACME, old.id, { overlapMs: 400 })
  expect(next).toMatchObject({ name: 'rotating', scopes: ['a:b'], allowedIps: ['198.51.100.0/24'], expiresAt: null })
  expect(next.id).not.toBe(old.id)
  expect(await keys().authenticate(old.key, { ip })).toMatchObject({ replacedBy: next.id })
  expect(await keys().authenticate(next.key, { ip })).toMatchObject({ id: next.id })
  await delay(450)
  expect(await refusal(old.key)).toBe('expired')
  expect(await keys().authenticate(next.key, { ip })).toMatchObject({ id: next.id })
})

test('a rotation never makes the old key last longer, and a revoked key is not rotated', async () => {
  const expiresAt = new Date(Date.now() + 5000)
  const old = await keys().issue(ACME, { name: 'short', expiresAt })
  await keys().rotate(ACME, old.id, { overlapMs: 60_000 })
  expect((await keys().list(ACME)).find(({ id }) => id === old.id)!.expiresAt).toEqual(expiresAt)
  const revoked = await keys().issue(ACME, { name: 'gone' })
  await keys().revoke(ACME, revoked.id)
  await expectError(keys().rotate(ACME, revoked.id), 'invalid_api_key_options', /was revoked/)
})

test('a rotated key expires when the old one would have, unless something else is said', async () => {
  const expiresAt = new Date(Date.now() + 400)
  const old = await keys().issue(ACME, { name: 'until', expiresAt })
  const next = await keys().rotate(ACME, old.id, { overlapMs: 60_000, expiresAt: undefined })
  expect(next.expiresAt).toEqual(expiresAt)
  // The overlap ends the old one, and is no expiry of the next.
  const endless = await keys().issue(ACME, { name: 'endless' })
  for (let rotation = 1; rotation <= 3; rotation++) {
    expect(await keys().rotate(ACME, endless.id)).toMatchObject({ expiresAt: null })
  }
  const later = new Date(Date.now() + 60_000)
  expect(await keys().rotate(ACME, old.id, { expiresAt: later })).toMatchObject({ expiresAt: later })
  expect(await keys().rotate(ACME, old.id, { expiresAt: null })).toMatchObject({ expiresAt: null })
  await delay(450)
  expect(await refusal(next.key)).toBe('expired')
  await expectError(keys().rotate(ACME, next.id), 'invalid_api_key_options', /has expired/)
  expect((await keys().list(ACME)).find(({ id }) => id === next.id)).toMatchObject({ replacedBy: null, expiresAt })
  const renewed = await keys().rotate(ACME, next.id, { expiresAt: later })
  expect(await keys().authenticate(renewed.key, { ip })).toMatchObject({ expiresAt: later })
})

test('a revocation holds from its commit on, in every process and also for a suspended tenant', async () => {
  const tenantId = 'revoking'
  await fixture.rowhouse.tenants.provision(tenantId)
  const { key, id } = await keys().issue(tenantId, { name: 'revoked' })
  const elsewhere = openRowhouse(database)
  expect(await elsewhere.apiKeys.authenticate(key)).toMatchObject({ id })
  await fixture.rowhouse.tenants.suspend(tenantId)
  await keys().revoke(tenantId, id)
  await fixture.rowhouse.tenants.resume(tenantId)
  await expect(elsewhere.apiKeys.authenticate(key)).rejects.toMatchObject({ reason: 'revoked' })
  await elsewhere.close()
  const [listed] = await keys().list(tenantId)
  expect(listed!.revokedAt).toBeInstanceOf(Date)
})

test('a use is written down at most once a minute', async () => {
  const { key, id } = await keys().issue(ACME, { name: 'used' })
  const owner = await database.connect('owner')
  const versionOf = async () => {
    const { rows } = await inTransaction(owner, { role: 'rowhouse_owner', tenantId: ACME }, () =>
      owner.query('select xmin::text as version, last_used_at from rowhouse.api_keys where key_id = $1', [id]),
    )
    return rows[0]
  }
  const unused = await versionOf()
  await keys().authenticate(key, { ip })
  const used = await versionOf()
  expect(used.version).not.toBe(unused.version)
  expect(used.last_used_at.getTime() % 60_000).toBe(0)
  // The minute may turn between two calls; not three times.
  const versions = new Set<string>()
  for (let call = 0; call < 20; call++) {
    await keys().authenticate(key, { ip })
    versions.add((await versionOf()).version)
  }
  expect(versions.size).toBeLessThanOrEqual(2)
})

test('keys and refusals are in the audit trail of the tenant', async () => {
  const tenantId = 'recorded'
  await fixture.rowhouse.tenants.provision(tenantId)
  const issued = await keys().issue(tenantId, { name: 'first' })
  const next = await keys().rotate(tenantId, issued.id)
  await refusal(withOtherSecret(issued))
  await keys().revoke(tenantId, issued.id, { reason: 'left' })
  const entries = await fixture.rowhouse.tenant(tenantId).audit.query({ action: 'rowhouse.key.*', order: 'oldest' })
  // Not in their order: PGlite has a clock of milliseconds, and several of these happen in one.
  for (const expected of [
    { action: 'rowhouse.key.issue', detail: expect.objectContaining({ id: issued.id, name: 'first' }) },
    { action: 'rowhouse.key.issue', detail: expect.objectContaining({ id: next.id }) },
    { action: 'rowhouse.key.rotate', detail: expect.objectContaining({ id: issued.id, replacedBy: next.id }) },
    { action: 'rowhouse.key.refuse', error: 'wrong_secret', detail: { keyId: issued.id, ip } },
    { action: 'rowhouse.key.revoke', detail: { id: issued.id, reason: 'left' } },
  ]) {
    expect(entries).toContainEqual(expect.objectContaining(expected))
  }
  expect(entries).toHaveLength(5)
  expect(await fixture.rowhouse.auditLog.verify(tenantId)).toMatchObject({ intact: true })
})

test('guessing is stopped after 20 attempts of one source, whether the tenant exists or not', async () => {
  const { key } = await keys().issue(ACME, { name: 'guessed' })
  for (const tenantId of [ACME, 'nobody-at-all']) {
    const guess = key.replace(/_acme_.*_/, `_${tenantId}_0123456789abcdef_`)
    for (let attempt = 1; attempt <= 20; attempt++) await refusal(guess)
    const error = await keys()
      .authenticate(guess, { ip })
      .catch((reason: unknown) => reason)
    expect(error).toBeInstanceOf(TooManyAttemptsError)
    expect(error).toMatchObject({ httpStatus: 429, retryable: true })
    expect((error as TooManyAttemptsError).retryAfterMs).toBeGreaterThan(0)
  }
  // Another address is not held up.
  expect(await keys().authenticate(key, { ip: '203.0.113.1' })).toMatchObject({ tenantId: ACME })
})

test('refusals take a similar time, whatever the reason', async () => {
  const { key } = await keys().issue(ACME, { name: 'timed' })
  const guesses = {
    malformed: 'rh_nonsense',
    unknownTenant: key.replace('_acme_', '_nobody_'),
    unknownKey: key.replace(/_acme_[0-9a-f]{16}/, '_acme_0123456789abcdef'),
    wrongSecret: `${key.slice(0, -1)}${key.endsWith('0') ? '1' : '0'}`,
  }
  const times: Record<string, number[]> = {}
  for (let round = 0; round < 5; round++) {
    for (const [name, guess] of Object.entries(guesses)) {
      const begun = performance.now()
      await refusal(guess)
      times[name] = [...(times[name] ?? []), performance.now() - begun]
    }
  }
  for (const [name, samples] of Object.entries(times)) {
    // Never sooner than the others may take, but for what timers round. Later only because the machine is busy.
    expect(Math.min(...samples), name).toBeGreaterThanOrEqual(37)
  }
})

test('inside withTenant, a key of another tenant is looked at all the same', async () => {
  const { key } = await keys().issue(GLOBEX, { name: 'other' })
  await fixture.rowhouse.withTenant(ACME, async () => {
    expect(await keys().authenticate(key)).toMatchObject({ tenantId: GLOBEX })
  })
})

test('a tenant never sees the keys of another one, and the application no digest at all', async () => {
  const { app } = fixture
  await keys().issue(GLOBEX, { name: 'hidden' })
  for (const statement of [
    'select * from rowhouse.api_keys',
    'select key_id from rowhouse.api_keys',
    "update rowhouse.api_keys set scopes = '{*}'",
    'delete from rowhouse.api_keys',
    "select rowhouse.list_api_keys('globex')",
    "select rowhouse.issue_api_key('acme', '0123456789abcdef', sha256('x'), 'x', 'live', '{*}', null, null)",
    "select rowhouse.revoke_api_key('globex', '0123456789abcdef')",
  ]) {
    await expect(
      inTransaction(app, { role: 'rowhouse_app', tenantId: ACME }, () => app.query(statement)),
      statement,
    ).rejects.toMatchObject({ code: '42501' })
  }
  // Under the row-level security of the claimed tenant: the owner of the table sees one tenant as well.
  const owner = await database.connect('owner')
  const { rows } = await inTransaction(owner, { role: 'rowhouse_owner', tenantId: ACME }, () =>
    owner.query('select distinct tenant_id from rowhouse.api_keys'),
  )
  expect(rows).toEqual([{ tenant_id: ACME }])
})

test('a digest that is null is no key', async () => {
  const { app } = fixture
  const { id } = await keys().issue(ACME, { name: 'null' })
  const { rows } = await inTransaction(app, { role: 'rowhouse_app', tenantId: ACME }, () =>
    app.query('select rowhouse.authenticate_api_key($1, null) as result', [id]),
  )
  expect(rows[0].result).toEqual({ refused: 'wrong_secret' })
})

test(
  'the control: without row-level security a key is still found in its own tenant only',
  needs('superuser'),
  async () => {
    const { key } = await keys().issue(ACME, { name: 'control' })
    const superuser = await database.connect('superuser')
    await superuser.query('alter table rowhouse.api_keys no force row level security')
    try {
      expect(await refusal(key.replace('_acme_', '_globex_'))).toBe('unknown_key')
    } finally {
      await superuser.query('alter table rowhouse.api_keys force row level security')
    }
  },
)

test('keys go with their tenant', async () => {
  const tenantId = 'erased-with-keys'
  await fixture.rowhouse.tenants.provision(tenantId)
  const first = await keys().issue(tenantId, { name: 'a' })
  const second = await keys().rotate(tenantId, first.id)
  await keys().rotate(tenantId, second.id)
  const receipt = await fixture.rowhouse.tenants.erase(tenantId)
  expect(receipt.tables['rowhouse.api_keys']).toBe(3)
  await expect(keys().authenticate(second.key)).rejects.toMatchObject({ reason: 'tenant_inactive' })
  await expectError(keys().issue(tenantId, { name: 'b' }), 'tenant_inactive')
})

test('bad options are refused with one sentence', async () => {
  await expectError(keys().issue('nobody', { name: 'x' }), 'tenant_not_found')
  await expectError(keys().issue(ACME, { name: '' }), 'invalid_api_key_options', /name is empty/)
  await expectError(
    keys().issue(ACME, { name: 'x', allowedIps: ['10.0.0.0/40'] }),
    'invalid_api_key_options',
    /not accepted: invalid .*cidr/,
  )
  await expectError(keys().issue(ACME, { name: 'x', environment: 'staging' as 'live' }), 'invalid_api_key_options')
  const past = new Date(Date.now() - 1000)
  await expectError(keys().issue(ACME, { name: 'x', expiresAt: past }), 'invalid_api_key_options', /expired already/)
  await expectError(
    keys().issue(ACME, { name: 'x', expiresAt: new Date(Number.NaN) }),
    'invalid_api_key_options',
    /date/,
  )
  // What restricts a key, and is undefined by mistake, would be a key that may more.
  for (const name of ['scopes', 'allowedIps', 'expiresAt']) {
    const message = new RegExp(`${name} is undefined`)
    await expectError(keys().issue(ACME, { name: 'x', [name]: undefined }), 'invalid_api_key_options', message)
  }
  const unset = { scopes: undefined } as object
  await expectError(keys().authenticate('rh_x', unset), 'invalid_argument', /scopes is undefined/)
  const { id } = await keys().issue(ACME, { name: 'x' })
  await expectError(keys().rotate(ACME, id, { expiresAt: past }), 'invalid_api_key_options', /expired already/)
  await expectError(keys().revoke(ACME, '0123456789abcdef'), 'api_key_not_found')
  await expectError(keys().rotate(ACME, '0123456789abcdef'), 'api_key_not_found')
  await expectError(keys().revoke(ACME, 'x'), 'invalid_argument')
})
