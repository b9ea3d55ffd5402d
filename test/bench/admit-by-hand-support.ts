import pg from 'pg'
import { withClient } from '../setup/connection.ts'

const QUOTAS = `'{concurrency,money_per_month,tokens_per_day,tokens_per_month}'`
const PERIODS = `'{2026-11-01,2026-11-01,2026-11-01,2026-11-01}'`
const PRICES = `'{"input_tokens": 0.000003, "output_tokens": 0.000015}'`

/** Tables of the same shape, which nothing protects, and in them an account and four counters for each tenant. */
export async function createTablesByHand(url: string, tenants: number): Promise<void> {
  await withClient(url, (client) =>
    client.query(`
      create schema by_hand;
      create table by_hand.accounts (tenant_id text primary key) with (fillfactor = 50);
      create table by_hand.counters (
        tenant_id text, name text, period_start timestamptz, allowance numeric, settled numeric not null default 0,
        reserved numeric not null default 0, primary key (tenant_id, name, period_start), check (settled + reserved <= allowance)
      ) with (fillfactor = 50);
      create table by_hand.reservations (
        tenant_id text, request_id text, model text, prices jsonb, quotas text[], periods timestamptz[], reserved numeric[],
        cost numeric, admitted_at timestamptz, expires_at timestamptz, primary key (tenant_id, request_id)
      ) with (fillfactor = 70);
      create index on by_hand.reservations (tenant_id, expires_at);
      create table by_hand.events (
        tenant_id text, request_id text, model text, units jsonb, prices jsonb, cost numeric, quotas text[],
        periods timestamptz[], amounts numeric[], occurred_at timestamptz, recorded_at timestamptz,
        primary key (tenant_id, request_id)
      );
      create index on by_hand.events (tenant_id, occurred_at);
      create index on by_hand.events (tenant_id, recorded_at);
      insert into by_hand.accounts select 't' || n from generate_series(0, ${tenants - 1}) n;
      insert into by_hand.counters
        select 't' || n, q.name, '2026-11-01', 1e12 from generate_series(0, ${tenants - 1}) n, unnest(${QUOTAS}::text[]) q (name);
      analyze by_hand.accounts, by_hand.counters;
      grant usage on schema by_hand to public;
      grant all on all tables in schema by_hand to public`),
  )
}

/**
 * What somebody would write by hand for one call: the account locked, four counters, a reservation, then an event in its
 * place, in two transactions of one round trip each. It asks for no limit but the one that the table has, for no price,
 * lease, circuit, model or repeated request, and no policy is asked.
 */
export async function writePairByHand(pool: pg.Pool, tenant: string, request: string): Promise<void> {
  const [id, requestId] = [pg.escapeLiteral(tenant), pg.escapeLiteral(request)]
  const lock = `begin; select from by_hand.accounts where tenant_id = ${id} for update`
  const counters = `c.tenant_id = ${id} and c.name = any (${QUOTAS}) and c.period_start = '2026-11-01'`
  await pool.query(`${lock};
    with booked as (update by_hand.counters c set reserved = c.reserved + 1 where ${counters})
    insert into by_hand.reservations
      values (${id}, ${requestId}, 'large', ${PRICES}, ${QUOTAS}, ${PERIODS}, '{1,1,1,1}', 0.0156, now(), now() + interval '1 minute');
    commit`)
  await pool.query(`${lock};
    with ended as (delete from by_hand.reservations r where r.tenant_id = ${id} and r.request_id = ${requestId}),
      booked as (update by_hand.counters c set reserved = c.reserved - 1, settled = c.settled + 1 where ${counters})
    insert into by_hand.events
      values (${id}, ${requestId}, 'large', '{"input_tokens": 1200, "output_tokens": 300}', ${PRICES}, 0.0081, ${QUOTAS}, ${PERIODS},
        '{1,1,1,1}', now(), now());
    commit`)
}
