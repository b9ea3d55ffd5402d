import { type ChildProcess, fork } from 'node:child_process'
import { join } from 'node:path'
import type pg from 'pg'
import { defineJobs, getCurrentTenant, type JobQueue, type Jobs, type RunningJob, type Task } from 'rowhouse'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { type BoundaryFixture, openRowhouse } from '../../audit/support.ts'
import type { TestDatabase } from '../../setup/database.ts'

const ACME = 'acme'
const GLOBEX = 'globex'

/** A queue library as the tests use it. */
export interface Library {
  readonly queue: JobQueue
  /** Makes the tables of the library, as their owner. */
  prepare(ownerUrl: string): Promise<void>
  /** Starts a worker; resolves to what stops it. */
  start(
    ownerUrl: string,
    jobs: Pick<Jobs, 'work'>,
    options: { readonly concurrency: number },
  ): Promise<() => Promise<void>>
  /** A worker in a process of its own: `node <program> <url of the application> <url of the owner>`. */
  readonly program: string
  /** Everything that the library has written down of jobs, as text. */
  written(owner: pg.Client): Promise<string>
  /** Writes a wake-up by hand. */
  forge(owner: pg.Client, payload: object): Promise<void>
  /** How many wake-ups are to come. */
  pending(owner: pg.Client): Promise<number>
}

/** What holds for jobs, whatever library wakes workers up. */
export function describeJobs(database: TestDatabase, fixture: BoundaryFixture, library: Library): void {
  let owner: pg.Client
  let jobs: Jobs<{ act: Task; count: Task }>
  let handler: (payload: any, job: RunningJob) => unknown = () => {}
  const stops: (() => Promise<void>)[] = []
  const children: ChildProcess[] = []
  const startWorker = async (concurrency = 4) => {
    const stop = await library.start(database.url('owner'), jobs, { concurrency })
    stops.push(stop)
    return stop
  }
  const status =
    (id: string, tenantId = ACME) =>
    async () =>
      (await jobs.get(id, { tenantId }))?.status
  const until = (id: string, wanted: string, tenantId = ACME) =>
    expect.poll(status(id, tenantId), { timeout: 15_000, interval: 50 }).toBe(wanted)

  beforeAll(async () => {
    owner = await database.connect('owner')
    await library.prepare(database.url('owner'))
    jobs = defineJobs(fixture.rowhouse, {
      queue: library.queue,
      tasks: {
        act: { handler: (payload: any, job) => handler(payload, job), retryAfterMs: () => 100 },
        count: { handler: () => {}, leaseMs: 1000 },
      },
    })
    const asOwner = openRowhouse(database, { pool: database.pool('owner', { max: 1 }), admin: undefined })
    await asOwner.installJobQueue(library.queue)
    await asOwner.installJobQueue(library.queue)
    await asOwner.close()
  })
  afterEach(async () => {
    handler = () => {}
    for (const child of children.splice(0)) child.kill('SIGKILL')
    for (const stop of stops.splice(0)) await stop()
  })
  afterAll(async () => {
    for (const stop of stops.splice(0)) await stop()
  })

  test('a job is made in the transaction of its tenant, and runs as it', { timeout: 30_000 }, async () => {
    const seen: unknown[] = []
    handler = async (payload, job) => {
      seen.push([payload, getCurrentTenant(), await job.step('one', () => 1)])
      if (payload === 'parent') await jobs.enqueue('act', 'child')
    }
    const rolledBack = fixture.rowhouse.withTenant(ACME, async () => {
      await jobs.enqueue('act', 'never')
      throw new Error('no')
    })
    await expect(rolledBack).rejects.toThrow('no')
    expect(await library.pending(owner)).toBe(0)
    await startWorker()
    const { runId } = await fixture.rowhouse.withTenant(ACME, () => jobs.enqueue('act', 'parent'))
    const inGlobex = await jobs.enqueue('act', 'other', { tenantId: GLOBEX })
    await expect
      .poll(async () => (await jobs.run(runId, { tenantId: ACME }))!.jobs.map((job) => job.status), { timeout: 15_000 })
      .toEqual(['done', 'done'])
    await until(inGlobex.id, 'done', GLOBEX)
    expect(seen.sort()).toEqual([
      ['child', ACME, 1],
      ['other', GLOBEX, 1],
      ['parent', ACME, 1],
    ])
    await expect.poll(() => library.pending(owner), { timeout: 15_000 }).toBe(0)
  })

  test('the library learns neither payloads nor errors; priorities and keys hold', { timeout: 30_000 }, async () => {
    const order: unknown[] = []
    handler = (payload, job) => {
      if (job.attempt > 1) return
      order.push(payload.number)
      throw new Error('canary in an error')
    }
    const ids: string[] = []
    for (const number of [1, 2, 3]) {
      const made = await jobs.enqueue(
        'act',
        { number, text: 'canary in a payload' },
        { tenantId: ACME, priority: number },
      )
      ids.push(made.id)
    }
    const replaced = await jobs.enqueue('act', { number: 4 }, { tenantId: ACME, key: 'k' })
    expect(await jobs.enqueue('act', { number: 5 }, { tenantId: ACME, key: 'k' })).toEqual({
      ...replaced,
      created: false,
    })
    const inGlobex = await jobs.enqueue('act', { number: 6 }, { tenantId: GLOBEX, key: 'k' })
    expect(inGlobex.created).toBe(true)
    expect(await library.pending(owner)).toBe(5)
    const seen = [await library.written(owner)]
    // While an attempt runs, and when it has failed.
    const inner = handler
    handler = async (payload, job) => {
      seen.push(await library.written(owner))
      return inner(payload, job)
    }
    await startWorker(1)
    for (const id of [...ids, replaced.id]) await until(id, 'done')
    await until(inGlobex.id, 'done', GLOBEX)
    expect(order.slice(0, 3)).toEqual([3, 2, 1])
    expect(order).not.toContain(4)
    seen.push(await library.written(owner))
    expect(seen[0]).toContain(ACME)
    expect(seen.length).toBeGreaterThan(8)
    expect(seen.join()).not.toContain('canary')
  })

  test('forged wake-ups find nothing', { timeout: 30_000 }, async () => {
    const ran: unknown[] = []
    handler = (payload, job) => ran.push([payload, job.tenantId])
    const later = await jobs.enqueue('act', 'of globex', { tenantId: GLOBEX, runAt: new Date(Date.now() + 3_600_000) })
    await library.forge(owner, { tenantId: GLOBEX, id: later.id })
    await library.forge(owner, { tenantId: ACME, id: crypto.randomUUID() })
    await library.forge(owner, { something: 'else' })
    await startWorker()
    // Which all others come after.
    const { id } = await jobs.enqueue('act', 'genuine', { tenantId: ACME, priority: -1000 })
    await until(id, 'done')
    await expect.poll(() => library.pending(owner), { timeout: 15_000 }).toBe(1)
    expect(ran).toEqual([['genuine', ACME]])
    expect(await jobs.cancel(later.id, { tenantId: GLOBEX })).toBe(true)
    expect(await library.pending(owner)).toBe(0)
  })

  test('jobs of a suspended tenant wait until it is resumed; those of an erased one are gone', {
    timeout: 30_000,
  }, async () => {
    const ran: unknown[] = []
    handler = (payload) => ran.push(payload)
    const tenantId = `erased-${library.queue.name}`
    await fixture.rowhouse.tenants.provision(tenantId)
    const { id } = await jobs.enqueue('act', 'resumed', { tenantId })
    await fixture.rowhouse.tenants.suspend(tenantId)
    await startWorker()
    await expect.poll(() => library.pending(owner), { timeout: 15_000 }).toBe(0)
    expect(ran).toEqual([])
    await fixture.rowhouse.tenants.resume(tenantId)
    await until(id, 'done', tenantId)
    await jobs.enqueue('act', 'erased', { tenantId, runAt: new Date(Date.now() + 1500) })
    const receipt = await fixture.rowhouse.tenants.erase(tenantId)
    expect(receipt.tables['rowhouse.jobs']).toBe(2)
    await expect.poll(() => library.pending(owner), { timeout: 15_000 }).toBe(0)
    expect(ran).toEqual(['resumed'])
  })

  test('the job of a worker that was killed is taken by another one, without its steps', {
    timeout: 40_000,
  }, async () => {
    const child = fork(join(import.meta.dirname, library.program), [database.url('app'), database.url('owner')], {
      execArgv: ['--import', join(import.meta.dirname, '../../setup/resolve-source.ts')],
    })
    children.push(child)
    const { id } = await jobs.enqueue('count', null, { tenantId: ACME })
    await new Promise((resolve, reject) => {
      child.once('message', resolve)
      child.once('exit', (code) => reject(new Error(`the process ended with ${code}`)))
    })
    child.kill('SIGKILL')
    const state = fixture.rowhouse.tenant(ACME).state
    const other = defineJobs(fixture.rowhouse, {
      queue: library.queue,
      tasks: {
        count: async (_payload: null, job) => {
          await job.step('before', () => job.tenant.state.increment('before'))
          await job.step('after', () => job.tenant.state.increment('after'))
        },
      },
    })
    stops.push(await library.start(database.url('owner'), other, { concurrency: 4 }))
    await until(id, 'done')
    expect(await jobs.get(id, { tenantId: ACME })).toMatchObject({ attempts: 2 })
    expect([await state.get('before'), await state.get('after')]).toEqual([1, 1])
  })

  test('two workers do a hundred jobs of two tenants, each once', { timeout: 60_000 }, async () => {
    const done: string[] = []
    handler = (payload, job) => done.push(`${job.tenantId} ${payload}`)
    const all = Array.from({ length: 100 }, (_, index) => [index % 2 ? ACME : GLOBEX, index] as const)
    await startWorker()
    await startWorker()
    await Promise.all(all.map(([tenantId, index]) => jobs.enqueue('act', index, { tenantId })))
    await expect.poll(() => done.length, { timeout: 40_000 }).toBe(100)
    expect([...done].sort()).toEqual(all.map(([tenantId, index]) => `${tenantId} ${index}`).sort())
  })

  test('the application can not write to the library, and nobody but rowhouse may wake up', async () => {
    const { schema } = library.queue
    const call = async (sql: string) => {
      await fixture.app.query(`begin; set local role rowhouse_app; set local app.tenant_id = '${ACME}'`)
      await fixture.app.query(sql).finally(() => fixture.app.query('rollback'))
    }
    await expect(call(`select ${schema}.rowhouse_wake_ups('${GLOBEX}', '[]', '{}')`)).rejects.toMatchObject({
      code: '42501',
    })
    const { rows } = await owner.query(
      `select p.prosecdef, p.proconfig, p.proowner = n.nspowner as own, has_function_privilege('public', p.oid, 'execute') as everybody
        from pg_proc p join pg_namespace n on n.oid = p.pronamespace
        where n.nspname = $1 and p.proname = 'rowhouse_wake_ups'`,
      [schema],
    )
    expect(rows).toEqual([
      { prosecdef: true, proconfig: ['search_path=pg_catalog, pg_temp'], own: true, everybody: false },
    ])
  })
}
