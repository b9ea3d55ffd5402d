import { afterAll, beforeAll } from 'vitest'
import { createRowhouse, type Message, type NewMessage, type Rowhouse, type TenantContext } from '../../src/index.ts'
import { asOperator } from '../documents/fixture.ts'
import type { TestDatabase } from '../setup/database.ts'

export const ACME = 'acme'
export const GLOBEX = 'globex'

export interface SessionsFixture {
  rowhouse: Rowhouse
  acme: TenantContext
  globex: TenantContext
}

/** rowhouse on the database of the file, with the tenants acme and globex. */
export function useSessions(database: TestDatabase, { poolSize = 5 } = {}): SessionsFixture {
  const fixture = {} as SessionsFixture
  beforeAll(async () => {
    fixture.rowhouse = createRowhouse({
      pool: database.pool('app', { max: poolSize }),
      admin: { pool: database.pool('operator', { max: 2 }) },
    })
    for (const tenantId of [ACME, GLOBEX]) await provision(database, tenantId)
    fixture.acme = fixture.rowhouse.tenant(ACME)
    fixture.globex = fixture.rowhouse.tenant(GLOBEX)
  })
  afterAll(() => fixture.rowhouse?.close())
  return fixture
}

export async function provision(database: TestDatabase, tenantId: string, tier = 'free', settings = {}): Promise<void> {
  const operator = await database.connect('operator')
  await asOperator(operator, 'select rowhouse.provision_tenant($1, null, $2, $3)', tenantId, tier, settings)
}

/** A message of one text part, of so many tokens. */
export function say(text: string, tokenCount?: number): NewMessage {
  return { role: 'user', content: text, tokenCount }
}

export function call(id: string, tokenCount?: number): NewMessage {
  return { role: 'assistant', content: [{ type: 'tool_call', id, name: 'look_up', arguments: {} }], tokenCount }
}

export function result(callId: string, tokenCount?: number): NewMessage {
  return { role: 'tool', content: [{ type: 'tool_result', callId, result: 'found' }], tokenCount }
}

/** The text of messages that have one text part. */
export function texts(messages: readonly Message[]): unknown[] {
  return messages.map(({ content }) => content[0]?.text)
}
