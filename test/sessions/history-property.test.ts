// For random histories over several tenants, what a tenant reads is what a model says that saw this tenant's operations
// only.
import fc from 'fast-check'
import { beforeAll, expect, test } from 'vitest'
import type { Session, Sessions } from '../../src/index.ts'
import { expectError } from '../documents/fixture.ts'
import { useDatabase } from '../setup/database.ts'
import { ACME, GLOBEX, provision, say, texts, useSessions } from './fixture.ts'

const database = useDatabase()
const fixture = useSessions(database)
const TENANTS = [ACME, GLOBEX, 'initech']
beforeAll(() => provision(database, 'initech'))

/** What one tenant did, and nothing else. */
interface Model {
  readonly sessions: Map<string, { metadata: object; texts: string[] }>
}

interface World {
  readonly models: Map<string, Model>
  /** All ids that any tenant ever got; tenants try those of others as well. */
  readonly ids: string[]
}

type Operation =
  | { kind: 'create'; tenant: string; metadata: { note: string } }
  | { kind: 'append'; tenant: string; target: number; texts: string[] }
  | { kind: 'update'; tenant: string; target: number; metadata: { note: string } }
  | { kind: 'fork' | 'delete' | 'touch'; tenant: string; target: number }

const tenant = fc.constantFrom(...TENANTS)
const target = fc.nat(1000)
const metadata = fc.record({ note: fc.string({ maxLength: 5, unit: fc.constantFrom('a', 'ü', '👋', '"', '\\') }) })
const operation: fc.Arbitrary<Operation> = fc.oneof(
  fc.record({ kind: fc.constant('create'), tenant, metadata }),
  fc.record({
    kind: fc.constant('append'),
    tenant,
    target,
    texts: fc.array(fc.string({ maxLength: 5, unit: fc.constantFrom('x', 'é', '{', '\n') }), {
      minLength: 1,
      maxLength: 3,
    }),
  }),
  fc.record({ kind: fc.constant('update'), tenant, target, metadata }),
  fc.record({ kind: fc.constantFrom('fork', 'delete', 'touch'), tenant, target }),
)

async function run(world: World, step: Operation): Promise<void> {
  const { sessions } = fixture.rowhouse.tenant(step.tenant)
  const model = world.models.get(step.tenant)!
  if (step.kind === 'create') {
    const { id } = await sessions.create({ metadata: step.metadata })
    model.sessions.set(id, { metadata: step.metadata, texts: [] })
    world.ids.push(id)
    return
  }
  const id = world.ids[step.target % world.ids.length]
  if (id === undefined) return
  const known = model.sessions.get(id)
  if (step.kind === 'delete') {
    expect(await sessions.delete(id)).toBe(known !== undefined)
    model.sessions.delete(id)
  } else if (known === undefined) {
    await expectError(change(sessions, id, step), 'session_not_found', /^the session does not exist$/)
  } else {
    const forked = await change(sessions, id, step)
    if (step.kind === 'append') known.texts.push(...step.texts)
    if (step.kind === 'update') known.metadata = step.metadata
    if (step.kind === 'fork') {
      model.sessions.set(forked!.id, { metadata: known.metadata, texts: [...known.texts] })
      world.ids.push(forked!.id)
    }
  }
}

async function change(sessions: Sessions, id: string, step: Operation): Promise<Session | undefined> {
  switch (step.kind) {
    case 'append':
      await sessions.append(
        id,
        step.texts.map((text) => say(text)),
      )
      return undefined
    case 'update':
      return sessions.update(id, { metadata: step.metadata })
    case 'touch':
      return sessions.touch(id)
    default:
      return sessions.fork(id)
  }
}

/** Everything that the tenant reads is what its model says, whatever ids it tries. */
async function expectLaw(world: World, tenantId: string): Promise<void> {
  const { sessions } = fixture.rowhouse.tenant(tenantId)
  const model = world.models.get(tenantId)!
  const listed = (await sessions.list({ limit: 1000 })).sessions.filter(({ id }) => world.ids.includes(id))
  expect(listed.map(({ id }) => id).sort()).toEqual([...model.sessions.keys()].sort())
  for (const id of new Set(world.ids)) {
    const known = model.sessions.get(id)
    const session = await sessions.get(id)
    if (known === undefined) {
      expect(session).toBeUndefined()
      await expectError(sessions.messages(id), 'session_not_found', /^the session does not exist$/)
      continue
    }
    expect(session).toMatchObject({ tenantId, metadata: known.metadata, messageCount: known.texts.length })
    expect(texts((await sessions.messages(id)).messages)).toEqual(known.texts)
  }
}

test('a tenant lives as if it were alone', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(operation, { minLength: 5, maxLength: 25 }), async (steps) => {
      const world: World = { models: new Map(TENANTS.map((id) => [id, { sessions: new Map() }])), ids: [] }
      for (const step of steps) await run(world, step)
      for (const tenantId of TENANTS) await expectLaw(world, tenantId)
    }),
    { numRuns: 20 },
  )
}, 120_000)
