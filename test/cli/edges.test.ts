// What a shell meets besides the results: values that can't be right, a reader that is gone, nobody to confirm.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { runCommand } from './run-command.ts'

const database = useDatabase()
const run = (arguments_: string[], answer?: string) =>
  runCommand(arguments_, { DATABASE_URL: database.url('owner') }, answer)

beforeAll(async () => {
  await run(['tenant', 'create', 'acme'])
  await run(['audit', 'seal'])
})

test.each<[string[], RegExp]>([
  [['tenant', 'suspend', 'not an id'], /<tenant> is an id of 1 to 64/],
  [['sweep', 'not an id'], /\[tenant\] is an id of 1 to 64/],
  [['usage', '--tenant', 'not an id'], /--tenant is an id of 1 to 64/],
  [['tenant', 'tier', 'acme', 'Gold'], /<tier> is 1 to 32 lower-case/],
  [['tenant', 'create', 'new', '--tier', 'Gold'], /--tier is 1 to 32 lower-case/],
  [['tenant', 'list', '--status', 'foo'], /--status is active, suspended.*, not "foo"/],
  [['doctor', '--level', 'foo'], /--level is error, warning, info, not "foo"/],
  [['doctor', '--ignore', 'outdated_sever'], /there is no lint "outdated_sever"/],
  [['audit', 'purge', 'acme'], /needs --before/],
  [['audit', 'purge', 'acme', '--before', 'long ago'], /--before is no time/],
  [['audit', 'purge', 'acme', '--before', '2026-01-01'], /Nobody is there to confirm it/],
  [['key', 'revoke', 'acme', '0123456789abcdef'], /Nobody is there to confirm it/],
])('%j: exit code 2, and which value', async (arguments_, message) => {
  expect(await run(arguments_)).toMatchObject({ exitCode: 2, stdout: '', stderr: expect.stringMatching(message) })
})

test('values that are right are no problem', async () => {
  expect((await run(['tenant', 'list', '--status', 'suspended', '--tier', 'free'])).exitCode).toBe(0)
  const ignored = 'outdated_server,rule:public.notes,unpatched_statistics_view'
  expect((await run(['doctor', '--level', 'error', '--ignore', ignored])).stderr).toBe('')
})

test('key list of a tenant that there is not says so', async () => {
  expect(await run(['key', 'list', 'nosuch'])).toMatchObject({
    exitCode: 1,
    stdout: '',
    stderr: expect.stringMatching(/tenant "nosuch" does not exist/),
  })
})

test('key revoke asks for the tenant, and revokes nothing without it', async () => {
  const { id } = JSON.parse((await run(['key', 'issue', 'acme', 'asked', '--json'])).stdout)
  const refused = await run(['key', 'revoke', 'acme', id], 'globex')
  expect(refused).toMatchObject({ exitCode: 2, questions: [expect.stringContaining(id)] })
  const isRevoked = async () => {
    const keys = JSON.parse((await run(['key', 'list', 'acme', '--json'])).stdout)
    return keys.find((key: { id: string }) => key.id === id).revokedAt !== null
  }
  expect(await isRevoked()).toBe(false)
  const { stdout } = await run(['key', 'revoke', 'acme', id, '--json'], 'acme')
  expect(JSON.parse(stdout)).toEqual({ tenantId: 'acme', id, revoked: true })
  expect(await isRevoked()).toBe(true)
})

test('audit purge removes what was sealed before, and the trail still verifies', async () => {
  const before = new Date(Date.now() + 60_000).toISOString()
  const purged = await run(['audit', 'purge', 'acme', '--before', before, '--yes', '--json'])
  const { removed } = JSON.parse(purged.stdout)
  expect(removed).toBeGreaterThan(0)
  expect(await run(['audit', 'verify', 'acme'])).toMatchObject({ exitCode: 0 })
  expect((await run(['audit', 'purge', 'acme', '--before', before, '--yes'])).stdout).toBe(
    '0 entries of acme were removed.\n',
  )
})

/** The exit code of a process whose reader has gone before it wrote anything. */
async function withoutReader(...arguments_: string[]): Promise<number> {
  const child = spawn(process.execPath, [join(import.meta.dirname, '../../src/cli/main.ts'), ...arguments_], {
    env: { PATH: process.env.PATH, DATABASE_URL: database.url('owner') },
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  child.stdout.destroy()
  const [exitCode] = await once(child, 'exit')
  return exitCode
}

test('a reader that is gone turns no failure into success', needs('superuser', 'parallelBackends'), async () => {
  expect(await withoutReader('audit', 'verify')).toBe(0)
  await run(['tenant', 'create', 'changed'])
  const superuser = await database.connect('superuser')
  await superuser.query(`set session_replication_role = replica;
    update rowhouse.audit_entries set action = 'something.else' where tenant_id = 'changed';
    set session_replication_role = origin`)
  expect((await run(['audit', 'verify'])).exitCode).toBe(1)
  expect(await withoutReader('audit', 'verify')).toBe(1)
})

test(
  'verify-erasure succeeds for a login that may not look everywhere, unless it is strict',
  needs('superuser'),
  async () => {
    await run(['tenant', 'create', 'erased_one'])
    await run(['tenant', 'erase', 'erased_one', '--yes'])
    const verified = await run(['tenant', 'verify-erasure', 'erased_one'])
    expect(verified).toMatchObject({
      exitCode: 0,
      stdout: expect.stringMatching(/intact\.\nNothing of erased_one was found where this login could look\./),
      stderr: expect.stringMatching(/^note: .*not looked through/m),
    })
    expect((await run(['tenant', 'verify-erasure', 'erased_one', '--strict'])).exitCode).toBe(1)
    // The control: what is found is a failure, whoever looks.
    const owner = await database.connect('owner')
    await owner.query("create table logs (line text); insert into logs values ('about erased_one')")
    expect(await run(['tenant', 'verify-erasure', 'erased_one'])).toMatchObject({
      exitCode: 1,
      stdout: expect.stringMatching(/^public\.logs +1 +rows that mention/m),
    })
  },
)
