import { Kysely, PostgresDialect, sql } from 'kysely'
import pg from 'pg'
import { createRowhouse } from '../../src/index.ts'
import { withClient } from '../setup/connection.ts'
import { startDelayProxy } from './delay-proxy-support.ts'
import { median, percentile } from './percentile-support.ts'
import type { BenchContext } from './run.ts'

interface Tables {
  invoices: { tenant_id: string; id: number; note: string }
  plain_invoices: Tables['invoices']
}

/** What a tenant transaction costs, next to a bare query and to the transaction that everybody else writes. */
export default async function benchContext({ urls }: BenchContext): Promise<void> {
  await prepare(urls.owner!, urls.operator!)
  for (const roundTripMs of [1, 0]) {
    const proxy = await startDelayProxy(urls.app!, roundTripMs)
    const url = proxy.through(urls.app!)
    const pool = new pg.Pool({ connectionString: url })
    const plain = new Kysely<Tables>({ dialect: new PostgresDialect({ pool }) })
    const rowhouse = createRowhouse<Tables>({ connectionString: url })
    const pipelined = createRowhouse<Tables>({ connectionString: url, pipeline: true })

    const bare = (db: Kysely<Tables>) =>
      db.selectFrom('plain_invoices').select(['id', 'note']).where('tenant_id', '=', 'acme').where('id', '=', 10)
    const invoice = (db: Kysely<Tables>) => db.selectFrom('invoices').select(['id', 'note']).where('id', '=', 10)
    const calls: Record<string, { run: () => Promise<unknown>; target?: number }> = {
      'bare query': { run: () => bare(plain).execute() },
      'transaction, set_config': {
        run: () =>
          plain.transaction().execute(async (trx) => {
            await sql`select set_config('role', 'rowhouse_app', true), set_config('app.tenant_id', 'acme', true)`.execute(
              trx,
            )
            return invoice(trx).execute()
          }),
      },
      withTenant: { run: () => rowhouse.withTenant('acme', (db) => invoice(db).execute()), target: 3.3 },
      'withTenant, pipelined': { run: () => pipelined.withTenant('acme', (db) => invoice(db).execute()), target: 2.2 },
      'withTenant, 3 statements': {
        run: () => rowhouse.withTenant('acme', (db) => Promise.all([1, 2, 3].map(() => invoice(db).execute()))),
      },
      'the same, pipelined': {
        run: () => pipelined.withTenant('acme', (db) => Promise.all([1, 2, 3].map(() => invoice(db).execute()))),
      },
      query: { run: () => rowhouse.query('acme', invoice), target: 1.15 },
      'kysely(id)': { run: () => invoice(rowhouse.kysely('acme')).execute() },
    }
    await measureAll(calls, proxy.countFlights, roundTripMs)
    await Promise.all([plain.destroy(), rowhouse.close(), pipelined.close()])
    await proxy.stop()
  }
}

async function prepare(owner: string, operator: string): Promise<void> {
  await withClient(owner, (client) =>
    client.query(`
      create table plain_invoices (tenant_id text, id integer, note text, primary key (tenant_id, id));
      insert into plain_invoices select case i % 2 when 0 then 'acme' else 'globex' end, i, 'note ' || i
        from generate_series(1, 10000) i;
      create table invoices (like plain_invoices including all);
      insert into invoices select * from plain_invoices;
      select rowhouse.protect_table('invoices');
      analyze;
      grant select on plain_invoices to public;
    `),
  )
  await withClient(operator, (client) =>
    client.query("set role rowhouse_admin; select rowhouse.provision_tenant('acme')"),
  )
}

const ROUNDS = 40
const CALLS_PER_ROUND = 30

/**
 * In turns, so that a slow moment of the machine hits all of them, and each round in another order, so that what one
 * leaves behind (garbage, clean-ups) does not always hit the same one. The ratio is the median of those of the rounds,
 * each of the medians of its calls.
 */
async function measureAll(
  calls: Record<string, { run: () => Promise<unknown>; target?: number }>,
  countFlights: () => Promise<number>,
  roundTripMs: number,
): Promise<void> {
  const rounds: Record<string, number[][]> = {}
  const flights: Record<string, number> = {}
  for (let round = 0; round <= ROUNDS; round++) {
    for (const [name, { run }] of shuffle(Object.entries(calls))) {
      await countFlights()
      const samples: number[] = []
      for (let call = 0; call < CALLS_PER_ROUND; call++) {
        const begun = performance.now()
        await run()
        samples.push(performance.now() - begun)
      }
      flights[name] = (await countFlights()) / CALLS_PER_ROUND
      rounds[name] = [...(rounds[name] ?? []), samples]
    }
  }
  console.log(`round trip ${roundTripMs} ms${' '.repeat(14)}p50 ms   p95 ms   / bare   target   flights`)
  // The first round connects, checks, and lets the code warm up.
  const bare = rounds['bare query']!.slice(1).map(median)
  for (const name of Object.keys(calls)) {
    const counted = rounds[name]!.slice(1)
    const ratio = median(counted.map((samples, round) => median(samples) / bare[round]!))
    const target = roundTripMs > 0 ? calls[name]!.target : undefined
    const columns = [
      median(counted.flat()).toFixed(2),
      percentile(counted.flat(), 0.95).toFixed(2),
      ratio.toFixed(2),
      target === undefined ? '' : `${target}${ratio <= target ? '' : ' MISSED'}`,
      flights[name]!.toFixed(2),
    ]
    console.log(`${name.padEnd(26)}${columns.map((column) => column.padStart(9)).join('')}`)
  }
  console.log()
}

function shuffle<T>(items: T[]): T[] {
  for (let last = items.length - 1; last > 0; last--) {
    const other = Math.floor(Math.random() * (last + 1))
    ;[items[last], items[other]] = [items[other]!, items[last]!]
  }
  return items
}
