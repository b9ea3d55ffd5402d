import { generateKeyPairSync } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createRowhouse } from '../../src/index.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { runCommand } from './run-command.ts'

const database = useDatabase()
let folder: string

/** Runs a command in this process. */
async function run(...arguments_: string[]) {
  const { exitCode, stdout, stderr } = await runCommand(arguments_, { DATABASE_URL: database.url('owner') })
  return { exitCode, stdout, stderr }
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rowhouse-audit-'))
  for (const tenantId of ['acme', 'globex']) await run('tenant', 'create', tenantId)
})
afterAll(() => rm(folder, { recursive: true }))

test('key issue prints the key alone, and it is valid', async () => {
  const { exitCode, stdout, stderr } = await run(
    'key',
    'issue',
    'acme',
    'importer',
    '--scopes',
    'documents:read, chat:*',
  )
  expect(exitCode).toBe(0)
  expect(stdout).toMatch(/^rh_free_acme_[0-9a-f]{16}_[0-9A-Za-z]{43}\n$/)
  expect(stderr).toContain('it is not shown again')
  const rowhouse = createRowhouse({ pool: database.pool('owner', { max: 1 }) })
  expect(await rowhouse.apiKeys.authenticate(stdout.trim(), { scopes: ['chat:respond'] })).toMatchObject({
    tenantId: 'acme',
  })
  await rowhouse.close()
})

test('key list, rotate and revoke', async () => {
  const [{ id }] = JSON.parse((await run('key', 'list', 'acme', '--json')).stdout) as [{ id: string }]
  const rotated = await run('key', 'rotate', 'acme', id, '--overlap', '1', '--json')
  expect(JSON.parse(rotated.stdout)).toMatchObject({ name: 'importer', key: expect.stringMatching(/^rh_/) })
  expect(await run('key', 'revoke', 'acme', id, '--reason', 'leaked', '--yes')).toEqual({
    exitCode: 0,
    stdout: `Key ${id} of acme is revoked.\n`,
    stderr: '',
  })
  const { stdout } = await run('key', 'list', 'acme')
  expect(stdout).toMatch(/^key +name +for +scopes +state +last used$/m)
  expect(stdout).toMatch(
    new RegExp(`^${id} +importer +live +documents:read chat:\\* +revoked \\d{4}-\\d\\d-\\d\\d`, 'm'),
  )
  expect((await run('key', 'list', 'globex')).stdout).toBe('No keys.\n')
  expect((await run('key', 'revoke', 'acme', '0123456789abcdef', '--yes')).exitCode).toBe(1)
})

test('audit seal and verify, of one tenant and of all', async () => {
  const all = await run('audit', 'seal')
  expect(all.stdout).toMatch(/^acme +5 +5 +[0-9a-f]{64}$/m)
  expect(all.stdout).toMatch(/^globex +1 +1 +[0-9a-f]{64}$/m)
  expect((await run('audit', 'seal')).stdout).toBe('There was nothing to seal.\n')
  const [{ digest }] = JSON.parse((await run('audit', 'seal', 'acme', '--json')).stdout) as [{ digest: string }]
  const verified = await run('audit', 'verify', 'acme', '--anchor', digest)
  expect(verified).toMatchObject({ exitCode: 0, stdout: expect.stringMatching(/^acme +5 +0 +0 +intact$/m) })
  expect((await run('audit', 'verify')).stdout).toMatch(/^globex +1 +0 +0 +intact$/m)
})

test('audit seal signs, and verify checks the signature', async () => {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519')
  const [privateFile, publicFile] = [join(folder, 'audit.pem'), join(folder, 'audit.pub')]
  await writeFile(privateFile, privateKey.export({ type: 'pkcs8', format: 'pem' }))
  await writeFile(publicFile, publicKey.export({ type: 'spki', format: 'pem' }))
  expect((await run('audit', 'verify', 'acme', '--public-key', publicFile)).exitCode).toBe(1)
  expect((await run('audit', 'seal', 'acme', '--signing-key', privateFile)).exitCode).toBe(0)
  expect((await run('audit', 'verify', 'acme', '--public-key', publicFile)).exitCode).toBe(0)
})

test('audit verify names what was done, and fails', needs('superuser'), async () => {
  const superuser = await database.connect('superuser')
  await superuser.query(`set session_replication_role = replica;
    update rowhouse.audit_entries set action = 'something.else' where tenant_id = 'globex';
    set session_replication_role = origin`)
  const { exitCode, stdout, stderr } = await run('audit', 'verify', 'globex')
  expect(exitCode).toBe(1)
  expect(stdout).toMatch(/^globex +1 +0 +0 +CHANGED$/m)
  expect(stderr).toMatch(/^globex: entry 1 [0-9a-f-]{36} changed$/m)
})

test('audit export prints lines of JSON', async () => {
  const { stdout } = await run('audit', 'export', 'acme', '--action', 'rowhouse.key.*')
  const entries = stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
  expect(entries.map(({ action }) => action).sort()).toEqual([
    'rowhouse.key.issue',
    'rowhouse.key.issue',
    'rowhouse.key.revoke',
    'rowhouse.key.rotate',
  ])
  expect((await run('audit', 'export', 'acme', '--from', '2999-01-01')).stdout).toBe('')
  expect((await run('audit', 'export', 'acme', '--from', '2999-01-01', '--json')).stdout).toBe('')
})

test('audit denials says what was refused, to one tenant or to all', async () => {
  expect((await run('audit', 'denials')).stdout).toBe('Nothing was refused.\n')
  const rowhouse = createRowhouse({ pool: database.pool('owner', { max: 1 }) })
  for (let call = 0; call < 3; call++) {
    await rowhouse.tenant('acme').rateLimiter.allow('u_1', { windows: [{ limit: 1, windowMs: 3_600_000 }] })
  }
  await rowhouse.close()
  const { stdout } = await run('audit', 'denials')
  expect(stdout).toMatch(/^tenant +last recorded +reason +by +detail$/m)
  expect(stdout).toMatch(/^acme +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d +rate_limited .*limit 1,/m)
  expect(JSON.parse((await run('audit', 'denials', 'acme', '--json')).stdout)).toMatchObject([
    { tenantId: 'acme', kind: 'rate_limited', detail: { subject: 'u_1', limit: 1, requested: 1 } },
  ])
  expect((await run('audit', 'denials', 'globex')).stdout).toBe('Nothing was refused.\n')
  expect((await run('audit', 'denials', 'nobody')).exitCode).toBe(1)
})

test.each([
  [['key', 'issue', 'acme', 'x', '--expires', 'soon'], '--expires is no time.'],
  [['key', 'rotate', 'acme', '0123456789abcdef', '--overlap', 'long'], '--overlap is no number above 0.'],
  [['tenant', 'move', 'acme', 'eu', '--max-pause', '0'], '--max-pause is no number above 0.'],
  [['audit', 'export', 'acme', '--from', 'soon'], '--from is no time.'],
  [['audit', 'seal', 'acme', '--signing-key', '/no/file'], "The file of --signing-key can't be read"],
  [['audit', 'verify', 'acme', '--public-key', '/no/file'], "The file of --public-key can't be read"],
  [['audit', 'verify', '--anchor', '00'], '--anchor is a digest of one trail'],
  [['tenant', 'certify', 'acme', '--signing-key', '/no/file'], "The file of --signing-key can't be read"],
  [['tenant', 'verify-erasure', 'acme', '--texts', '/no/file'], "The file of --texts can't be read"],
])('a value that is none is an error of the command line: %j', async (arguments_, message) => {
  const { exitCode, stdout, stderr } = await run(...arguments_)
  expect(stderr).toContain(`error: ${message}`)
  expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: '' })
})
