/**
 * Channels: how long a message takes from the call to the subscriber of another process, and how many are published a
 * second, beside `pg_notify` alone and an insert with `pg_notify` as one would write it by hand (which loses the order).
 */
import pg from 'pg'
import { createRowhouse, type Rowhouse } from '../../src/index.ts'
import type { BenchContext } from './run.ts'

const SECONDS = 3
const CALLERS = 8
const CHANNELS = 1000
const MESSAGES = 500
const PAYLOAD = { type: 'said', text: 'x'.repeat(200) }

export default async function bench({ urls: { owner, app } }: BenchContext): Promise<void> {
  const admin = new pg.Client(owner)
  await admin.connect()
  await admin.query(`create table outbox (id bigserial primary key, channel text not null, payload jsonb not null);
    grant select, insert on outbox to public; grant usage on sequence outbox_id_seq to public`)
  await admin.end()
  const options = { connectionString: app!, poolOptions: { max: CALLERS } }
  const [publisher, subscriber] = [createRowhouse(options), createRowhouse(options)]
  const pool = new pg.Pool({ connectionString: app!, max: CALLERS })
  try {
    await latency(publisher, subscriber)
    const room = (name: string) => publisher.tenant('default').channel(name)
    const anyChannel = () => `c${Math.floor(Math.random() * CHANNELS)}`
    await throughput('pg_notify alone', () => pool.query('select pg_notify($1, $2)', ['bench', anyChannel()]))
    await throughput('insert and pg_notify by hand', () =>
      pool.query(
        "with written as (insert into outbox (channel, payload) values ($1, $2) returning id) select pg_notify('bench', id::text) from written",
        [anyChannel(), JSON.stringify(PAYLOAD)],
      ),
    )
    await throughput(`publish, ${CHANNELS} channels`, () => room(anyChannel()).publish(PAYLOAD))
    await throughput('publish, 1 channel', () => room('one').publish(PAYLOAD))
  } finally {
    await pool.end()
    await publisher.close()
    await subscriber.close()
  }
}

async function latency(publisher: Rowhouse, subscriber: Rowhouse): Promise<void> {
  const took: number[] = []
  let begun = 0
  let heard = () => {}
  await using _subscription = await subscriber
    .tenant('default')
    .channel('latency')
    .subscribe(() => {
      took.push(performance.now() - begun)
      heard()
    })
  for (let n = 0; n < MESSAGES; n++) {
    const arrived = new Promise<void>((resolve) => {
      heard = resolve
    })
    begun = performance.now()
    await publisher.tenant('default').channel('latency').publish(PAYLOAD)
    await arrived
  }
  took.sort((one, other) => one - other)
  const at = (share: number) => `${took[Math.floor(took.length * share)]!.toFixed(1)} ms`
  console.log(`from publish to the handler in another pool: p50 ${at(0.5)}, p95 ${at(0.95)}, p99 ${at(0.99)}`)
}

async function throughput(name: string, call: () => Promise<unknown>): Promise<void> {
  let count = 0
  const until = performance.now() + SECONDS * 1000
  await Promise.all(
    Array.from({ length: CALLERS }, async () => {
      for (; performance.now() < until; count++) await call()
    }),
  )
  console.log(`${name}: ${Math.round(count / SECONDS).toLocaleString('en')} a second, ${CALLERS} at once`)
}
