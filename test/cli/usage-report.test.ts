// rowhouse usage: the chart, the file, the numbers and the events, from a real database.
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createRowhouse } from '../../src/index.ts'
import { useDatabase } from '../setup/database.ts'
import { runCommand } from './run-command.ts'

const database = useDatabase()
let folder: string

/** Runs a command in this process. */
async function run(...arguments_: string[]) {
  const { exitCode, stdout, stderr } = await runCommand(arguments_, {
    DATABASE_URL: database.url('owner'),
    COLUMNS: '90',
  })
  return { exitCode, stdout, stderr }
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rowhouse-usage-'))
  const rowhouse = createRowhouse({ connectionString: database.url('owner') })
  const since = new Date(Date.now() - 20 * 86_400_000)
  await rowhouse.prices.set('large', { inputTokens: 2, outputTokens: 10 }, { validFrom: since })
  for (const [id, name, calls] of [
    ['acme', '<b>Acme</b>', 3],
    ['globex', 'Globex', 1],
    ['idle', 'Idle', 0],
  ] as const) {
    await rowhouse.tenants.provision(id, { name })
    for (let call = 0; call < calls; call++) {
      const occurredAt = new Date(Date.now() - (call + 1) * 2 * 86_400_000)
      const units = { inputTokens: 100_000, outputTokens: 10_000 }
      await rowhouse.tenant(id).usage.record(`call-${call}`, units, { model: 'large', latencyMs: 500, occurredAt })
    }
  }
  await rowhouse.tenants.suspend('globex', { reason: 'has not paid' })
  await rowhouse.tenants.provision('gone')
  await rowhouse.tenant('gone').usage.record('call', { money: 1000 })
  await rowhouse.tenants.erase('gone')
  await rowhouse.close()
})
afterAll(() => rm(folder, { recursive: true }))

test('usage charts all tenants in the terminal', async () => {
  const { exitCode, stdout } = await run('usage')
  expect(exitCode).toBe(0)
  expect(stdout).toContain('Spend by model: $1.20')
  expect(stdout).toMatch(/ {2}large {2}█+ {2}\$1\.20 100 %/)
  expect(stdout).toMatch(/<b>Acme<\/b> +\$0\.90 +3 +330K +\d+ ms/)
  expect(stdout).toMatch(/Globex \(suspended\) +\$0\.30 +1 +110K/)
  expect(stdout).toMatch(/Idle +– +0 +0 +–/)
  expect(stdout).not.toContain('gone')
})

test('usage --tenant charts one', async () => {
  const { stdout } = await run('usage', '--tenant', 'globex')
  expect(stdout).toContain('Spend by model: $0.30')
  expect(stdout).not.toContain('Acme')
})

test('usage --html writes a file', async () => {
  const file = join(folder, 'usage.html')
  expect(await run('usage', '--html', file)).toMatchObject({ exitCode: 0, stdout: '', stderr: `Wrote ${file}\n` })
  const html = await readFile(file, 'utf8')
  expect(html).toContain('&lt;b&gt;Acme&lt;/b&gt;')
  expect(html).not.toContain('<b>')
  expect(html).toContain('<dd>$1.20</dd>')
  expect(html).toContain('Globex (suspended)')
  const nowhere = await run('usage', '--html', join(folder, 'nowhere', 'usage.html'))
  expect(nowhere).toMatchObject({ exitCode: 2 })
  expect(nowhere.stderr).toContain("can't be written")
})

test('usage --json, --csv and --cloudevents print numbers and events', async () => {
  const { tenants, period } = JSON.parse((await run('usage', '--json')).stdout)
  expect(period).toBe('day')
  expect(tenants.slice(0, 2)).toMatchObject([
    { tenantId: 'acme', totals: [{ cost: '0.9', events: 3 }] },
    { tenantId: 'globex', totals: [{ cost: '0.3' }] },
  ])
  const csv = (await run('usage', '--csv')).stdout.trim().split('\n')
  expect(csv[0]).toMatch(/^tenantId,requestId,/)
  expect(csv.slice(1).map((line) => line.split(',')[0])).toEqual(['acme', 'acme', 'acme', 'globex'])
  const events = (await run('usage', '--cloudevents', '--tenant', 'acme')).stdout.trim().split('\n')
  expect(events.map((line) => JSON.parse(line).source)).toEqual(Array(3).fill('/rowhouse/tenants/acme'))
})

test('usage --from and --to', async () => {
  const day = (ago: number) => new Date(Date.now() - ago * 86_400_000).toISOString().slice(0, 10)
  const { tenants } = JSON.parse((await run('usage', '--json', '--from', day(5), '--to', day(3))).stdout)
  expect(tenants.flatMap(({ totals }: { totals: { events: number }[] }) => totals.map(({ events }) => events))).toEqual(
    [1],
  )
})

test.each([
  [['--from', 'someday'], '--from is no time.'],
  [['--from', '2026-11-02', '--to', '2026-11-01'], '--from is not before --to.'],
  [['--csv', '--html', 'x'], 'Either --csv or --html.'],
  [['--tenant', 'nobody'], 'tenant "nobody" does not exist'],
])('refused: usage %s', async (arguments_, message) => {
  const { exitCode, stderr } = await run('usage', ...arguments_)
  expect(exitCode).not.toBe(0)
  expect(stderr).toContain(message)
})
