-- Retention of usage: old events go, what they add up to stays.
--
-- Rollups are kept for ever, so reports stay what they were. Nothing may be recorded any more in an hour whose
-- events go: usage is recorded within 31 days, and a call that was never settled is forgotten 30 days after its lease. So
-- events stay for 32 days at least, and as long as a call that was admitted before them may still settle.
-- Depends on: usage.sql, retention.sql. Proven by: test/usage/retention.test.ts.

create or replace function rowhouse.sweep_usage_events(p_limit integer default 1000) returns integer
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_account record;
  v_before timestamptz;
  v_deleted integer;
begin
  perform rowhouse.rollup_usage();
  v_account := rowhouse.open_account();
  -- Forgets calls of a month ago too, which open_account does only when another one has expired.
  perform rowhouse.expire_reservations(v_tenant, v_account.opened_at);
  v_before := date_trunc('hour', least(
    v_account.opened_at - greatest(rowhouse.retention_days('usage'), 32) * interval '1 day',
    (select min(r.admitted_at) from rowhouse.reservations r where r.tenant_id = v_tenant)), 'UTC');
  update rowhouse.accounts a set events_from = v_before where a.tenant_id = v_tenant and a.events_from < v_before;
  with old as (
    select u.request_id, u.part from rowhouse.usage_events u
      where u.tenant_id = v_tenant and u.occurred_at < v_before
      order by u.occurred_at limit p_limit
  ), gone as (
    delete from rowhouse.usage_events u using old o
      where u.tenant_id = v_tenant and u.request_id = o.request_id and u.part = o.part
      returning u.quotas, u.periods, u.amounts
  ), kept as (
    -- The books still balance: what was counted stays counted.
    update rowhouse.quota_counters c set archived = c.archived + b.amount
      from (
        select b.name, b.period_start, sum(b.amount) as amount
          from gone g cross join lateral unnest(g.quotas, g.periods, g.amounts) b (name, period_start, amount)
          group by b.name, b.period_start) b
      where c.tenant_id = v_tenant and c.name = b.name and c.period_start = b.period_start
  )
  select count(*) into v_deleted from gone;
  return v_deleted;
end
$$;

comment on function rowhouse.sweep_usage_events(integer) is
  'Deletes up to this many usage events of the tenant that are older than it keeps them (usage in the object retentionDays of its settings, else by its tier; 32 days at least), and returns how many; fewer when no more are left. Rollups and counters stay.';

revoke execute on function rowhouse.sweep_usage_events(integer) from public;
grant execute on function rowhouse.sweep_usage_events(integer) to rowhouse_app;
