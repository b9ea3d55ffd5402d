-- Quotas and budgets: which limits hold for a tenant, and what it used of them.
--
-- Everything that changes counters first locks the row of the tenant's account (lock_account), reads the time after
-- that, and whatever needs room gives back what expired. So the counters of a tenant change in one order, and there is nothing to deadlock on.
-- Depends on: protect.sql, context.sql, locks.sql, rowhouse.quotas. Proven by: test/budgets.

select rowhouse.protect_table('rowhouse.quota_overrides');
select rowhouse.protect_table('rowhouse.accounts');
select rowhouse.protect_table('rowhouse.quota_counters');
select rowhouse.protect_table('rowhouse.quota_events');

-- Written by functions alone: a tenant reads its limits and counters, and changes none of them.
revoke insert, update, delete
  on rowhouse.quota_overrides, rowhouse.accounts, rowhouse.quota_counters, rowhouse.quota_events
  from rowhouse_app;

-- The functions that write these do the work of the write guard themselves, once (enter_tenant_write): what a
-- suspended tenant used is booked and billed.
drop trigger rowhouse_guard on rowhouse.accounts;
drop trigger rowhouse_guard on rowhouse.quota_counters;
drop trigger rowhouse_guard on rowhouse.quota_events;

do $$
declare
  v_table regclass;
begin
  foreach v_table in array array['rowhouse.quotas', 'rowhouse.quota_defaults', 'rowhouse.tier_models']::regclass[] loop
    execute format('alter table %s enable row level security, force row level security', v_table);
    execute format('drop policy if exists everybody_reads on %s', v_table);
    execute format('create policy everybody_reads on %s for select to public using (true)', v_table);
    execute format('comment on policy everybody_reads on %s is %L', v_table, 'Limits of tiers; no data of tenants.');
    execute format('drop policy if exists owner_all on %s', v_table);
    execute format('create policy owner_all on %s for all to rowhouse_owner using (true) with check (true)', v_table);
    execute format('comment on policy owner_all on %s is %L', v_table, 'The functions of rowhouse write the limits of tiers.');
    execute format('revoke all on %s from public, rowhouse_app, rowhouse_admin', v_table);
    execute format('grant select on %s to rowhouse_app, rowhouse_admin', v_table);
  end loop;
end
$$;

-- Periods --------------------------------------------------------------------------------------------------------------

-- Plain SQL over their arguments, so that the planner inlines them: each decision needs them for each quota.
-- The period of a quota that is not rolling counts from its start to its end; the buckets of a rolling one are sixtieths.

create or replace function rowhouse.rolling_bucket(p_window_ms bigint, p_at timestamptz, p_back_ms bigint) returns timestamptz
  language sql immutable parallel safe
  return to_timestamp(
    (floor(extract(epoch from p_at) * 1000)::bigint - p_back_ms) / ((p_window_ms + 59) / 60) * ((p_window_ms + 59) / 60) / 1000.0);

comment on function rowhouse.rolling_bucket(bigint, timestamptz, bigint) is
  'When the bucket of a rolling quota begins, a sixtieth of its window long, that holds the moment p_back_ms before p_at.';

create or replace function rowhouse.quota_period_start(p_period text, p_window_ms bigint, p_time_zone text, p_at timestamptz)
  returns timestamptz
  language sql stable parallel safe
  return case
    when p_period in ('total', 'request') then 'epoch'::timestamptz
    when p_period = 'rolling' then rowhouse.rolling_bucket(p_window_ms, p_at, 0)
    else date_trunc(p_period, p_at, p_time_zone)
  end;

comment on function rowhouse.quota_period_start(text, bigint, text, timestamptz) is
  'When the period of a quota began of which counter is booked what is used at a time.';

create or replace function rowhouse.quota_counted_from(p_window_ms bigint, p_period_start timestamptz, p_at timestamptz)
  returns timestamptz
  language sql stable parallel safe
  -- A bucket counts until all of it is older than the window.
  return case when p_window_ms is null then p_period_start else rowhouse.rolling_bucket(p_window_ms, p_at, p_window_ms) end;

comment on function rowhouse.quota_counted_from(bigint, timestamptz, timestamptz) is
  'From which period on the counters of a quota count at a time.';

create or replace function rowhouse.quota_period_end(p_period text, p_window_ms bigint, p_time_zone text, p_at timestamptz)
  returns timestamptz
  language sql stable parallel safe
  return case
    when p_period = 'rolling' then p_at + p_window_ms * interval '1 millisecond'
    -- An hour of which the clock is set back comes twice, and each of them is one hour long.
    when p_period = 'hour' then date_trunc('hour', p_at, p_time_zone) + interval '1 hour'
    when p_period not in ('total', 'request') then
      -- By the calendar of the zone: a day may have 23 or 25 hours, and may begin at 01:00.
      (date_trunc(p_period, p_at at time zone p_time_zone) + ('1 ' || p_period)::interval) at time zone p_time_zone
  end;

comment on function rowhouse.quota_period_end(text, bigint, text, timestamptz) is
  'When what is booked at a time is free again at the latest; null: never.';

create or replace function rowhouse.effective_quotas(p_tenant text, p_tier text, p_time_zone text, p_at timestamptz)
  returns table (
    name text, metric text, period text, window_ms bigint, source text, hard_limit numeric, soft_limit numeric,
    period_start timestamptz, period_end timestamptz, settled numeric, reserved numeric, overrun numeric, counted boolean)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    select q.name, q.metric, q.period, q.window_ms,
        case when o.name is not null then 'tenant' when d.name is not null then 'tier' else 'default' end,
        case when o.name is not null then o.hard_limit when d.name is not null then d.hard_limit else e.hard_limit end,
        case when o.name is not null then o.soft_limit when d.name is not null then d.soft_limit else e.soft_limit end,
        p.period_start, rowhouse.quota_period_end(q.period, q.window_ms, p_time_zone, p_at),
        coalesce(c.settled, 0), coalesce(c.reserved, 0), coalesce(c.overrun, 0), coalesce(c.counted, false)
      from rowhouse.quotas q
      left join rowhouse.quota_overrides o on o.tenant_id = p_tenant and o.name = q.name
      left join rowhouse.quota_defaults d on d.tier = p_tier and d.name = q.name
      left join rowhouse.quota_defaults e on e.tier = '*' and e.name = q.name
      cross join lateral (values (rowhouse.quota_period_start(q.period, q.window_ms, p_time_zone, p_at))) p (period_start)
      cross join lateral (
        select sum(n.settled) as settled, sum(n.reserved) as reserved, sum(n.overrun) as overrun,
            bool_or(n.period_start = p.period_start) as counted
          from rowhouse.quota_counters n
          where n.tenant_id = p_tenant and n.name = q.name
            and n.period_start between rowhouse.quota_counted_from(q.window_ms, p.period_start, p_at) and p.period_start) c
      where o.name is not null or d.name is not null or e.name is not null
      order by q.name;
end
$$;

comment on function rowhouse.effective_quotas(text, text, text, timestamptz) is
  'The quotas that hold for a tenant (its own limits, else those of its tier, else those of tier *), with what is used of each. counted: whether the counter of the period exists.';

create or replace function rowhouse.quota_status()
  returns table (
    name text, metric text, period text, window_ms bigint, source text, hard_limit numeric, soft_limit numeric,
    used numeric, reserved numeric, overrun numeric, free numeric, period_start timestamptz, period_end timestamptz)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_now timestamptz := clock_timestamp();
begin
  return query
    select e.name, e.metric, e.period, e.window_ms, e.source, e.hard_limit, e.soft_limit, e.settled,
        e.reserved - x.amount, e.overrun,
        case when e.hard_limit is not null then greatest(e.hard_limit - e.settled - e.reserved + x.amount - e.overrun, 0) end,
        e.period_start, e.period_end
      from rowhouse.tenants t
      left join rowhouse.accounts a on a.tenant_id = t.tenant_id
      cross join lateral rowhouse.effective_quotas(v_tenant, t.tier, coalesce(a.time_zone, 'UTC'), v_now) e
      cross join lateral (
        -- What the next admission will give back.
        select coalesce(sum(b.amount), 0) as amount
          from rowhouse.reservations r
          cross join lateral unnest(r.quotas, r.periods, r.reserved) b (name, period_start, amount)
          where r.tenant_id = v_tenant and r.status = 'active' and r.expires_at <= v_now and b.name = e.name
            and b.period_start between rowhouse.quota_counted_from(e.window_ms, e.period_start, v_now) and e.period_start) x
      where t.tenant_id = v_tenant;
end
$$;

comment on function rowhouse.quota_status() is
  'Every quota of the tenant of the transaction: limits and where they come from, what is used, reserved and free. used + reserved + free = hard_limit, unless overrun is above 0, or the limit was lowered below what is used and reserved: then free is 0.';

-- Accounts -------------------------------------------------------------------------------------------------------------

-- Without a search path of its own, as begin_tenant_write.
create or replace function rowhouse.lock_account(
  p_statuses text[] default '{active}', p_waits boolean default true
) returns rowhouse.locked_account
  language plpgsql volatile
as $$
declare
  v_lock_key bigint := rowhouse.begin_tenant_write(true, p_waits);
  v_tenant text := rowhouse.require_tenant();
  v_account rowhouse.accounts;
  v_state record;
  v_entered boolean := false;
begin
  loop
    if p_waits then
      select a.* into v_account from rowhouse.accounts a where a.tenant_id = v_tenant for update;
    else
      select a.* into v_account from rowhouse.accounts a where a.tenant_id = v_tenant for update skip locked;
    end if;
    -- As check_tenant_write; a transaction whose snapshot is older than the lock must look again.
    select t.tier, t.lock_key = v_lock_key and t.status = any (p_statuses)
          and current_setting('transaction_isolation') = 'read committed' as may_work,
        (v_account.terms).tier = t.tier
          and (v_account.terms).revision = (select r.revision from rowhouse.limits_revision r) as has_terms
      into v_state
      from rowhouse.tenants t
      where t.tenant_id = v_tenant;
    exit when v_account.tenant_id is not null and (v_state.may_work or v_entered);
    if not p_waits then
      return null;
    end if;
    perform rowhouse.enter_tenant_write(p_statuses);
    v_entered := true;
    insert into rowhouse.accounts (tenant_id) values (v_tenant) on conflict (tenant_id) do nothing;
  end loop;
  -- The row is locked: nobody's change to this tenant's counters has a later time. Nor is it rolled up already, even if
  -- the clock was set back.
  return (v_tenant, v_state.tier, v_account.currency, v_account.time_zone, v_account.models,
    case when v_state.has_terms then v_account.terms end, v_account.has_open_circuit,
    greatest(clock_timestamp(), v_account.rolled_up_to + interval '1 microsecond'))::rowhouse.locked_account;
end
$$;

comment on function rowhouse.lock_account(text[], boolean) is
  'What enter_tenant_write does, and locks the account of the tenant until the transaction ends; creates it if need be. Returns the tenant, how it is billed, the models that are its own list (null: those of its tier), its terms (null: renew_terms makes them), whether a circuit of it is open, and the time of all decisions. p_waits: false returns null instead of waiting, raising or creating anything.';

create or replace function rowhouse.open_account(p_statuses text[] default '{active}') returns rowhouse.locked_account
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_account rowhouse.locked_account := rowhouse.lock_account(p_statuses);
begin
  if exists (
    select from rowhouse.reservations r
      where r.tenant_id = v_account.tenant and r.status = 'active' and r.expires_at <= v_account.opened_at)
  then
    perform rowhouse.expire_reservations(v_account.tenant, v_account.opened_at);
  end if;
  return v_account;
end
$$;

comment on function rowhouse.open_account(text[]) is 'lock_account, and gives back what expired reservations held.';

create or replace function rowhouse.begin_periods(p_account record, p_names text[], p_periods timestamptz[], p_hard_limits numeric[]) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  insert into rowhouse.quota_counters (tenant_id, name, period_start, allowance)
    select p_account.tenant, b.name, b.period_start, b.hard_limit
      from unnest(p_names, p_periods, p_hard_limits) b (name, period_start, hard_limit)
    on conflict (tenant_id, name, period_start) do nothing;
  -- Counters of rolling quotas that count nothing any more.
  delete from rowhouse.quota_counters c
    using rowhouse.quotas q
    where c.tenant_id = p_account.tenant and q.name = c.name and q.period = 'rolling' and c.reserved = 0
      and c.period_start < p_account.opened_at - 2 * q.window_ms * interval '1 millisecond';
end
$$;

comment on function rowhouse.begin_periods(record, text[], timestamptz[], numeric[]) is
  'Creates the counters of periods that have none, and deletes those of rolling quotas that count nothing any more. p_account: as lock_account returns it.';

create or replace function rowhouse.give_back_quotas(p_tenant text, p_names text[], p_periods timestamptz[], p_amounts numeric[]) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_names text[];
  v_periods timestamptz[];
  v_windows bigint[];
  v_amounts numeric[];
  v_used numeric[];
begin
  select array_agg(g.name), array_agg(g.period_start), case when bool_or(q.window_ms is not null) then array_agg(q.window_ms) end,
      array_agg(g.amount), array_agg(0::numeric)
    into v_names, v_periods, v_windows, v_amounts, v_used
    from (
      select u.name, u.period_start, sum(u.amount) as amount
        from unnest(p_names, p_periods, p_amounts) u (name, period_start, amount)
        group by u.name, u.period_start) g
    left join rowhouse.quotas q on q.name = g.name;
  -- Nothing was used, so no soft limit is crossed.
  perform rowhouse.book_quotas(p_tenant, v_names, v_periods, v_windows, v_amounts, v_used, '{}');
end
$$;

comment on function rowhouse.give_back_quotas(text, text[], timestamptz[], numeric[]) is
  'Takes amounts out of what is reserved; they may be of several calls.';

-- Without a search path of its own, as begin_tenant_write.
create or replace function rowhouse.book_quotas(
  p_tenant text, p_names text[], p_periods timestamptz[], p_windows bigint[], p_given_back numeric[], p_used numeric[],
  p_soft_limits numeric[], p_hard_limits numeric[] default null
) returns boolean
  language plpgsql volatile
as $$
declare
  v_now timestamptz := clock_timestamp();
  v_crosses boolean;
begin
  -- Of most calls the allowance alone decides, in half the time: settled and reserved never pass it, so what was reserved
  -- has room.
  if p_hard_limits is null and p_windows is null then
    with booked as (
      update rowhouse.quota_counters c
        set reserved = c.reserved - b.given_back,
          settled = least(c.settled + c.overrun + b.used, coalesce(c.allowance, 'Infinity') - c.reserved + b.given_back),
          overrun = greatest(c.settled + c.overrun + b.used - coalesce(c.allowance, 'Infinity') + c.reserved - b.given_back, 0)
        from (
          -- Side by side: as functions in from, each array would become a table first.
          select unnest(p_names) as name, unnest(p_periods) as period_start, unnest(p_given_back) as given_back,
              unnest(p_used) as used, unnest(p_soft_limits) as soft_limit) b
        where c.tenant_id = p_tenant and c.name = b.name and c.period_start = b.period_start
          and (b.given_back <> 0 or b.used <> 0)
        returning c.settled + c.overrun >= b.soft_limit as crosses)
    select coalesce(bool_or(b.crosses), false) into v_crosses from booked b;
    return v_crosses;
  end if;
  with booked as (
    update rowhouse.quota_counters c
      set reserved = c.reserved - b.given_back,
        allowance = case when p_hard_limits is null then c.allowance
          when b.hard_limit is not null then greatest(b.hard_limit, w.held + c.settled + c.reserved - b.given_back) end,
        (settled, overrun) = (
          select s.settled, u.used - s.settled
            from (values (c.settled + c.overrun + b.used)) u (used)
            cross join lateral (values (
              coalesce(case when p_hard_limits is null then c.allowance else b.hard_limit end, 'Infinity'))) l (allowance)
            cross join lateral (values (least(u.used, greatest(
              -- What the call had reserved has room, and so has what was settled before.
              c.settled + greatest(least(b.used, b.given_back), 0),
              least(l.allowance, greatest(l.allowance, w.allowance) - w.taken) - c.reserved + b.given_back)))) s (settled))
      from (
          select unnest(p_names) as name, unnest(p_periods) as period_start, unnest(p_windows) as window_ms,
              unnest(p_given_back) as given_back, unnest(p_used) as used, unnest(p_soft_limits) as soft_limit,
              unnest(p_hard_limits) as hard_limit) b
        cross join lateral (
          -- Sixtieths of one window share its limit: what the others have taken is no room for this one. Those before it
          -- leave the window first, and what they were allowed goes with them.
          select coalesce(sum(o.settled + o.reserved), 0) as held, coalesce(sum(o.settled + o.reserved + o.overrun), 0) as taken,
              max(coalesce(o.allowance, 'Infinity')) filter (where o.period_start > b.period_start) as allowance
            from rowhouse.quota_counters o
            where b.window_ms is not null and o.tenant_id = p_tenant and o.name = b.name and o.period_start <> b.period_start
              and o.period_start >= rowhouse.rolling_bucket(b.window_ms, v_now, b.window_ms)) w
      where c.tenant_id = p_tenant and c.name = b.name and c.period_start = b.period_start
        and (b.given_back <> 0 or b.used <> 0)
      returning c.settled + c.overrun >= b.soft_limit as crosses)
  select coalesce(bool_or(b.crosses), false) into v_crosses from booked b;
  return v_crosses;
end
$$;

comment on function rowhouse.book_quotas(text, text[], timestamptz[], bigint[], numeric[], numeric[], numeric[], numeric[]) is
  'Takes amounts out of what is reserved and adds what one call used, as far as the allowance goes; the rest is overrun, which becomes settled as soon as there is room. p_windows: lengths of those that are rolling (null: none is). p_hard_limits: the limits as they are now (null: none), for what was not admitted; without them the allowances hold. Says whether a soft limit is used up.';

create or replace function rowhouse.note_crossed_limits(p_account record, p_names text[], p_periods timestamptz[]) returns text[]
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_crossed text[];
begin
  with crossed as (
    insert into rowhouse.quota_events (tenant_id, name, period_start, soft_limit, used, crossed_at)
      select p_account.tenant, e.name, b.period_start, e.soft_limit, u.used, p_account.opened_at
        from unnest(p_names, p_periods) b (name, period_start)
        join rowhouse.effective_quotas(p_account.tenant, p_account.tier, p_account.time_zone, p_account.opened_at) e on e.name = b.name
        cross join lateral (
          -- The period that was booked may be over.
          select case when e.window_ms is not null or b.period_start = e.period_start then e.settled + e.overrun else (
            select c.settled + c.overrun from rowhouse.quota_counters c
              where c.tenant_id = p_account.tenant and c.name = b.name and c.period_start = b.period_start) end as used) u
        where u.used >= e.soft_limit
          -- Of a rolling quota once in the length of its window, not for each sixtieth.
          and not exists (
            select from rowhouse.quota_events v
              where v.tenant_id = p_account.tenant and v.name = e.name and v.soft_limit = e.soft_limit
                and v.crossed_at > p_account.opened_at - e.window_ms * interval '1 millisecond')
      on conflict (tenant_id, name, period_start, soft_limit) do nothing
      returning name)
  select coalesce(array_agg(distinct c.name order by c.name), '{}') into v_crossed from crossed c;
  if v_crossed <> '{}' then
    -- Old ones go when there are new ones, but those of quotas that never start anew.
    delete from rowhouse.quota_events v
      where v.tenant_id = p_account.tenant and v.crossed_at < p_account.opened_at - interval '400 days' and v.period_start <> 'epoch';
  end if;
  return v_crossed;
end
$$;

comment on function rowhouse.note_crossed_limits(record, text[], timestamptz[]) is
  'Notes which of these quotas are used up to their soft limit in these periods, once for each period (rolling: window) and soft limit, and returns those noted now. p_account: as lock_account returns it.';

revoke execute on function
  rowhouse.rolling_bucket(bigint, timestamptz, bigint), rowhouse.quota_period_start(text, bigint, text, timestamptz),
  rowhouse.quota_counted_from(bigint, timestamptz, timestamptz), rowhouse.quota_period_end(text, bigint, text, timestamptz),
  rowhouse.effective_quotas(text, text, text, timestamptz),
  rowhouse.quota_status(), rowhouse.lock_account(text[], boolean), rowhouse.open_account(text[]),
  rowhouse.begin_periods(record, text[], timestamptz[], numeric[]), rowhouse.give_back_quotas(text, text[], timestamptz[], numeric[]),
  rowhouse.book_quotas(text, text[], timestamptz[], bigint[], numeric[], numeric[], numeric[], numeric[]),
  rowhouse.note_crossed_limits(record, text[], timestamptz[])
  from public;
grant execute on function
  rowhouse.rolling_bucket(bigint, timestamptz, bigint), rowhouse.quota_period_start(text, bigint, text, timestamptz),
  rowhouse.quota_counted_from(bigint, timestamptz, timestamptz), rowhouse.quota_period_end(text, bigint, text, timestamptz),
  rowhouse.effective_quotas(text, text, text, timestamptz),
  rowhouse.quota_status()
  to rowhouse_app;
