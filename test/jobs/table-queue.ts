// The smallest queue library: one table, looked at in a loop. The adapters of real libraries: test/compat/frameworks.
import type pg from 'pg'
import type { JobQueue } from '../../src/index.ts'
import type { Jobs } from '../../src/jobs/jobs.ts'

export const tableQueue: JobQueue = {
  name: 'table',
  schema: 'wakes',
  requires: { relation: 'wake_ups', hint: 'Create the table wakes.wake_ups.' },
  wakeUps: `
    insert into wakes.wake_ups (id, payload, at, priority)
      select w.id, jsonb_build_object('tenantId', p_tenant, 'id', w.id), w.at, w.priority
        from jsonb_to_recordset(p_put) w (id uuid, at timestamptz, priority integer);
    delete from wakes.wake_ups where id = any (p_cancel);`,
}

export const CREATE_TABLE_QUEUE = `create schema wakes;
  create table wakes.wake_ups (id uuid primary key, payload jsonb not null, at timestamptz not null, priority integer not null)`

export interface WakeUp {
  readonly id: string
  readonly payload: { tenantId: string; id: string }
  readonly at: Date
}

/** What waits, in the order in which it comes. */
export async function wakeUps(owner: pg.ClientBase): Promise<WakeUp[]> {
  const { rows } = await owner.query<WakeUp>(
    'select id, payload, at from wakes.wake_ups order by priority desc, at, id',
  )
  return rows
}

/** Takes the next wake-up that is due. */
export async function takeWakeUp(owner: pg.ClientBase): Promise<unknown> {
  const { rows } = await owner.query<{ payload: unknown }>(`
    delete from wakes.wake_ups where id = (
      select id from wakes.wake_ups where at <= clock_timestamp() order by priority desc, at, id limit 1 for update skip locked)
      returning payload`)
  return rows[0]?.payload
}

/** Works on what is due, one after another, until nothing is. Returns how many wake-ups came. */
export async function drain(owner: pg.ClientBase, jobs: Pick<Jobs, 'work'>): Promise<number> {
  for (let count = 0; ; count++) {
    const payload = await takeWakeUp(owner)
    if (payload === undefined) return count
    await jobs.work(payload)
  }
}

/** As if so much time had passed, for everything that waits. */
export async function passTime(owner: pg.Client, tenantId: string, interval: string): Promise<void> {
  await owner.query(`begin; set local role rowhouse_owner; set local app.tenant_id = '${tenantId}';
    update rowhouse.jobs set run_at = run_at - interval '${interval}', lease_until = lease_until - interval '${interval}',
      finished_at = finished_at - interval '${interval}';
    commit;
    update wakes.wake_ups set at = at - interval '${interval}' where payload ->> 'tenantId' = '${tenantId}'`)
}
