import { createHash } from 'node:crypto'
import type pg from 'pg'
import { type QueueSlot, type QueueTicket, type Rowhouse, RowhouseError } from '../../src/index.ts'
import { useRowhouse } from '../audit/support.ts'
import type { TestDatabase } from '../setup/database.ts'

/** A tenant of the tier `queue` that is held back by nothing but its share. */
export async function provisionFor(rowhouse: Rowhouse, ...tenants: readonly string[]): Promise<void> {
  for (const tenant of tenants) {
    await rowhouse.tenants.provision(tenant, { tier: 'queue' })
    await rowhouse.quotas.set(tenant, 'concurrency', { limit: null })
  }
}

export interface TicketRow {
  readonly tenant: string
  readonly ticket: string
  readonly running: boolean
}

/** Works on a queue by SQL alone, as any tenant, without a clock: every decision follows from the calls. */
export class QueueDriver {
  readonly #app: pg.Client
  readonly #owner: pg.Client
  readonly #queue: string

  constructor(app: pg.Client, owner: pg.Client, queue: string) {
    this.#app = app
    this.#owner = owner
    this.#queue = queue
  }

  static async open(database: TestDatabase, queue: string): Promise<QueueDriver> {
    return new QueueDriver(await database.connect('app'), await database.connect('owner'), queue)
  }

  /** The same connections, on another queue. */
  on(queue: string): QueueDriver {
    return new QueueDriver(this.#app, this.#owner, queue)
  }

  /** The id of ticket number n in this queue. */
  #ticket(number: number): string {
    return `${this.#prefix}${String(number).padStart(12, '0')}`
  }

  get #prefix(): string {
    return `${createHash('sha256').update(this.#queue).digest('hex').slice(0, 8)}-0000-4000-8000-`
  }

  async join(tenant: string, number: number, cost = 1): Promise<'waiting' | 'running'> {
    const rows = await this.#as(
      tenant,
      `select status from rowhouse.join_queue('${this.#queue}', '${this.#ticket(number)}', ${cost}, 86400000, 86400000, 86400000)`,
    )
    return rows[0].status
  }

  /** Many requests at once, with these numbers. */
  async joinMany(tenant: string, from: number, to: number): Promise<void> {
    await this.#as(
      tenant,
      `select rowhouse.join_queue('${this.#queue}', ('${this.#prefix}' || lpad(i::text, 12, '0'))::uuid, 1, 86400000, 86400000, 86400000)
        from generate_series(${from}, ${to}) i`,
    )
  }

  async leave(tenant: string, number: number): Promise<string> {
    const rows = await this.#as(
      tenant,
      `select rowhouse.leave_queue('${this.#queue}', '${this.#ticket(number)}') as was`,
    )
    return rows[0].was
  }

  /** Lets what a request holds end now, as if its process had died long enough ago. */
  async expire(number: number): Promise<void> {
    await this.#asRowhouse(
      `update rowhouse.queue_tickets set expires_at = clock_timestamp() - interval '1 ms' where ticket = '${this.#ticket(number)}'`,
    )
  }

  /** Those that wait or hold a slot, in the order in which they came. */
  async tickets(): Promise<TicketRow[]> {
    return this.#asRowhouse(
      `select tenant_id as tenant, ticket, granted_at is not null as running from rowhouse.queue_tickets
        where queue = '${this.#queue}' order by serial`,
    )
  }

  /** Numbers of those that hold a slot. */
  async running(): Promise<number[]> {
    const tickets = await this.tickets()
    return tickets.filter(({ running }) => running).map(({ ticket }) => Number(ticket.slice(-12)))
  }

  /** What is counted and isn't so. */
  async differences(): Promise<unknown[]> {
    return this.#asRowhouse(`
      select q.name, q.busy as counted, count(t.ticket) as found from rowhouse.queues q
        left join rowhouse.queue_tickets t on t.queue = q.name and t.granted_at is not null
        group by q.name having q.busy <> count(t.ticket)
      union all
      select n.tenant_id, n.waiting * 1000000 + n.running, count(t.ticket) filter (where t.granted_at is null) * 1000000
          + count(t.ticket) filter (where t.granted_at is not null)
        from rowhouse.queue_tenants n left join rowhouse.queue_tickets t on t.queue = n.queue and t.tenant_id = n.tenant_id
        group by n.queue, n.tenant_id
        having n.waiting <> count(t.ticket) filter (where t.granted_at is null)
          or n.running <> count(t.ticket) filter (where t.granted_at is not null)
      union all
      select t.tenant_id, 0, 1 from rowhouse.queue_tickets t
        where not exists (select from rowhouse.queue_tenants n where n.queue = t.queue and n.tenant_id = t.tenant_id)`)
  }

  async #as(tenant: string, sql: string): Promise<any[]> {
    return run(this.#app, `set local role rowhouse_app; set local app.tenant_id = '${tenant}'; ${sql}`)
  }

  async #asRowhouse(sql: string): Promise<any[]> {
    return run(this.#owner, `set local role rowhouse_owner; ${sql}`)
  }
}

/** The rows of the last statement. */
async function run(client: pg.Client, sql: string): Promise<any[]> {
  try {
    const results = (await client.query(`begin; ${sql}; commit`)) as unknown as pg.QueryResult[]
    return results.at(-2)!.rows
  } catch (error) {
    await client.query('rollback')
    throw error
  }
}

/** Gives back what tests of a file hold. */
export async function giveBack(...held: readonly (QueueSlot | QueueTicket)[]): Promise<void> {
  for (const one of held) await ('release' in one ? one.release() : one.cancel())
}

/** The error of a call that must fail with one of ours. */
export async function errorOf<E extends RowhouseError = RowhouseError>(call: Promise<unknown>): Promise<E> {
  const error = await call.then(
    (value) => new Error(`resolved to ${JSON.stringify(value)}`),
    (reason: unknown) => reason as Error,
  )
  if (error instanceof RowhouseError) return error as E
  throw error
}

export { useRowhouse }
