// Two tenants hold conversations. Whatever one of them tries, in whatever way, nothing of the other comes back or
// changes, and a session of the other is no different from one that never existed. Each probe is shown to leak once the
// policies are gone.
import type pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  createRowhouse,
  type Rowhouse,
  type RowhouseError,
  type Sessions,
  TenantMismatchError,
} from '../../src/index.ts'
import { expectError } from '../documents/fixture.ts'
import { expectClosed } from '../isolation/support/expect-closed.ts'
import { rowsInTenant } from '../isolation/support/in-tenant.ts'
import { useDatabase } from '../setup/database.ts'
import { ACME, GLOBEX, say, useSessions } from './fixture.ts'

const database = useDatabase()
const fixture = useSessions(database)
let owner: pg.Client
let app: pg.Client
let unchecked: Rowhouse
/** A session of globex, and a message in it. */
let foreign: { id: string; message: string }
let own: string

beforeAll(async () => {
  owner = await database.connect('owner')
  app = await database.connect('app')
  // Asks no start-up check to refuse, so that the last wall can be seen by itself.
  unchecked = createRowhouse({ pool: database.pool('app', { max: 1 }) })
  const ids: Record<string, { id: string; message: string }> = {}
  for (const tenantId of [ACME, GLOBEX]) {
    const { sessions } = fixture.rowhouse.tenant(tenantId)
    const { id } = await sessions.create({ userId: 'shared', metadata: { note: `canary:${tenantId}` } })
    const appended = await sessions.append(id, [say(`canary:${tenantId}:one`), say(`canary:${tenantId}:two`)])
    ids[tenantId] = { id, message: appended.ids[0]! }
  }
  foreign = ids[GLOBEX]!
  own = ids[ACME]!.id
})
afterAll(() => unchecked?.close())

/** Opens every relation of both tables, as their owner, or puts the protection back. */
const protection = (state: 'disable' | 'enable') => async () => {
  await owner.query('begin; set local role rowhouse_owner')
  const { rows } = await owner.query<{ name: string }>(`
    select 'rowhouse.sessions' as name
    union all select relid::regclass::text from pg_partition_tree('rowhouse.messages')`)
  for (const { name } of rows) await owner.query(`alter table ${name} ${state} row level security`)
  await owner.query('commit')
}

const closed = (probe: () => Promise<readonly unknown[]>) =>
  expectClosed({ probe, removeProtection: protection('disable'), restoreProtection: protection('enable') })

/** Rows of a statement that acme sends, of which none may be globex's. */
const foreignRows = async (sql: string) =>
  (await rowsInTenant(app, ACME, sql)).filter((row) => JSON.stringify(row).includes(GLOBEX))

describe('SQL that forgets the tenant', () => {
  test.for<[string, string]>([
    ['select sessions', 'select * from rowhouse.sessions'],
    ['select sessions of a user', "select * from rowhouse.sessions where user_id = 'shared'"],
    ['select messages', 'select * from rowhouse.messages'],
    ['select messages of a session', "select * from rowhouse.messages where session_id = '$id'"],
    ['update sessions', "update rowhouse.sessions set metadata = metadata where session_id = '$id' returning *"],
    ['update messages', "update rowhouse.messages set role = 'system' returning *"],
    ['delete sessions', "delete from rowhouse.sessions where session_id = '$id' returning *"],
    ['delete messages', "delete from rowhouse.messages where message_id = '$message' returning *"],
  ])('%s', async ([, sql]) => {
    await closed(() => foreignRows(sql.replace('$id', foreign.id).replace('$message', foreign.message)))
  })

  test('a message in a session of another tenant fails as one in no session does', async () => {
    const insert = (id: string) =>
      rowsInTenant(
        app,
        ACME,
        `insert into rowhouse.messages (session_id, message_id, role, content, token_count)
          values ('${id}', gen_random_uuid(), 'user', '[]', 1)`,
      ).then(
        () => 'written',
        (error) => `${error.code} ${error.message} ${error.detail}`.replaceAll(id, '<id>'),
      )
    const missing = await insert('6f3a9c1e-0000-4000-8000-000000000000')
    expect(missing).toContain('23503')
    expect(await insert(foreign.id)).toBe(missing)
    expect(await insert(own)).toBe('written')
  })
})

describe('a session of another tenant is no different from one that never existed', () => {
  const MISSING = '6f3a9c1e-0000-4000-8000-000000000000'
  const outcome = (work: Promise<unknown>) =>
    work.then(
      (value) => ({ value }),
      (error: RowhouseError) => ({ code: error.code, message: error.message, hint: error.hint, cause: error.cause }),
    )
  test.for<[string, (sessions: Sessions, id: string) => Promise<unknown>]>([
    ['get', (sessions, id) => sessions.get(id)],
    ['update', (sessions, id) => sessions.update(id, { metadata: {} })],
    ['touch', (sessions, id) => sessions.touch(id)],
    ['delete', (sessions, id) => sessions.delete(id)],
    ['append', (sessions, id) => sessions.append(id, [say('x')])],
    ['append of an expected length', (sessions, id) => sessions.append(id, [say('x')], { expectedLength: 2 })],
    ['messages', (sessions, id) => sessions.messages(id)],
    ['window', (sessions, id) => sessions.window(id, { maxTokens: 100 })],
    ['search', (sessions, id) => sessions.search(id, 'canary')],
    ['fork', (sessions, id) => sessions.fork(id)],
    ['fork at a message', (sessions, id) => sessions.fork(id, { until: foreign.message })],
  ])('%s', async ([, attempt]) => {
    const missing = await outcome(attempt(fixture.acme.sessions, MISSING))
    expect(await outcome(attempt(fixture.acme.sessions, foreign.id))).toEqual(missing)
    // Nothing of it was changed.
    expect(await fixture.globex.sessions.get(foreign.id)).toMatchObject({
      messageCount: 2,
      metadata: { note: `canary:${GLOBEX}` },
    })
  })

  test('nor can a fork end at its message', async () => {
    await expectError(fixture.acme.sessions.fork(own, { until: foreign.message }), 'invalid_message')
  })
})

test('the functions say the tenant in every statement, so they need no policy', async () => {
  await protection('disable')()
  try {
    for (const call of [
      `get_session('${foreign.id}')`,
      `find_session('${foreign.id}')`,
      'list_sessions()',
      "list_sessions(50, 'shared')",
    ]) {
      expect(await foreignRows(`select * from rowhouse.${call}`), call).toEqual([])
    }
    for (const call of [
      `update_session('${foreign.id}', '{}')`,
      `append_messages('${foreign.id}', array['user'], array['[]']::json[])`,
      `list_messages('${foreign.id}')`,
      `message_window('${foreign.id}', 100)`,
      `search_messages('${foreign.id}', 'canary')`,
      `fork_session('${foreign.id}')`,
    ]) {
      await expect(foreignRows(`select * from rowhouse.${call}`), call).rejects.toMatchObject({ code: 'RH060' })
    }
    expect(await rowsInTenant(app, ACME, `select rowhouse.delete_session('${foreign.id}') as deleted`)).toEqual([
      { deleted: false },
    ])
    expect(await rowsInTenant(app, ACME, 'select rowhouse.sweep_sessions() as deleted')).toEqual([{ deleted: 0 }])
  } finally {
    await protection('enable')()
  }
})

test('without a tenant the functions refuse', async () => {
  for (const call of [
    'create_session()',
    `get_session('${own}')`,
    "find_session('x')",
    "open_session('x')",
    'list_sessions()',
    `update_session('${own}', '{}')`,
    `delete_session('${own}')`,
    'sweep_sessions()',
    `append_messages('${own}', array['user'], array['[]']::json[])`,
    `list_messages('${own}')`,
    `message_window('${own}', 100)`,
    `search_messages('${own}', 'x')`,
    `fork_session('${own}')`,
  ]) {
    await expect(rowsInTenant(app, null, `select rowhouse.${call}`), call).rejects.toMatchObject({ code: 'RH001' })
  }
})

test('the client lets no row of another tenant pass, whatever the database answers', async () => {
  // A function that lost its condition, on tables that lost their policies.
  const { sessions } = unchecked.tenant(ACME)
  await sessions.get(own)
  const { rows } = await owner.query("select pg_get_functiondef('rowhouse.get_session(uuid)'::regprocedure) as body")
  const body: string = rows[0].body
  await protection('disable')()
  await owner.query(`begin; set local role rowhouse_owner; ${body.replace('s.tenant_id = v_tenant and ', '')}; commit`)
  try {
    await expect(sessions.get(foreign.id)).rejects.toBeInstanceOf(TenantMismatchError)
  } finally {
    await owner.query(`begin; set local role rowhouse_owner; ${body}; commit`)
    await protection('enable')()
  }
  expect(await sessions.get(foreign.id)).toBeUndefined()
})
