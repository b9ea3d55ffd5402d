// The checkpointer for LangGraph: what LangGraph's own validation (test/compat) doesn't ask, which is everything about
// tenants and sessions.

import { type Checkpoint, type CheckpointTuple, emptyCheckpoint, uuid6 } from '@langchain/langgraph-checkpoint'
import type pg from 'pg'
import { beforeAll, describe, expect, test } from 'vitest'
import { RowhouseSaver } from '../../src/langgraph/index.ts'
import { expectError } from '../documents/fixture.ts'
import { expectClosed } from '../isolation/support/expect-closed.ts'
import { rowsInTenant } from '../isolation/support/in-tenant.ts'
import { ACME, GLOBEX, provision, say, useSessions } from '../sessions/fixture.ts'
import { useDatabase } from '../setup/database.ts'

const database = useDatabase()
const fixture = useSessions(database)
let app: pg.Client
let owner: pg.Client
beforeAll(async () => {
  app = await database.connect('app')
  owner = await database.connect('owner')
})

const saverOf = (tenantId: string) => new RowhouseSaver(fixture.rowhouse.tenant(tenantId))
const of = (thread: string, checkpointId?: string) => ({
  configurable: { thread_id: thread, checkpoint_ns: '', ...(checkpointId && { checkpoint_id: checkpointId }) },
})

function checkpoint(values: Record<string, unknown>, versions: Record<string, number>): Checkpoint {
  return { ...emptyCheckpoint(), id: uuid6(3), channel_values: values, channel_versions: versions }
}

/** A checkpoint with one channel, and a write after it. */
async function store(tenantId: string, thread: string, value: unknown): Promise<string> {
  const saver = saverOf(tenantId)
  const stored = await saver.put(of(thread), checkpoint({ note: value }, { note: 1 }), {
    source: 'input',
    step: 0,
    parents: {},
  })
  await saver.putWrites(stored, [['answer', `${value} written`]], 'task-1')
  return stored.configurable!.checkpoint_id
}

async function all(saver: RowhouseSaver, thread?: string): Promise<CheckpointTuple[]> {
  const found: CheckpointTuple[] = []
  for await (const tuple of saver.list(thread === undefined ? {} : { configurable: { thread_id: thread } }))
    found.push(tuple)
  return found
}

describe('tenants', () => {
  test('two of them use one name for their threads', async () => {
    const id = await store(ACME, 'shared', 'canary:acme')
    await store(GLOBEX, 'shared', 'canary:globex')
    expect(await saverOf(ACME).getTuple(of('shared'))).toMatchObject({
      checkpoint: { channel_values: { note: 'canary:acme' } },
      pendingWrites: [['task-1', 'answer', 'canary:acme written']],
    })
    expect(await saverOf(GLOBEX).getTuple(of('shared', id))).toBeUndefined()
    expect(JSON.stringify(await all(saverOf(ACME)))).not.toContain(GLOBEX)
    await saverOf(ACME).deleteThread('shared')
    expect(await saverOf(ACME).getTuple(of('shared'))).toBeUndefined()
    expect(await saverOf(GLOBEX).getTuple(of('shared'))).toBeDefined()
  })

  test('the session of another one is no thread', async () => {
    const session = await fixture.globex.sessions.create()
    await store(GLOBEX, session.id, 'theirs')
    expect(await saverOf(ACME).getTuple(of(session.id))).toBeUndefined()
    await store(ACME, session.id, 'mine')
    expect(await saverOf(GLOBEX).getTuple(of(session.id))).toMatchObject({
      checkpoint: { channel_values: { note: 'theirs' } },
    })
  })

  test.for(['checkpoints', 'checkpoint_values', 'checkpoint_writes'])(
    'SQL that forgets the tenant: %s',
    async (table) => {
      await store(ACME, 'sql', 'canary:acme')
      await store(GLOBEX, 'sql', 'canary:globex')
      const protection = (state: string) => () =>
        owner.query(
          `begin; set local role rowhouse_owner; alter table rowhouse.${table} ${state} row level security; commit`,
        )
      await expectClosed({
        probe: async () => {
          const rows = await rowsInTenant(app, ACME, `select tenant_id from rowhouse.${table}`)
          const gone = await rowsInTenant(app, ACME, `delete from rowhouse.${table} returning tenant_id`)
          return [...rows, ...gone].filter((row) => row.tenant_id !== ACME)
        },
        removeProtection: protection('disable'),
        restoreProtection: protection('enable'),
      })
    },
  )

  test('erasure takes everything along', async () => {
    await provision(database, 'leaving')
    await store('leaving', 't', 'x')
    const receipt = await fixture.rowhouse.tenants.erase('leaving')
    expect(receipt.tables).toMatchObject({
      'rowhouse.checkpoints': 1,
      'rowhouse.checkpoint_values': 1,
      'rowhouse.checkpoint_writes': 1,
    })
  })
})

describe('sessions', () => {
  test('a thread is the session of that id', async () => {
    const { sessions } = fixture.acme
    const session = await sessions.create({ userId: 'u_1' })
    await sessions.append(session.id, [say('hello')])
    await store(ACME, session.id, 'x')
    expect((await all(saverOf(ACME), session.id)).map(({ config }) => config.configurable!.thread_id)).toEqual([
      session.id,
    ])
    // Messages stay when the agent starts anew.
    await saverOf(ACME).deleteThread(session.id)
    expect(await sessions.get(session.id)).toMatchObject({ messageCount: 1 })
    await store(ACME, session.id, 'y')
    await sessions.delete(session.id)
    expect(await saverOf(ACME).getTuple(of(session.id))).toBeUndefined()
    const left = await rowsInTenant(
      app,
      ACME,
      `select from rowhouse.checkpoint_values where session_id = '${session.id}'`,
    )
    expect(left).toEqual([])
  })

  test('a checkpoint begins the retention of its session anew, and ends with it', async () => {
    const { sessions } = fixture.acme
    await store(ACME, 'old', 'x')
    const session = (await sessions.find('old'))!
    const age = (days: number) =>
      rowsInTenant(
        app,
        ACME,
        `update rowhouse.sessions set updated_at = now() - interval '${days} days' where session_id = '${session.id}'`,
        { commit: true },
      )
    await age(29)
    await store(ACME, 'old', 'y')
    expect((await sessions.get(session.id))!.updatedAt.getTime()).toBeGreaterThan(Date.now() - 60_000)
    await age(31)
    expect(await saverOf(ACME).getTuple(of('old'))).toBeUndefined()
    expect(await all(saverOf(ACME), 'old')).toEqual([])
    await store(ACME, 'old', 'z')
    expect(await all(saverOf(ACME), 'old')).toHaveLength(1)
  })

  test('a thread that was only a name is gone after deleteThread', async () => {
    await store(ACME, 'name', 'x')
    await saverOf(ACME).deleteThread('name')
    await saverOf(ACME).deleteThread('name')
    expect(await fixture.acme.sessions.find('name')).toBeUndefined()
  })
})

test('a channel that did not change is stored once', async () => {
  const saver = saverOf(ACME)
  const big = 'x'.repeat(1000)
  let config = of('once')
  for (let step = 1; step <= 5; step++) {
    const next = checkpoint({ big, step }, { big: 1, step })
    config = (await saver.put(
      config,
      next,
      { source: 'loop', step, parents: {} },
      step === 1 ? { big: 1, step } : { step },
    )) as typeof config
  }
  const tuples = await all(saver, 'once')
  expect(tuples.map((tuple) => tuple.checkpoint.channel_values)).toEqual([5, 4, 3, 2, 1].map((step) => ({ big, step })))
  const stored = await rowsInTenant(
    app,
    ACME,
    `select channel, count(*)::int from rowhouse.checkpoint_values join rowhouse.sessions using (tenant_id, session_id)
      where external_id = 'once' group by 1 order by 1`,
  )
  expect(stored).toEqual([
    { channel: 'big', count: 1 },
    { channel: 'step', count: 5 },
  ])
})

test('lists page by page, and filter by metadata that the database can not store', async () => {
  const saver = saverOf(ACME)
  for (let step = 0; step < 205; step++) {
    await saver.put(of('many'), checkpoint({}, {}), {
      source: 'loop',
      step,
      parents: {},
      tag: step % 2 ? 'a\0' : 'b',
    } as never)
  }
  expect(await all(saver, 'many')).toHaveLength(205)
  const steps: unknown[] = []
  for await (const { metadata } of saver.list(of('many'), { filter: { tag: 'a\0' }, limit: 3 }))
    steps.push(metadata!.step)
  expect(steps).toEqual([203, 201, 199])
  const found: unknown[] = []
  for await (const { metadata } of saver.list(of('many'), { filter: { step: 7 } })) found.push(metadata!.step)
  expect(found).toEqual([7])
}, 60_000)

test('bad input', async () => {
  const saver = saverOf(ACME)
  const put = (config: object) => saver.put(config, checkpoint({}, {}), { source: 'input', step: 0, parents: {} })
  await expectError(put({}), 'invalid_argument', 'configurable.thread_id is missing')
  await expectError(put(of('a\0')), 'invalid_argument', 'configurable.thread_id contains a zero byte')
  await expectError(put(of('x'.repeat(513))), 'invalid_argument', 'more than 512 characters')
  await expectError(
    saver.putWrites(of('x'), [['a', 1]], 't'),
    'invalid_argument',
    'configurable.checkpoint_id is missing',
  )
  expect(await saver.getTuple({})).toBeUndefined()
  expect(await fixture.acme.sessions.find('x')).toBeUndefined()
})
