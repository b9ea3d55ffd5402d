import pg from 'pg'

/** What one writes without rowhouse. */
export async function createTable(owner: pg.Client): Promise<void> {
  await owner.query(`
    create table plain_requests (id bigint generated always as identity primary key, tenant_id text not null, taken_at timestamptz);
    create index on plain_requests (id) where taken_at is null;
    grant select, insert, update, delete on plain_requests to public`)
}

const TAKE = `
  update plain_requests set taken_at = clock_timestamp()
    where id = (select id from plain_requests where taken_at is null order by id limit 1 for update skip locked)
    returning id`

interface Request {
  readonly work: () => Promise<void> | void
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

/**
 * A table of requests, and one worker for each slot, which takes the oldest request with `for update skip locked`, does
 * it, deletes it, and goes on. Idle workers are woken by NOTIFY.
 */
export class PulledQueue {
  readonly #pool: pg.Pool
  readonly #listener: pg.Client
  readonly #requests = new Map<string, Request>()
  readonly #idle: (() => void)[] = []
  /** Wake-ups that came while every worker was busy. */
  #wakeUps = 0
  readonly #workers: Promise<void>[]
  #closed = false

  private constructor(pool: pg.Pool, listener: pg.Client, slots: number) {
    this.#pool = pool
    this.#listener = listener
    listener.on('notification', () => {
      const wake = this.#idle.shift()
      if (wake === undefined) this.#wakeUps = Math.min(slots, this.#wakeUps + 1)
      else wake()
    })
    this.#workers = Array.from({ length: slots }, () => this.#work())
  }

  static async open(pool: pg.Pool, url: string, slots: number): Promise<PulledQueue> {
    const listener = new pg.Client(url)
    await listener.connect()
    await listener.query('listen plain_requests')
    return new PulledQueue(pool, listener, slots)
  }

  async run(tenant: string, work: () => Promise<void> | void, onQueued?: () => void): Promise<void> {
    const { rows } = await this.#pool.query<{ id: string }>(
      `with written as (insert into plain_requests (tenant_id) values ($1) returning id)
        select id, pg_notify('plain_requests', '') from written`,
      [tenant],
    )
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    this.#requests.set(rows[0]!.id, { work, resolve, reject })
    onQueued?.()
    return promise
  }

  /** Takes nothing more, whatever is left. */
  async stop(): Promise<void> {
    this.#closed = true
    await this.#pool.query('delete from plain_requests where taken_at is null')
  }

  async close(): Promise<void> {
    this.#closed = true
    for (const wake of this.#idle.splice(0)) wake()
    await Promise.all(this.#workers)
    await this.#listener.end()
  }

  async #work(): Promise<void> {
    while (!this.#closed) {
      const { rows } = await this.#pool.query<{ id: string }>(TAKE)
      const [taken] = rows
      if (taken === undefined) {
        if (this.#closed) return
        if (this.#wakeUps > 0) {
          this.#wakeUps--
          continue
        }
        const { promise, resolve } = Promise.withResolvers<void>()
        this.#idle.push(resolve)
        await promise
        continue
      }
      // A worker may be faster than the answer to whom it works for.
      while (!this.#requests.has(taken.id)) await new Promise(setImmediate)
      const { work, resolve, reject } = this.#requests.get(taken.id)!
      this.#requests.delete(taken.id)
      try {
        await work()
        await this.#pool.query('delete from plain_requests where id = $1', [taken.id])
        resolve()
      } catch (error) {
        reject(error)
      }
    }
  }
}
