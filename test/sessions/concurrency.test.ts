// Appends to one session come one after another: nothing is lost, doubled or torn apart, whoever else writes.
import { describe, expect, test } from 'vitest'
import { RowhouseError } from '../../src/index.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { openSessions, waitUntilBlocked } from '../setup/sessions.ts'
import { ACME, say, texts, useSessions } from './fixture.ts'

const database = useDatabase()
const fixture = useSessions(database, { poolSize: 16 })

test('the order of each of 16 writers survives', async () => {
  const { sessions } = fixture.acme
  const { id } = await sessions.create()
  const write = async (writer: number) => {
    for (let round = 0; round < 10; round++) {
      await sessions.append(id, [say(`${writer}.${round}.0`), say(`${writer}.${round}.1`), say(`${writer}.${round}.2`)])
    }
  }
  await Promise.all(Array.from({ length: 16 }, (_, writer) => write(writer)))
  const { messages } = await sessions.messages(id, { limit: 1000 })
  const found = texts(messages) as string[]
  expect(found).toHaveLength(480)
  expect(await sessions.get(id)).toMatchObject({ messageCount: 480 })
  const expected = Array.from({ length: 30 }, (_, index) => `${Math.floor(index / 3)}.${index % 3}`)
  for (let writer = 0; writer < 16; writer++) {
    const own = found.filter((text) => text.startsWith(`${writer}.`)).map((text) => text.slice(text.indexOf('.') + 1))
    expect(own).toEqual(expected)
  }
  // What was appended together stands together.
  for (let index = 0; index < found.length; index += 3) {
    const prefix = found[index]!.slice(0, -1)
    expect(found.slice(index, index + 3)).toEqual([`${prefix}0`, `${prefix}1`, `${prefix}2`])
  }
  const ids = messages.map((message) => message.id)
  expect(new Set(ids).size).toBe(480)
  expect([...ids].sort()).toEqual(ids)
}, 60_000)

test('one of several that expect the same length wins', needs('parallelBackends'), async () => {
  const { sessions } = fixture.acme
  const { id } = await sessions.create()
  const outcomes = await Promise.allSettled(
    Array.from({ length: 8 }, (_, writer) => sessions.append(id, [say(`${writer}`)], { expectedLength: 0 })),
  )
  const lost = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason] : []))
  expect(lost).toHaveLength(7)
  for (const reason of lost) expect(reason).toMatchObject({ code: 'session_changed' })
  expect((await sessions.messages(id)).messages).toHaveLength(1)
})

describe('beside another transaction', needs('parallelBackends'), () => {
  const enter = `begin; set local role rowhouse_app; set local app.tenant_id = '${ACME}'`
  const append = (id: string, text: string) =>
    `select * from rowhouse.append_messages('${id}', array['user'], array['[{"type":"text","text":"${text}"}]']::json[])`

  test('an append waits for an append to the same session, and for no other', async () => {
    const { sessions } = fixture.acme
    const [one, other] = [await sessions.create(), await sessions.create()]
    const { first, second } = await openSessions(database, { first: 'app', second: 'app' })
    await first.run(enter)
    await first.run(append(one.id, 'first'))
    await second.run(enter)
    await second.run(append(other.id, 'aside'))
    const waiting = second.run(append(one.id, 'second'))
    await waitUntilBlocked(second)
    await first.run('commit')
    await waiting
    await second.run('commit')
    expect(texts((await sessions.messages(one.id)).messages)).toEqual(['first', 'second'])
    expect(await sessions.get(one.id)).toMatchObject({ messageCount: 2 })
  })

  test('an append that waited for a rollback comes alone', async () => {
    const { sessions } = fixture.acme
    const { id } = await sessions.create()
    const { first, second } = await openSessions(database, { first: 'app', second: 'app' })
    await first.run(enter)
    await first.run(append(id, 'undone'))
    await second.run(enter)
    const waiting = second.run(append(id, 'kept'))
    await waitUntilBlocked(second)
    await first.run('rollback')
    await waiting
    await second.run('commit')
    expect(texts((await sessions.messages(id)).messages)).toEqual(['kept'])
    expect(await sessions.get(id)).toMatchObject({ messageCount: 1 })
  })

  test('an append that waited for a deletion finds no session, and leaves nothing', async () => {
    const { sessions } = fixture.acme
    const { id } = await sessions.create()
    const { first, second } = await openSessions(database, { first: 'app', second: 'app' })
    await first.run(enter)
    await first.run(`select rowhouse.delete_session('${id}')`)
    await second.run(enter)
    const waiting = second.run(append(id, 'late')).then(
      () => undefined,
      (error: unknown) => error,
    )
    await waitUntilBlocked(second)
    await first.run('commit')
    expect(await waiting).toMatchObject({ code: 'RH060' })
    await second.run('rollback')
    const left = await fixture.rowhouse.query(ACME, (db) =>
      db.selectFrom('rowhouse.messages').where('session_id', '=', id).selectAll(),
    )
    expect(left).toEqual([])
  })

  test('a deletion that waited for an append takes its messages along', async () => {
    const { sessions } = fixture.acme
    const { id } = await sessions.create()
    const { first, second } = await openSessions(database, { first: 'app', second: 'app' })
    await first.run(enter)
    await first.run(append(id, 'early'))
    await second.run(enter)
    const waiting = second.run(`select rowhouse.delete_session('${id}')`)
    await waitUntilBlocked(second)
    await first.run('commit')
    await waiting
    await second.run('commit')
    const left = await fixture.rowhouse.query(ACME, (db) =>
      db.selectFrom('rowhouse.messages').where('session_id', '=', id).selectAll(),
    )
    expect(left).toEqual([])
    await expect(sessions.messages(id)).rejects.toThrow(RowhouseError)
  })
})
