import pg from 'pg'
import { createRowhouse, type NewMessage } from '../../src/index.ts'
import { withClient } from '../setup/connection.ts'
import { percentile } from './percentile-support.ts'
import type { BenchContext } from './run.ts'

/** Messages in the table beside those of the session that is measured. */
const MESSAGES = 1_000_000
const SESSION_LENGTH = 10_000
const MAX_TOKENS = 8000
const TEXT = 'The parcel left the depot this morning and should arrive before noon, unless it rains. '.repeat(2)
const CONTENT = JSON.stringify([{ type: 'text', text: TEXT }])
const TOKENS = 50

/**
 * What conversations cost, next to the statements that one writes by hand for tables with a tenant column and a foreign
 * key: appends of 1 and of 100 messages, and the window over a long session in a table of a million messages. Once with
 * 10 tenants and once with 10,000, among whom the same million is divided.
 *
 * `npm run bench -- sessions [messages]`
 */
export default async function benchSessions({ urls, args }: BenchContext): Promise<void> {
  const messages = Number(args[0] ?? MESSAGES)
  const pool = new pg.Pool({ connectionString: urls.app, max: 1 })
  const rowhouse = createRowhouse({ pool })
  const p50: Record<string, number>[] = []
  try {
    await withClient(urls.owner!, (owner) => owner.query(PLAIN_TABLES))
    for (const tenants of [10, 10_000]) {
      await withClient(urls.operator!, (operator) => provision(operator, tenants))
      await withClient(urls.owner!, (owner) => fill(owner, tenants, messages))
      console.log(row(`${tenants} tenants, ${messages} messages`, ['p50 ms', 'p95 ms', '/ by hand', 'target']))
      const { sessions } = rowhouse.tenant('tenant_1')
      const { id } = await sessions.create()
      const plain = await pool.query<{ id: string }>(
        "insert into plain_sessions (tenant_id) values ('tenant_1') returning session_id as id",
      )
      const plainId = plain.rows[0]!.id
      const one = [message()]
      const hundred = Array.from({ length: 100 }, message)
      const long = await fillSession(rowhouse, pool)
      p50.push(
        await measureAll({
          'append 1': {
            ours: () => sessions.append(id, one),
            plain: () => appendPlain(pool, plainId, one),
          },
          'append 100': {
            ours: () => sessions.append(id, hundred),
            plain: () => appendPlain(pool, plainId, hundred),
          },
          window: {
            ours: () => sessions.window(long.id, { maxTokens: MAX_TOKENS }),
            plain: () => windowPlain(pool, long.plainId),
            target: 5,
          },
        }),
      )
    }
    console.log('from 10 to 10,000 tenants')
    for (const [name, before] of Object.entries(p50[0]!)) {
      const ratio = p50[1]![name]! / before
      console.log(`  ${name.padEnd(20)} x ${ratio.toFixed(2)}${ratio <= 1.2 ? '' : '   MISSED (1.2)'}`)
    }
  } finally {
    await rowhouse.close()
    await pool.end()
  }
}

/** What one writes without rowhouse. */
const PLAIN_TABLES = `
  create table plain_sessions (
    tenant_id text not null, session_id uuid not null default gen_random_uuid(), updated_at timestamptz not null default now(),
    primary key (tenant_id, session_id));
  create table plain_messages (
    tenant_id text not null, session_id uuid not null, message_id bigint generated always as identity,
    role text not null, content jsonb not null, token_count integer not null, created_at timestamptz not null default now(),
    primary key (tenant_id, session_id, message_id),
    foreign key (tenant_id, session_id) references plain_sessions on delete cascade);
  grant select, insert, update, delete on plain_sessions, plain_messages to public;`

function message(): NewMessage {
  return { role: 'user', content: TEXT, tokenCount: TOKENS }
}

async function provision(operator: pg.Client, tenants: number): Promise<void> {
  await operator.query('set role rowhouse_admin')
  await operator.query("select rowhouse.provision_tenant('tenant_' || n) from generate_series(1, $1::int) n", [tenants])
  await operator.query('reset role')
}

/** Divides the messages among the tenants, in sessions of 100; the tables are as full at the end as at the beginning. */
async function fill(owner: pg.Client, tenants: number, messages: number): Promise<void> {
  await owner.query('truncate plain_messages, plain_sessions')
  await owner.query('set role rowhouse_owner')
  await owner.query('truncate rowhouse.sessions cascade')
  await owner.query('reset role')
  const perTenant = Math.max(1, Math.round(messages / tenants / 100))
  for (let tenant = 1; tenant <= tenants; tenant++) {
    await owner.query('begin')
    await owner.query(`set local role rowhouse_app; set local app.tenant_id = 'tenant_${tenant}'`)
    await owner.query(FILL_OURS, [perTenant, CONTENT, TOKENS])
    await owner.query('commit')
  }
  await owner.query(FILL_PLAIN, [tenants, perTenant, CONTENT, TOKENS])
  await owner.query('analyze plain_sessions, plain_messages')
  await owner.query('set role rowhouse_owner')
  await owner.query('analyze rowhouse.sessions, rowhouse.messages')
  await owner.query('reset role')
}

const FILL_OURS = `
  with made as (
    insert into rowhouse.sessions (message_count, token_count)
      select 100, 100 * $3::int from generate_series(1, $1::int) returning session_id)
  insert into rowhouse.messages (session_id, message_id, role, content, token_count)
    select m.session_id, rowhouse.time_ordered_id(now(), n), 'user', $2::json, $3::int
      from made m, generate_series(1, 100) n`

const FILL_PLAIN = `
  with made as (
    insert into plain_sessions (tenant_id)
      select 'tenant_' || t from generate_series(1, $1::int) t, generate_series(1, $2::int) returning tenant_id, session_id)
  insert into plain_messages (tenant_id, session_id, role, content, token_count)
    select m.tenant_id, m.session_id, 'user', $3::jsonb, $4::int from made m, generate_series(1, 100) n`

async function fillSession(rowhouse: ReturnType<typeof createRowhouse>, pool: pg.Pool) {
  const { sessions } = rowhouse.tenant('tenant_1')
  const { id } = await sessions.create()
  const batch = Array.from({ length: 1000 }, message)
  for (let appended = 0; appended < SESSION_LENGTH; appended += batch.length) await sessions.append(id, batch)
  const { rows } = await pool.query<{ id: string }>(
    "insert into plain_sessions (tenant_id) values ('tenant_1') returning session_id as id",
  )
  const plainId = rows[0]!.id
  for (let appended = 0; appended < SESSION_LENGTH; appended += batch.length) await appendPlain(pool, plainId, batch)
  return { id, plainId }
}

async function appendPlain(pool: pg.Pool, id: string, messages: readonly NewMessage[]): Promise<void> {
  const client = await pool.connect()
  try {
    await client.query('begin')
    await client.query('select 1 from plain_sessions where tenant_id = $1 and session_id = $2 for update', [
      'tenant_1',
      id,
    ])
    await client.query(
      `insert into plain_messages (tenant_id, session_id, role, content, token_count)
        select $1, $2, m.role, m.content, m.token_count from unnest($3::text[], $4::jsonb[], $5::int[]) m (role, content, token_count)`,
      [
        'tenant_1',
        id,
        messages.map(({ role }) => role),
        messages.map(({ content }) => JSON.stringify([{ type: 'text', text: content }])),
        messages.map(({ tokenCount }) => tokenCount),
      ],
    )
    await client.query('update plain_sessions set updated_at = now() where tenant_id = $1 and session_id = $2', [
      'tenant_1',
      id,
    ])
    await client.query('commit')
  } finally {
    client.release()
  }
}

/** The running sum that everybody writes; reads the whole session. */
async function windowPlain(pool: pg.Pool, id: string): Promise<unknown> {
  return pool.query(
    `select * from (
        select m.*, sum(m.token_count) over (order by m.message_id desc) as tokens
          from plain_messages m where m.tenant_id = $1 and m.session_id = $2) w
      where w.tokens <= $3 order by w.message_id`,
    ['tenant_1', id, MAX_TOKENS],
  )
}

const ROUNDS = 60

/** In turns, so that a slow moment of the machine hits both. */
async function measureAll(
  calls: Record<string, { ours: () => Promise<unknown>; plain: () => Promise<unknown>; target?: number }>,
): Promise<Record<string, number>> {
  const results: Record<string, number> = {}
  for (const [name, { ours, plain, target }] of Object.entries(calls)) {
    const times: { ours: number[]; plain: number[] } = { ours: [], plain: [] }
    for (let round = -10; round < ROUNDS; round++) {
      for (const [which, run] of [
        ['ours', ours],
        ['plain', plain],
      ] as const) {
        const begun = performance.now()
        await run()
        // The first rounds connect, plan and warm up.
        if (round >= 0) times[which].push(performance.now() - begun)
      }
    }
    const [own, other] = [percentile(times.ours, 0.5), percentile(times.plain, 0.5)]
    results[name] = own
    const judged = target === undefined ? '' : `${target}${own <= target ? '' : ' MISSED'}`
    console.log(row(name, [own.toFixed(2), percentile(times.ours, 0.95).toFixed(2), (own / other).toFixed(2), judged]))
    console.log(row('  by hand', [other.toFixed(2), percentile(times.plain, 0.95).toFixed(2)]))
  }
  console.log()
  return results
}

function row(name: string, columns: string[]): string {
  return `${name.padEnd(34)}${columns.map((column) => column.padStart(9)).join('')}`
}
