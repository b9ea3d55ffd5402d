import { expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { runCommand } from './run-command.ts'

const database = useDatabase()

const run = (arguments_: string[], answer?: string) =>
  runCommand(arguments_, { DATABASE_URL: database.url('owner') }, answer)

const rowhouse = async (...arguments_: string[]) => {
  const { exitCode, stdout, stderr } = await run(arguments_)
  return { exitCode, stdout, stderr }
}

test('at first there is the one of a single-tenant deployment', async () => {
  const { stdout } = await rowhouse('tenant', 'list')
  expect(stdout).toMatch(/^default /m)
  expect(await rowhouse('tenant', 'list', '--tier', 'professional')).toEqual({
    exitCode: 0,
    stdout: 'No tenants.\n',
    stderr: '',
  })
})

test('create says what was created, and that it was there already', async () => {
  const created = await rowhouse('tenant', 'create', 'acme', '--name', 'Acme Inc.', '--tier', 'professional')
  expect(created).toEqual({ exitCode: 0, stdout: 'Tenant acme was created, in tier professional.\n', stderr: '' })
  const again = await rowhouse('tenant', 'create', 'acme')
  expect(again.stdout).toBe('Tenant acme exists already, in tier professional, and is active.\n')
  expect((await rowhouse('tenant', 'create', 'globex', '--json')).stdout).toContain('"id": "globex"')
})

test('list shows them as a table, or as JSON, and filters', async () => {
  const { stdout } = await rowhouse('tenant', 'list')
  expect(stdout).toMatch(/^tenant +name +tier +status +partitions +created$/m)
  expect(stdout).toMatch(/^acme +Acme Inc\. +professional +active +shared +\d{4}-\d\d-\d\d$/m)
  const professional = await rowhouse('tenant', 'list', '--tier', 'professional', '--json')
  expect(JSON.parse(professional.stdout)).toMatchObject([{ id: 'acme', name: 'Acme Inc.' }])
})

test('suspend, deactivate, resume and tier say what the tenant is afterwards', async () => {
  const lines = []
  for (const arguments_ of [
    ['suspend', 'acme', '--reason', 'unpaid'],
    ['resume', 'acme'],
    ['deactivate', 'acme'],
    ['resume', 'acme'],
    ['tier', 'acme', 'enterprise'],
  ]) {
    lines.push((await rowhouse('tenant', ...arguments_)).stdout.trim())
  }
  expect(lines).toEqual([
    'Tenant acme is suspended (unpaid), in tier professional.',
    'Tenant acme is active, in tier professional.',
    'Tenant acme is inactive, in tier professional.',
    'Tenant acme is active, in tier professional.',
    'Tenant acme is active, in tier enterprise.',
  ])
})

test('protect, then promote and demote', async () => {
  const owner = await database.connect('owner')
  await owner.query(`
    create table notes (tenant_id text not null, id uuid not null default gen_random_uuid(), text text, primary key (tenant_id, id));
    insert into notes (tenant_id, text) select 'acme', 'note' from generate_series(1, 3);
    insert into notes (tenant_id, text) values ('globex', 'note')`)
  const dryRun = await rowhouse('protect', 'notes', '--partition', '--dry-run')
  expect(dryRun.stdout).toContain('enable row level security')
  expect(dryRun.stdout).toContain('nothing was changed')
  expect((await rowhouse('protect')).stdout).not.toContain('public.notes')
  const report = await rowhouse('protect', 'notes', '--partition')
  expect(report).toMatchObject({ exitCode: 0, stderr: '' })
  expect(report.stdout).toMatch(/public\.notes is protected, by \d+ statements\./)
  expect((await rowhouse('protect', 'notes')).stdout).toContain('public.notes is protected already.')
  expect((await rowhouse('protect')).stdout).toMatch(/^public\.notes +tenant_id text +partitioned$/m)

  const promoted = await rowhouse('tenant', 'promote', 'acme')
  expect(promoted.stdout).toMatch(/^public\.notes +3$/m)
  expect((await rowhouse('tenant', 'list')).stdout).toMatch(/^acme .* own /m)
  expect((await rowhouse('tenant', 'demote', 'acme')).stdout).toMatch(/^public\.notes +3$/m)
}, 60_000)

test('protect reports what it cannot make safe, with the mend', async () => {
  const owner = await database.connect('owner')
  await owner.query('create table signups (tenant_id text not null, email text unique)')
  const { exitCode, stderr } = await rowhouse('protect', 'public.signups')
  expect(exitCode).toBe(0)
  expect(stderr).toMatch(/^(error|warning|info): .*signups/m)
  await owner.query("select rowhouse.unprotect_table('signups'); drop table signups")
})

test('erase asks for the id, and erases nothing without it', async () => {
  const refused = await run(['tenant', 'erase', 'acme'], 'yes')
  expect(refused).toMatchObject({ exitCode: 2, questions: [expect.stringMatching(/erases \d+ rows of acme for good/)] })
  expect(refused.stderr).toContain('nothing was changed')
  const unattended = await rowhouse('tenant', 'erase', 'acme')
  expect(unattended.exitCode).toBe(2)
  expect(unattended.stderr).toContain('Give --yes.')
  const dryRun = await rowhouse('tenant', 'erase', 'acme', '--dry-run')
  expect(dryRun.stdout).toMatch(/^public\.notes +3$/m)
  expect((await rowhouse('tenant', 'list')).stdout).toMatch(/^acme .* active /m)
})

test('erase says what is in the way, and exits with 1', async () => {
  const owner = await database.connect('owner')
  await owner.query("create table forgotten (tenant_id text); insert into forgotten values ('acme')")
  for (const option of ['--dry-run', '--yes']) {
    const { exitCode, stderr } = await rowhouse('tenant', 'erase', 'acme', option)
    expect(exitCode).toBe(1)
    expect(stderr).toContain('forgotten')
  }
  await owner.query('drop table forgotten')
})

test('erase prints the receipt, and receipts verifies it', async () => {
  const { exitCode, stdout } = await run(['tenant', 'erase', 'acme'], ' acme ')
  expect(exitCode).toBe(0)
  expect(stdout).toMatch(/^public\.notes +3$/m)
  expect(stdout).toMatch(/^Digest [0-9a-f]{64}$/m)
  const json = await rowhouse('tenant', 'erase', 'globex', '--yes', '--json')
  expect(JSON.parse(json.stdout)).toMatchObject({ tenantId: 'globex', erasureNumber: 2, tables: { 'public.notes': 1 } })
  const receipts = await rowhouse('tenant', 'receipts')
  expect(receipts.exitCode).toBe(0)
  expect(receipts.stdout).toMatch(/^1 +acme +intact\n2 +globex +intact$/m)
})

test('a tenant that does not exist is one clear sentence', async () => {
  for (const arguments_ of [['suspend'], ['promote'], ['erase', '--yes']]) {
    const [action = '', ...options] = arguments_
    const { exitCode, stderr } = await rowhouse('tenant', action, 'nobody', ...options)
    expect(exitCode).toBe(1)
    expect(stderr.split('\n')[0]).toBe('error: tenant "nobody" does not exist')
  }
})
