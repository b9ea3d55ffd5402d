// Guessing is stopped for all server processes together: here two instances, each with its own connections and memory.
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { InvalidApiKeyError, type Rowhouse, TooManyAttemptsError } from '../../src/index.ts'
import { ACME, GLOBEX, openRowhouse, useRowhouse } from '../audit/support.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'

const database = useDatabase()
const fixture = useRowhouse(database)
let instances: Rowhouse[]

beforeAll(() => {
  instances = [openRowhouse(database), openRowhouse(database)]
})
afterAll(() => Promise.all(instances.map((instance) => instance.close())))

let address = 0
const newAddress = () => `198.51.100.${++address}`

const answerOf = (instance: Rowhouse, key: string, ip?: string) =>
  instance.apiKeys.authenticate(key, { ip }).then(
    () => 'accepted',
    (error) => error,
  )

/** Classes of the answers to attempts that the instances take in turns. */
async function guess(key: string, attempts: number, ip?: string, between = async () => {}): Promise<string[]> {
  const answers: string[] = []
  for (let attempt = 0; attempt < attempts; attempt++) {
    const answer = await answerOf(instances[attempt % 2]!, key, ip)
    answers.push(answer instanceof Error ? answer.name : answer)
    if (answer instanceof TooManyAttemptsError) expect(answer.retryAfterMs).toBeGreaterThan(0)
    await between()
  }
  return answers
}

const STOPPED = [...Array(20).fill(InvalidApiKeyError.name), ...Array(4).fill(TooManyAttemptsError.name)]
const FREE = Array(24).fill(InvalidApiKeyError.name)

const wrong = (key: string) => `${key.slice(0, -1)}${key.endsWith('0') ? '1' : '0'}`

describe('20 refusals of one source, over two instances', () => {
  test('of a wrong secret, an unknown key, an unknown tenant, a suspended one, and of no key at all', async () => {
    const { key } = await fixture.rowhouse.apiKeys.issue(ACME, { name: 'guessed' })
    await fixture.rowhouse.tenants.provision('asleep')
    const { key: asleep } = await fixture.rowhouse.apiKeys.issue('asleep', { name: 'asleep' })
    await fixture.rowhouse.tenants.suspend('asleep')
    for (const guessed of [
      wrong(key),
      key.replace(/_acme_[0-9a-f]{16}/, '_acme_0123456789abcdef'),
      key.replace('_acme_', '_nobody_'),
      asleep,
      'rh_nonsense',
    ]) {
      expect(await guess(guessed, 24, newAddress()), guessed).toEqual(STOPPED)
    }
  })

  test('the negative control: without what the instances share, they go on', async () => {
    const { key } = await fixture.rowhouse.apiKeys.issue(ACME, { name: 'control' })
    const owner = await database.connect('owner')
    const forget = async () => {
      await owner.query('begin; set local role rowhouse_owner; delete from rowhouse.key_guesses; commit')
    }
    for (const guessed of [wrong(key), key.replace('_acme_', '_nobody_')]) {
      expect(await guess(guessed, 24, newAddress(), forget)).toEqual(FREE)
    }
  })

  test('refusals at once, from both', async () => {
    const { key } = await fixture.rowhouse.apiKeys.issue(ACME, { name: 'at once' })
    const ip = newAddress()
    await Promise.all(Array.from({ length: 40 }, (_, index) => answerOf(instances[index % 2]!, wrong(key), ip)))
    for (const instance of instances) expect(await answerOf(instance, key, ip)).toBeInstanceOf(TooManyAttemptsError)
  })
})

describe('valid keys go on working', () => {
  test('from other addresses, and those of another tenant from the same one', async () => {
    const { key } = await fixture.rowhouse.apiKeys.issue(ACME, { name: 'valid' })
    const { key: other } = await fixture.rowhouse.apiKeys.issue(GLOBEX, { name: 'valid' })
    const ip = newAddress()
    await guess(wrong(key), 20, ip)
    for (const instance of instances) {
      expect(await answerOf(instance, key, ip)).toBeInstanceOf(TooManyAttemptsError)
      expect(await answerOf(instance, key, newAddress())).toBe('accepted')
      expect(await answerOf(instance, other, ip)).toBe('accepted')
    }
  })

  test('where no address is known: the other keys of the tenant', async () => {
    const { key } = await fixture.rowhouse.apiKeys.issue(ACME, { name: 'one' })
    const { key: second } = await fixture.rowhouse.apiKeys.issue(ACME, { name: 'two' })
    expect(await guess(wrong(key), 24)).toEqual(STOPPED)
    for (const instance of instances) expect(await answerOf(instance, second)).toBe('accepted')
  })

  test('while others are right, but revoked, expired, or from a wrong network', async () => {
    const { apiKeys } = fixture.rowhouse
    const { key } = await apiKeys.issue(ACME, { name: 'valid' })
    const revoked = await apiKeys.issue(ACME, { name: 'revoked' })
    await apiKeys.revoke(ACME, revoked.id)
    const expired = await apiKeys.issue(ACME, { name: 'expired' })
    await apiKeys.rotate(ACME, expired.id, { overlapMs: 0 })
    const elsewhere = await apiKeys.issue(ACME, { name: 'elsewhere', allowedIps: ['192.0.2.0/24'] })
    for (const right of [revoked.key, expired.key, elsewhere.key]) {
      const ip = newAddress()
      expect(await guess(right, 24, ip)).toEqual(FREE)
      for (const instance of instances) expect(await answerOf(instance, key, ip)).toBe('accepted')
      // The negative control: with a wrong secret the same key is a guess.
      expect(await guess(wrong(right), 24, ip)).toEqual(STOPPED)
      for (const instance of instances) expect(await answerOf(instance, key, ip)).toBeInstanceOf(TooManyAttemptsError)
    }
  })

  test('while a key that is right asks for more than it may', async () => {
    const { key } = await fixture.rowhouse.apiKeys.issue(ACME, { name: 'narrow', scopes: ['documents:read'] })
    const ip = newAddress()
    for (let attempt = 0; attempt < 22; attempt++) {
      await expect(instances[0]!.apiKeys.authenticate(key, { ip, scopes: ['documents:write'] })).rejects.toBeInstanceOf(
        InvalidApiKeyError,
      )
    }
    expect(await answerOf(instances[1]!, key, ip)).toBe('accepted')
  })

  test('whatever SQL another tenant runs', needs('realRoles'), async () => {
    const { key } = await fixture.rowhouse.apiKeys.issue(ACME, { name: 'aimed at' })
    const ip = newAddress()
    const app = await database.connect('app')
    await app.query(`begin; set local role rowhouse_app; set local app.tenant_id = '${GLOBEX}'`)
    for (let attempt = 0; attempt < 30; attempt++) {
      await app.query('select rowhouse.refuse_unknown_key($1, $2, null)', [ACME, ip])
    }
    await app.query('commit')
    for (const sql of ['select * from rowhouse.key_guesses', "select rowhouse.count_key_guess(sha256('a'))"]) {
      await expect(app.query(`begin; set local role rowhouse_app; ${sql}`)).rejects.toMatchObject({ code: '42501' })
      await app.query('rollback')
    }
    for (const instance of instances) expect(await answerOf(instance, key, ip)).toBe('accepted')
  })
})

test(
  'SQL of a tenant does not learn from refusals which tenants work, and holds nobody up',
  needs('parallelBackends'),
  async () => {
    const ip = newAddress()
    const app = await database.connect('app')
    await app.query(`begin; set local role rowhouse_app; set local app.tenant_id = '${GLOBEX}'`)
    const waits: Record<string, boolean> = {}
    for (const tenant of [ACME, 'nobody']) {
      for (let attempt = 0; attempt < 25; attempt++) {
        const { rows } = await app.query('select rowhouse.refuse_unknown_key($1, $2, null) > 0 as waits', [tenant, ip])
        waits[tenant] = rows[0].waits
      }
    }
    expect(waits).toEqual({ [ACME]: true, nobody: true })
    // The transaction above is open, and has counted for this source.
    const other = await database.connect('app')
    await other.query(
      `begin; set local role rowhouse_app; set local app.tenant_id = '${ACME}'; set local statement_timeout = '10s'`,
    )
    const { rows } = await other.query("select rowhouse.refuse_unknown_key('nobody', $1, null) as wait", [ip])
    expect(rows[0].wait).toBe(1000)
    await other.query('rollback')
    await app.query('rollback')
  },
)

test('what is over is forgotten, a minute after the first refusal', async () => {
  const { key } = await fixture.rowhouse.apiKeys.issue(ACME, { name: 'later' })
  const ip = newAddress()
  await guess(wrong(key), 20, ip)
  const owner = await database.connect('owner')
  await owner.query(`begin; set local role rowhouse_owner;
    update rowhouse.key_guesses set ends_at = ends_at - interval '1 minute'; commit`)
  // Neither instance was told to wait yet.
  expect(await answerOf(instances[0]!, key, ip)).toBe('accepted')
  await guess(wrong(key), 2, newAddress())
  const { rows } = await owner
    .query(`begin; set local role rowhouse_owner`)
    .then(() => owner.query('select count(*)::int as left from rowhouse.key_guesses where ends_at < clock_timestamp()'))
  await owner.query('rollback')
  expect(rows[0].left).toBeLessThan(20)
})
