import { readFile } from 'node:fs/promises'
import { createServer, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { Kysely, PostgresDialect } from 'kysely'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createApp as createAppAfter } from '../../examples/existing-express-app/after/app.ts'
import { createApp as createAppBefore } from '../../examples/existing-express-app/before/app.ts'
import type { Database } from '../../examples/existing-express-app/database.ts'
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../src/embedded/index.ts'
import { createRowhouse, type Rowhouse } from '../../src/index.ts'

const folder = join(import.meta.dirname, '../../examples/existing-express-app')
const accounts = {
  acme: '11111111-1111-4111-8111-111111111111',
  globex: '22222222-2222-4222-8222-222222222222',
}

/** The application on a database of its own, and a client that speaks to it over a socket. */
interface RunningApp {
  readonly request: (account: string, method: string, path: string, body?: unknown) => Promise<Answer>
  readonly pool: pg.Pool
  readonly close: () => Promise<void>
}
interface Answer {
  readonly status: number
  readonly body: any
}

async function startApp(
  createApp: (db: Kysely<Database>, pool: pg.Pool) => Promise<RequestListener>,
): Promise<RunningApp> {
  const postgres: EmbeddedPostgres = await startEmbeddedPostgres()
  const pool = new pg.Pool({ connectionString: postgres.connectionString })
  for (const file of ['schema.sql', 'seed.sql']) await pool.query(await readFile(join(folder, file), 'utf8'))
  const db = new Kysely<Database>({ dialect: new PostgresDialect({ pool }) })
  const server: Server = createServer(await createApp(db, pool))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return {
    pool,
    async request(account, method, path, body) {
      const response = await fetch(`http://127.0.0.1:${port}${path}`, {
        method,
        headers: { authorization: `Bearer token-of-${account}`, 'content-type': 'application/json' },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      })
      return { status: response.status, body: await response.json() }
    },
    async close() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
      await pool.end()
      await postgres.close()
    },
  }
}

let rowhouse: Rowhouse<Database>
const running: Partial<Record<'before' | 'after', RunningApp>> = {}

beforeAll(async () => {
  running.before = await startApp(async (db) => createAppBefore(db))
  running.after = await startApp(async (db, pool) => {
    rowhouse = createRowhouse<Database>({ pool })
    await rowhouse.migrate()
    await pool.query(await readFile(join(folder, 'after/adopt.sql'), 'utf8'))
    return createAppAfter(db, rowhouse)
  })
}, 60_000)

afterAll(async () => {
  await running.before?.close()
  await running.after?.close()
})

const injection = encodeURIComponent(`' or true or name = '`)

describe.each(['before', 'after'] as const)('the application %s adoption', (variant) => {
  const request: RunningApp['request'] = (...parameters) => running[variant]!.request(...parameters)

  test('serves an account its own data', async () => {
    expect(await request('acme', 'GET', '/invoices')).toEqual({
      status: 200,
      body: [
        { id: '1', customer: 'Ada Lovelace', status: 'open', total_cents: '124500' },
        { id: '2', customer: 'Alan Turing', status: 'open', total_cents: '9900' },
      ],
    })
    expect((await request('globex', 'GET', '/customers')).body).toMatchObject([{ name: 'Grace Hopper' }])
    expect((await request('acme', 'GET', '/customers?name=Turing')).body).toEqual([
      { name: 'Alan Turing', email: 'alan@example.com' },
    ])
    expect((await request('acme', 'GET', '/invoices/1')).body.lines).toHaveLength(2)
  })

  test('creates and pays an invoice', async () => {
    const lines = [{ description: 'Loom', amountCents: 5000 }]
    const created = await request('acme', 'POST', '/invoices', { customerId: '1', lines })
    expect(created.status).toBe(201)
    expect((await request('acme', 'POST', `/invoices/${created.body.id}/payment`)).body).toEqual({ paid: true })
    expect((await request('acme', 'GET', `/invoices/${created.body.id}`)).body).toMatchObject({
      account_id: accounts.acme,
      status: 'paid',
      lines: [{ description: 'Loom', amount_cents: 5000 }],
    })
  })

  test('rolls an invoice back whose lines are refused', async () => {
    const lines = [{ description: 'Nothing', amountCents: 0 }]
    const before = await request('acme', 'GET', '/invoices')
    expect((await request('acme', 'POST', '/invoices', { customerId: '1', lines })).status).toBe(500)
    expect(await request('acme', 'GET', '/invoices')).toEqual(before)
  })

  test('refuses an unknown token', async () => {
    expect((await request('nobody', 'GET', '/invoices')).status).toBe(401)
  })
})

describe('an id of another account', () => {
  test('negative control: reads its invoice before adoption', async () => {
    const answer = await running.before!.request('globex', 'GET', '/invoices/1')
    expect(answer).toMatchObject({ status: 200, body: { account_id: accounts.acme, lines: [{}, {}] } })
  })

  test('finds nothing after adoption', async () => {
    expect((await running.after!.request('globex', 'GET', '/invoices/1')).status).toBe(404)
  })

  test('negative control: pays its invoice before adoption', async () => {
    expect((await running.before!.request('globex', 'POST', '/invoices/2/payment')).body).toEqual({ paid: true })
    expect((await running.before!.request('acme', 'GET', '/invoices/2')).body.status).toBe('paid')
  })

  test('changes nothing after adoption', async () => {
    expect((await running.after!.request('globex', 'POST', '/invoices/2/payment')).status).toBe(404)
    expect((await running.after!.request('acme', 'GET', '/invoices/2')).body.status).toBe('open')
  })

  const invoiceOfAda = { customerId: '1', lines: [{ description: 'Fraud', amountCents: 1 }] }

  test('negative control: bills its customer before adoption', async () => {
    expect((await running.before!.request('globex', 'POST', '/invoices', invoiceOfAda)).status).toBe(201)
  })

  test('is no customer after adoption, as one that does not exist', async () => {
    const answers = await Promise.all(
      ['1', '999'].map((customerId) =>
        running.after!.request('globex', 'POST', '/invoices', { ...invoiceOfAda, customerId }),
      ),
    )
    expect(answers[0]).toEqual({ status: 500, body: { error: 'internal error' } })
    expect(answers[1]).toEqual(answers[0])
  })
})

describe('a forgotten filter', () => {
  const total = (answer: Answer) =>
    answer.body.reduce((sum: number, row: { total_cents: string }) => sum + Number(row.total_cents), 0)

  test('negative control: adds up all accounts before adoption', async () => {
    expect(total(await running.before!.request('globex', 'GET', '/revenue'))).toBeGreaterThan(700_000)
  })

  test('adds up the own account after adoption', async () => {
    expect(total(await running.after!.request('globex', 'GET', '/revenue'))).toBe(700_000)
  })
})

describe('injected SQL', () => {
  test('negative control: reads the customers of all accounts before adoption', async () => {
    const { body } = await running.before!.request('globex', 'GET', `/customers?name=${injection}`)
    expect(body.map((customer: { name: string }) => customer.name)).toContain('Ada Lovelace')
  })

  test('reads the own customers after adoption', async () => {
    const { body } = await running.after!.request('globex', 'GET', `/customers?name=${injection}`)
    expect(body).toEqual([{ name: 'Grace Hopper', email: 'grace@example.com' }])
  })
})

describe('adoption', () => {
  test('leaves no finding', async () => {
    const { rows } = await running.after!.pool.query<{ report: { findings: { level: string; kind: string }[] } }>(
      `select rowhouse.protect_table(t::regclass, 'account_id', p_dry_run => true) as report
         from unnest(array['customers', 'invoices', 'invoice_lines']) t`,
    )
    const findings = rows.flatMap((row) => row.report.findings)
    expect(findings.filter((finding) => finding.level !== 'info')).toEqual([])
  })

  test('negative control: without adopt.sql it reports the foreign keys', async () => {
    const pool = running.before!.pool
    const bare = createRowhouse({ pool })
    await bare.migrate()
    const { rows } = await pool.query(
      `select rowhouse.protect_table('invoices', 'account_id', p_dry_run => true) as report`,
    )
    expect(rows[0].report.findings.map((finding: { kind: string }) => finding.kind)).toEqual(
      expect.arrayContaining(['key_without_tenant', 'foreign_key_without_tenant']),
    )
  })

  test('answers a suspended account with 403', async () => {
    await rowhouse.tenants.suspend(accounts.globex)
    expect(await running.after!.request('globex', 'GET', '/invoices')).toMatchObject({ status: 403 })
    await rowhouse.tenants.resume(accounts.globex)
    expect((await running.after!.request('globex', 'GET', '/invoices')).status).toBe(200)
  })

  test('changes the lines that the README shows', async () => {
    const readme = await readFile(join(folder, 'README.md'), 'utf8')
    const before = (await readFile(join(folder, 'before/app.ts'), 'utf8')).split('\n')
    const after = (await readFile(join(folder, 'after/app.ts'), 'utf8')).split('\n')
    const shown = /```diff\n(.*?)```/s.exec(readme)![1]!.trimEnd().split('\n')
    const added = after.filter((line) => !before.includes(line))
    const removed = before.filter((line) => !after.includes(line))
    expect(shown.filter((line) => line.startsWith('+')).map((line) => line.slice(1))).toEqual(added)
    expect(shown.filter((line) => line.startsWith('-')).map((line) => line.slice(1))).toEqual(removed)
  })
})
