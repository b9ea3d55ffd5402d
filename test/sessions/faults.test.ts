// What breaks in the middle of an append leaves all of it or nothing, and the next call works.
import { setTimeout as sleep } from 'node:timers/promises'
import { sql } from 'kysely'
import { describe, expect, test } from 'vitest'
import { createRowhouse } from '../../src/index.ts'
import { expectError } from '../documents/fixture.ts'
import { poll } from '../setup/connection.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { startProxy } from '../setup/proxy.ts'
import { openSessions, waitUntilBlocked } from '../setup/sessions.ts'
import { ACME, say, texts, useSessions } from './fixture.ts'

const database = useDatabase()
const fixture = useSessions(database)

describe('the backend is terminated', needs('parallelBackends', 'superuser'), () => {
  test('while an append waits: nothing is written, and repeating it writes it once', async () => {
    const { sessions } = fixture.acme
    const { id } = await sessions.create()
    await sessions.append(id, [say('before')])
    const { holder } = await openSessions(database, { holder: 'app' })
    const superuser = await database.connect('superuser')
    await holder.run(`begin; set local role rowhouse_app; set local app.tenant_id = '${ACME}'`)
    await holder.run(`select rowhouse.lock_session('${id}')`)
    const failure = sessions.append(id, [say('a'), say('b')], { expectedLength: 1 }).then(
      () => undefined,
      (error: Error) => error,
    )
    const pid = await poll(
      async () => {
        const { rows } = await superuser.query(
          "select pid from pg_stat_activity where datname = current_database() and query like '%append_messages%' and wait_event_type = 'Lock'",
        )
        return rows[0]?.pid as number | undefined
      },
      { message: () => 'the append does not wait' },
    )
    await waitUntilBlocked(pid)
    await superuser.query('select pg_terminate_backend($1)', [pid])
    expect(await failure).toBeInstanceOf(Error)
    await holder.run('rollback')
    expect(texts((await sessions.messages(id)).messages)).toEqual(['before'])
    await sessions.append(id, [say('a'), say('b')], { expectedLength: 1 })
    expect(texts((await sessions.messages(id)).messages)).toEqual(['before', 'a', 'b'])
  })

  test('inside withTenant, after an append: nothing is written', async () => {
    const { sessions } = fixture.acme
    const { id } = await sessions.create()
    const superuser = await database.connect('superuser')
    const failure = fixture.rowhouse.withTenant(ACME, async (db, tenant) => {
      await tenant.sessions.append(id, [say('lost')])
      const { rows } = await sql<{ pid: number }>`select pg_backend_pid() as pid`.execute(db)
      await superuser.query('select pg_terminate_backend($1)', [rows[0]!.pid])
      await tenant.sessions.append(id, [say('lost too')])
    })
    await expect(failure).rejects.toThrow()
    expect((await sessions.messages(id)).messages).toEqual([])
    expect(await sessions.get(id)).toMatchObject({ messageCount: 0 })
  })
})

test('a connection cut at any moment leaves whole appends, and an expected length makes repeating safe', {
  ...needs('parallelBackends'),
  timeout: 60_000,
}, async () => {
  const { sessions: straight } = fixture.acme
  const { id } = await straight.create()
  const proxy = await startProxy(database.url('app'))
  const rowhouse = createRowhouse({ connectionString: proxy.url, poolOptions: { max: 2 } })
  try {
    const { sessions } = rowhouse.tenant(ACME)
    const appendOnce = async (round: number) => {
      // As an application does: on an unknown outcome ask again with the same expectation.
      for (;;) {
        try {
          await sessions.append(id, [say(`${round}a`), say(`${round}b`)], { expectedLength: 2 * round })
          return
        } catch (error) {
          if ((error as { code?: string }).code === 'session_changed') return
        }
      }
    }
    for (let round = 0; round < 15; round++) {
      const appending = appendOnce(round)
      await sleep(round % 5)
      proxy.cut()
      await appending
    }
  } finally {
    await rowhouse.close()
    await proxy.close()
  }
  const expected = Array.from({ length: 15 }, (_, round) => [`${round}a`, `${round}b`]).flat()
  expect(texts((await straight.messages(id)).messages)).toEqual(expected)
})

test('backends that are terminated at any moment lose and double nothing, whoever writes', {
  ...needs('parallelBackends', 'superuser'),
  timeout: 120_000,
}, async () => {
  const rowhouse = createRowhouse({ connectionString: database.url('app'), poolOptions: { max: 4 } })
  const superuser = await database.connect('superuser')
  const { sessions } = rowhouse.tenant(ACME)
  const { id } = await fixture.acme.sessions.create()
  let writing = true
  let broken = 0
  // Each message is to be written once: whoever does not know asks whether it is there before writing it again.
  const write = async (text: string) => {
    for (;;) {
      try {
        const { messages } = await sessions.messages(id, { limit: 1000 })
        if (texts(messages).includes(text)) return
        await sessions.append(id, [say(text)], { expectedLength: messages.length })
        return
      } catch (error) {
        if ((error as { code?: string }).code !== 'session_changed') broken++
      }
    }
  }
  const terminate = async () => {
    while (writing) {
      await superuser.query(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and query like '%append_messages%' and pid <> pg_backend_pid() order by random() limit 1",
      )
      await sleep(3)
    }
  }
  const terminating = terminate()
  const write20 = async (writer: number) => {
    for (let round = 0; round < 20; round++) await write(`${writer}.${round}`)
  }
  await Promise.all([0, 1, 2, 3].map(write20))
  writing = false
  await terminating
  await rowhouse.close()
  const found = texts((await fixture.acme.sessions.messages(id, { limit: 1000 })).messages) as string[]
  expect(found).toHaveLength(80)
  expect(new Set(found).size).toBe(80)
  for (const writer of [0, 1, 2, 3]) {
    const own = found.filter((text) => text.startsWith(`${writer}.`))
    expect(own).toEqual(Array.from({ length: 20 }, (_, round) => `${writer}.${round}`))
  }
  expect(await fixture.acme.sessions.get(id)).toMatchObject({ messageCount: 80 })
  // It did happen.
  expect(broken).toBeGreaterThan(0)
})

test('no connection left in the pool: a clear error, and nothing written', needs('parallelBackends'), async () => {
  const pool = database.pool('app', { max: 1 })
  const rowhouse = createRowhouse({ pool })
  const { sessions } = rowhouse.tenant(ACME)
  const { id } = await sessions.create()
  // From here on: to connect takes as long as it takes.
  pool.options.connectionTimeoutMillis = 200
  const holding = Promise.withResolvers<void>()
  const release = Promise.withResolvers<void>()
  const held = rowhouse.withTenant(ACME, async (_db, tenant) => {
    await tenant.sessions.get(id)
    holding.resolve()
    await release.promise
  })
  await holding.promise
  const error = await expectError(
    sessions.append(id, [say('late')]),
    'connection_failed',
    'connections of the pool are in use',
  )
  expect(error.retryable).toBe(true)
  release.resolve()
  await held
  expect((await sessions.messages(id)).messages).toEqual([])
  await sessions.append(id, [say('now')])
  expect(texts((await sessions.messages(id)).messages)).toEqual(['now'])
})
