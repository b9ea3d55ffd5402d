import type { Kysely } from 'kysely'
import { createRowhouse, type Rowhouse } from '../../src/index.ts'
import { withClient } from '../setup/connection.ts'
import { median } from './percentile-support.ts'
import type { BenchContext } from './run.ts'

interface Tables {
  invoices: { tenant_id: string; id: number; note: string }
}

const KEY = 'a key of the benchmark, of more than 32 bytes'
const ROUNDS = 20
const CALLS_PER_ROUND = 200
/** Milliseconds that sealing may add to a transaction. */
const TARGET_MS = 0.2

/** What sealed contexts add to a transaction, on a server without a network in between. */
export default async function benchSeals({ urls }: BenchContext): Promise<void> {
  await prepare(urls.owner!, urls.operator!)
  const owner = createRowhouse<Tables>({ connectionString: urls.owner!, poolOptions: { max: 1 } })
  await owner.seals.addKey(KEY)
  const rowhouse = createRowhouse<Tables>({ connectionString: urls.app!, seal: KEY, poolOptions: { max: 1 } })
  const plain = createRowhouse<Tables>({ connectionString: urls.app!, poolOptions: { max: 1 } })
  const calls: Record<string, (on: Rowhouse<Tables>) => Promise<unknown>> = {
    'query, one row': (on) => on.query('acme', (db) => read(db, 1)),
    'query, 1,000 rows': (on) => on.query('acme', (db) => read(db, 1000)),
    'withTenant, read and write': (on) =>
      on.withTenant('acme', async (db) => {
        await read(db, 1).execute()
        await db.updateTable('invoices').set({ note: 'changed' }).where('id', '=', 2).execute()
      }),
  }
  const times: Record<string, Record<'plain' | 'sealed', number[]>> = {}
  for (let round = 0; round <= ROUNDS; round++) {
    for (const mode of ['plain', 'sealed'] as const) {
      await owner.seals.require(mode === 'sealed')
      const on = mode === 'sealed' ? rowhouse : plain
      for (const [name, call] of Object.entries(calls)) {
        await call(on)
        const begun = performance.now()
        for (let index = 0; index < CALLS_PER_ROUND; index++) await call(on)
        const perCall = (performance.now() - begun) / CALLS_PER_ROUND
        times[name] ??= { plain: [], sealed: [] }
        if (round > 0) times[name][mode].push(perCall)
      }
    }
  }
  console.log('ms per transaction             plain   sealed    added   target')
  for (const [name, { plain: without, sealed }] of Object.entries(times)) {
    const [before, after] = [median(without), median(sealed)]
    const columns = [before, after, after - before].map((value) => value.toFixed(3).padStart(9)).join('')
    console.log(
      `${name.padEnd(27)}${columns}${`${TARGET_MS}`.padStart(9)}${after - before > TARGET_MS ? ' MISSED' : ''}`,
    )
  }
  await Promise.all([owner.close(), rowhouse.close(), plain.close()])
}

function read(db: Kysely<Tables>, rows: number) {
  return db.selectFrom('invoices').select(['id', 'note']).where('id', '<=', rows)
}

async function prepare(owner: string, operator: string): Promise<void> {
  await withClient(owner, (client) =>
    client.query(`
      create table invoices (tenant_id text not null, id integer, note text, primary key (tenant_id, id));
      insert into invoices select t, i, 'note ' || i from unnest(array['acme', 'globex']) t, generate_series(1, 5000) i;
      select rowhouse.protect_table('invoices', p_partition => true);
      analyze;
    `),
  )
  await withClient(operator, (client) =>
    client.query("set role rowhouse_admin; select rowhouse.provision_tenant('acme')"),
  )
}
