-- Usage: what tenants used, what it cost, and reports of it.
--
-- Events come from settle and record_usage, are append-only and exact. Rollups are made from them by the quarter of an
-- hour, of which hours and days in all time zones are made. Whoever records holds the account of the tenant, so times of
-- recording are in the order of commits, and everything after accounts.rolled_up_to is new. Reports add that to the
-- rollups: nothing is missed and nothing counted twice, however late it comes.
-- Depends on: protect.sql, quotas.sql, prices.sql, rowhouse.usage_events. Proven by: test/usage, test/budgets.

select rowhouse.protect_table('rowhouse.usage_events');
select rowhouse.protect_table('rowhouse.usage_rollups');

-- Written by functions alone, which do the work of the write guard themselves.
revoke insert, update, delete on rowhouse.usage_events, rowhouse.usage_rollups from rowhouse_app;
drop trigger rowhouse_guard on rowhouse.usage_events;
drop trigger rowhouse_guard on rowhouse.usage_rollups;

-- Recording ------------------------------------------------------------------------------------------------------------

create or replace function rowhouse.record_usage(
  p_event_id text, p_units jsonb, p_model text default null, p_details jsonb default '{}',
  p_occurred_at timestamptz default null
) returns jsonb
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set enable_seqscan = off
  set jit = off
as $$
declare
  -- A suspended tenant too: it is billed for what it used.
  v_account record := rowhouse.open_account('{active,suspended,inactive}');
  v_tenant text := v_account.tenant;
  v_event rowhouse.usage_events;
  v_call rowhouse.reservations;
  v_measured record;
  v_used numeric[];
  v_limits numeric[];
begin
  select u.* into v_event
    from rowhouse.usage_events u where u.tenant_id = v_tenant and u.request_id = p_event_id and u.part = '';
  if v_event.request_id is not null then
    return rowhouse.settlement_json(v_event.request_id, v_event.part, v_event.cost, v_event.currency, true, '{}');
  elsif p_event_id is null or length(p_event_id) not between 1 and 200 then
    raise exception using errcode = 'RH052', message = 'an event id is a text of 1 to 200 characters';
  elsif exists (select from rowhouse.reservations r where r.tenant_id = v_tenant and r.request_id = p_event_id) then
    raise exception using errcode = 'RH056', message = 'a call of this id was admitted', hint = 'Settle it.';
  elsif p_occurred_at not between v_account.opened_at - interval '31 days' and v_account.opened_at + interval '1 minute' then
    raise exception using errcode = 'RH052', message = 'usage is recorded within 31 days, and not before it occurs';
  end if;
  v_call.tenant_id := v_tenant;
  v_call.request_id := p_event_id;
  v_call.model := p_model;
  v_call.user_id := nullif(current_setting('app.user_id', true), '');
  v_call.currency := v_account.currency;
  v_call.admitted_at := coalesce(p_occurred_at, v_account.opened_at);
  if p_model is not null then
    v_call.prices := rowhouse.model_prices(p_model, v_account.currency, v_call.admitted_at);
  end if;
  v_measured := rowhouse.measure_units(p_units, v_call.prices, 1);
  -- It is used already, so it is booked whether or not there is room.
  select coalesce(array_agg(e.name), '{}'), coalesce(array_agg(e.period_start), '{}'),
      coalesce(array_agg((v_measured.amounts ->> e.metric)::numeric), '{}'), coalesce(array_agg(e.hard_limit), '{}'), array_agg(e.window_ms)
    into v_call.quotas, v_call.periods, v_used, v_limits, v_call.windows
    -- Not in a period that has not begun, by a clock that is ahead.
    from rowhouse.effective_quotas(v_tenant, v_account.tier, v_account.time_zone, least(v_call.admitted_at, v_account.opened_at)) e
    where e.period <> 'request' and v_measured.amounts ? e.metric;
  perform rowhouse.begin_periods(v_account, v_call.quotas, v_call.periods, v_limits);
  perform rowhouse.add_usage_event(v_call, '', p_units, v_measured.cost, v_used, p_details, v_account.opened_at);
  perform rowhouse.book_quotas(v_tenant, v_call.quotas, v_call.periods, v_call.windows,
    array_fill(0::numeric, array[cardinality(v_used)]), v_used, null, v_limits);
  perform rowhouse.note_spend(v_account, '', v_measured.cost);
  return rowhouse.settlement_json(p_event_id, '', v_measured.cost, v_account.currency, false,
    rowhouse.note_crossed_limits(v_account, v_call.quotas, v_call.periods));
end
$$;

comment on function rowhouse.record_usage(text, jsonb, text, jsonb, timestamptz) is
  'Books what was used already, without admission: a tool call, a batch that a provider billed. Repeating it with its event id changes nothing. It is booked whether or not it fits into the quotas; what does not is overrun. p_occurred_at: within the last 31 days; prices and periods are those of then. A tenant that is suspended may record. Returns what settle does. Raises RH050, RH052, RH053, RH056, and those of the tenant.';

-- Rollups --------------------------------------------------------------------------------------------------------------

create or replace function rowhouse.quarter_hour(p_at timestamptz) returns timestamptz
  language sql immutable parallel safe
  return date_bin('15 minutes', p_at, timestamptz '2000-01-01 00:00:00+00');

comment on function rowhouse.quarter_hour(timestamptz) is
  'When the quarter of an hour began. The offset of every time zone is a multiple of it.';

-- Plain SQL over its argument, so that the planner inlines it. Less a trifle, because the logarithm is not exact.
create or replace function rowhouse.latency_bucket(p_latency_ms integer) returns integer
  language sql immutable parallel safe
  return case when p_latency_ms is not null then
    ceil(8 * ln(greatest(p_latency_ms, 1)::double precision) / ln(2::double precision) - 1e-9)::integer end;

comment on function rowhouse.latency_bucket(integer) is
  'The bucket of a histogram of latencies: an eighth of a power of two, so bounds are 9 % apart.';

create or replace function rowhouse.latency_quantile(p_histogram jsonb, p_part numeric) returns integer
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_total numeric;
  v_bucket integer;
begin
  select sum(h.value::numeric) into v_total from jsonb_each_text(p_histogram) h;
  select min(b.bucket) into v_bucket
    from (
      select h.key::integer as bucket, sum(h.value::numeric) over (order by h.key::integer) as reached
        from jsonb_each_text(p_histogram) h) b
    where b.reached >= v_total * p_part;
  return round(2 ^ (v_bucket / 8.0));
end
$$;

comment on function rowhouse.latency_quantile(jsonb, numeric) is
  'The upper bound in milliseconds of the bucket that holds a quantile (0.99) of a histogram; null when it is empty.';

create or replace function rowhouse.summed_usage(
  p_tenant text, p_from timestamptz[], p_to timestamptz[], p_recorded_to timestamptz,
  p_later_from timestamptz default null, p_later_to timestamptz default null
) returns setof rowhouse.usage_rollups
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
  set jit = off
  set plan_cache_mode = force_custom_plan
as $$
begin
  return query
    with picked as (
      select u.occurred_at, u.kind, u.model, u.provider, u.user_id, u.currency, u.part, u.units, u.cost, u.latency_ms
        from unnest(p_from, p_to) s (since, until)
        join rowhouse.usage_events u
          on u.tenant_id = p_tenant and u.occurred_at >= s.since and u.occurred_at < s.until
            and u.recorded_at <= p_recorded_to
      union all
      select u.occurred_at, u.kind, u.model, u.provider, u.user_id, u.currency, u.part, u.units, u.cost, u.latency_ms
        from rowhouse.usage_events u
        where u.tenant_id = p_tenant and u.recorded_at > p_recorded_to
          and u.occurred_at >= p_later_from and u.occurred_at < p_later_to
    ), events as (
      select rowhouse.quarter_hour(p.occurred_at) as period_start, p.kind::text, coalesce(p.model, '') as model,
          coalesce(p.provider, '') as provider, coalesce(p.user_id, '') as user_id, p.currency, p.part, p.cost,
          p.latency_ms, p.units - '{input_tokens,output_tokens,cached_input_tokens,cache_write_tokens,embedding_tokens,images,tool_calls,tokens,money}'::text[] as units,
          coalesce((p.units ->> 'tokens')::numeric, 0) as tokens,
          coalesce((p.units ->> 'input_tokens')::numeric, 0) as input_tokens,
          coalesce((p.units ->> 'output_tokens')::numeric, 0) as output_tokens,
          coalesce((p.units ->> 'cached_input_tokens')::numeric, 0) as cached_input_tokens,
          coalesce((p.units ->> 'cache_write_tokens')::numeric, 0) as cache_write_tokens,
          coalesce((p.units ->> 'embedding_tokens')::numeric, 0) as embedding_tokens,
          coalesce((p.units ->> 'images')::numeric, 0) as images,
          coalesce((p.units ->> 'tool_calls')::numeric, 0) as tool_calls
        from picked p
    ), sums as (
      select b.period_start, b.kind, b.model, b.provider, b.user_id, b.currency, sum(b.events)::bigint as events,
          sum(b.tokens + b.input_tokens + b.output_tokens + b.cached_input_tokens + b.cache_write_tokens + b.embedding_tokens) as tokens,
          sum(b.input_tokens) as input_tokens, sum(b.output_tokens) as output_tokens,
          sum(b.cached_input_tokens) as cached_input_tokens, sum(b.cache_write_tokens) as cache_write_tokens,
          sum(b.embedding_tokens) as embedding_tokens, sum(b.images) as images, sum(b.tool_calls) as tool_calls,
          sum(b.cost) as cost,
          coalesce(jsonb_object_agg(b.bucket, b.timed) filter (where b.bucket is not null), '{}') as latencies
        from (
          select e.period_start, e.kind, e.model, e.provider, e.user_id, e.currency,
              rowhouse.latency_bucket(e.latency_ms) as bucket, count(e.latency_ms) as timed,
              count(*) filter (where e.part = '') as events, sum(e.tokens) as tokens, sum(e.input_tokens) as input_tokens,
              sum(e.output_tokens) as output_tokens, sum(e.cached_input_tokens) as cached_input_tokens,
              sum(e.cache_write_tokens) as cache_write_tokens, sum(e.embedding_tokens) as embedding_tokens,
              sum(e.images) as images, sum(e.tool_calls) as tool_calls, sum(e.cost) as cost
            from events e
            group by 1, 2, 3, 4, 5, 6, 7) b
        group by 1, 2, 3, 4, 5, 6
    ), others as (
      select o.period_start, o.kind, o.model, o.provider, o.user_id, o.currency, jsonb_object_agg(o.unit, o.amount) as units
        from (
          select e.period_start, e.kind, e.model, e.provider, e.user_id, e.currency, n.key as unit, sum(n.value::numeric) as amount
            from events e cross join lateral jsonb_each_text(e.units) n
            where e.units <> '{}'
            group by 1, 2, 3, 4, 5, 6, 7) o
        group by 1, 2, 3, 4, 5, 6
    )
    select p_tenant, s.period_start, s.kind, s.model, s.provider, s.user_id, s.currency, s.events, s.tokens, s.input_tokens,
        s.output_tokens, s.cached_input_tokens, s.cache_write_tokens, s.embedding_tokens, s.images, s.tool_calls,
        coalesce(o.units, '{}'), s.cost, s.latencies
      from sums s
      left join others o using (period_start, kind, model, provider, user_id, currency);
end
$$;

comment on function rowhouse.summed_usage(text, timestamptz[], timestamptz[], timestamptz, timestamptz, timestamptz) is
  'What events add up to, as it should stand in usage_rollups: those that occurred in one of the spans and were recorded until p_recorded_to, and those that were recorded later and occurred from p_later_from until p_later_to.';

create or replace function rowhouse.rollup_usage() returns integer
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set jit = off
as $$
declare
  -- A suspended tenant too: it is billed for what it used.
  v_account record := rowhouse.open_account('{active,suspended,inactive}');
  v_tenant text := v_account.tenant;
  v_quarters timestamptz[];
  v_ends timestamptz[];
begin
  select array_agg(q.quarter), array_agg(q.quarter + interval '15 minutes') into v_quarters, v_ends
    from (
      select distinct rowhouse.quarter_hour(u.occurred_at) as quarter
        from rowhouse.usage_events u
        join rowhouse.accounts a on a.tenant_id = u.tenant_id
        where u.tenant_id = v_tenant and a.tenant_id = v_tenant and u.recorded_at > a.rolled_up_to) q;
  if v_quarters is null then
    return 0;
  end if;
  delete from rowhouse.usage_rollups r where r.tenant_id = v_tenant and r.period_start = any (v_quarters);
  insert into rowhouse.usage_rollups select s.* from rowhouse.summed_usage(v_tenant, v_quarters, v_ends, 'infinity') s
    on conflict (tenant_id, period_start, kind, model, provider, user_id, currency) do nothing;
  update rowhouse.accounts a set rolled_up_to = v_account.opened_at where a.tenant_id = v_tenant;
  return (select count(distinct date_trunc('hour', q.quarter, 'UTC')) from unnest(v_quarters) q (quarter));
end
$$;

comment on function rowhouse.rollup_usage() is
  'Brings usage_rollups of the tenant of the transaction up to date, and returns of how many hours something had to be made, or made again. Call it once an hour: reports add up what is not rolled up yet themselves.';

-- Reports --------------------------------------------------------------------------------------------------------------

create or replace function rowhouse.usage_report(
  p_from timestamptz, p_to timestamptz, p_by text[] default '{model}'
) returns table (
    period_start timestamptz, model text, user_id text, kind text, provider text, currency text, events bigint, tokens numeric,
    input_tokens numeric, output_tokens numeric, cached_input_tokens numeric, cache_write_tokens numeric,
    embedding_tokens numeric, images numeric, tool_calls numeric, units jsonb, cost numeric,
    p50_ms integer, p95_ms integer, p99_ms integer)
  -- Stable: all of it sees the database at one moment, so no event is both rolled up and new. Nothing is locked.
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
  set jit = off
as $$
#variable_conflict use_column
declare
  v_tenant text := rowhouse.require_tenant();
  v_account rowhouse.accounts;
  v_period text;
  v_problem text := 'more than 31 days ago, a report begins and ends on a full quarter of an hour, such as 10:45';
  -- The whole quarters of an hour; what is before and behind them is added up from events.
  v_first timestamptz := rowhouse.quarter_hour(p_from);
  v_end timestamptz := rowhouse.quarter_hour(p_to);
begin
  if p_by is null or not p_by <@ '{hour,day,month,model,user,kind,provider}'
    or cardinality(array(select unnest(p_by) intersect select unnest('{hour,day,month}'::text[]))) > 1
  then
    raise exception using errcode = 'RH052', message = 'a report is by model, user, kind, provider, and one of hour, day and month';
  end if;
  select a.* into v_account from rowhouse.accounts a where a.tenant_id = v_tenant;
  if v_first < p_from then
    -- Retention may have deleted these events, and what is deleted must not decide which spans there are.
    perform rowhouse.raise_problem('RH052', case when p_from < clock_timestamp() - interval '31 days' then v_problem end);
    v_first := v_first + interval '15 minutes';
  end if;
  if v_end < p_to then
    perform rowhouse.raise_problem('RH052', case when p_to < clock_timestamp() - interval '31 days' then v_problem end);
  end if;
  select b.name into v_period from unnest(p_by) b (name) where b.name in ('hour', 'day', 'month');
  return query
    with lines as (
      select r.*
        from rowhouse.usage_rollups r
        where r.tenant_id = v_tenant and r.period_start >= v_first and r.period_start < v_end
      union all
      select s.*
        from rowhouse.summed_usage(v_tenant, array[p_from, greatest(v_first, v_end)], array[least(v_first, p_to), p_to],
          coalesce(v_account.rolled_up_to, '-infinity'), p_from, p_to) s
    ), picked as (
      select case when v_period is not null then date_trunc(v_period, l.period_start, coalesce(v_account.time_zone, 'UTC'))
            else '-infinity' end as period_start,
          case when 'model' = any (p_by) then l.model else '' end as model,
          case when 'user' = any (p_by) then l.user_id else '' end as user_id,
          case when 'kind' = any (p_by) then l.kind else '' end as kind,
          case when 'provider' = any (p_by) then l.provider else '' end as provider,
          l.currency, l.events, l.tokens, l.input_tokens, l.output_tokens, l.cached_input_tokens, l.cache_write_tokens,
          l.embedding_tokens, l.images, l.tool_calls, l.units, l.cost, l.latencies
        from lines l
    ), histograms as (
      select b.period_start, b.model, b.user_id, b.kind, b.provider, b.currency, jsonb_object_agg(b.bucket, b.calls) as latencies
        from (
          select p.period_start, p.model, p.user_id, p.kind, p.provider, p.currency, n.key as bucket, sum(n.value::bigint) as calls
            from picked p cross join lateral jsonb_each_text(p.latencies) n
            group by 1, 2, 3, 4, 5, 6, 7) b
        group by 1, 2, 3, 4, 5, 6
    ), others as (
      select b.period_start, b.model, b.user_id, b.kind, b.provider, b.currency, jsonb_object_agg(b.unit, b.amount) as units
        from (
          select p.period_start, p.model, p.user_id, p.kind, p.provider, p.currency, n.key as unit, sum(n.value::numeric) as amount
            from picked p cross join lateral jsonb_each_text(p.units) n
            where p.units <> '{}'
            group by 1, 2, 3, 4, 5, 6, 7) b
        group by 1, 2, 3, 4, 5, 6
    ), sums as (
      select p.period_start, p.model, p.user_id, p.kind, p.provider, p.currency, sum(p.events)::bigint as events,
          sum(p.tokens) as tokens, sum(p.input_tokens) as input_tokens, sum(p.output_tokens) as output_tokens,
          sum(p.cached_input_tokens) as cached_input_tokens, sum(p.cache_write_tokens) as cache_write_tokens,
          sum(p.embedding_tokens) as embedding_tokens, sum(p.images) as images, sum(p.tool_calls) as tool_calls,
          trim_scale(sum(p.cost)) as cost
        from picked p
        group by 1, 2, 3, 4, 5, 6
    )
    select case when v_period is not null then s.period_start end, case when 'model' = any (p_by) then s.model end,
        case when 'user' = any (p_by) then s.user_id end, case when 'kind' = any (p_by) then s.kind end,
        case when 'provider' = any (p_by) then s.provider end, s.currency, s.events, s.tokens, s.input_tokens, s.output_tokens,
        s.cached_input_tokens, s.cache_write_tokens, s.embedding_tokens, s.images, s.tool_calls, coalesce(o.units, '{}'), s.cost,
        rowhouse.latency_quantile(h.latencies, 0.50), rowhouse.latency_quantile(h.latencies, 0.95),
        rowhouse.latency_quantile(h.latencies, 0.99)
      from sums s
      left join histograms h using (period_start, model, user_id, kind, provider, currency)
      left join others o using (period_start, model, user_id, kind, provider, currency)
      order by s.period_start, s.cost desc, s.model, s.user_id, s.kind, s.provider;
end
$$;

comment on function rowhouse.usage_report(timestamptz, timestamptz, text[]) is
  'Usage of the tenant of the transaction that occurred from p_from until p_to (exclusive: spans that touch have no event in common), by model, user, kind, provider and one of hour, day and month (in its time zone); columns that it is not by are null. tokens: of every kind; units: sums of those that have no column. Latencies are upper bounds of buckets 9 % apart. Writes and locks nothing. Raises RH052, also when it begins or ends more than 31 days ago and not on a full quarter of an hour.';

create or replace function rowhouse.rollup_figures(p_rollup jsonb) returns jsonb
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  return (p_rollup - '{tenant_id,period_start,kind,model,provider,user_id,currency,units,latencies}'::text[])
    || coalesce(p_rollup -> 'units', '{}')
    || coalesce((
      select jsonb_object_agg(format('calls in up to %s ms', round(2 ^ (n.key::numeric / 8))), n.value)
        from jsonb_each(p_rollup -> 'latencies') n), '{}');
end
$$;

comment on function rowhouse.rollup_figures(jsonb) is
  'The figures of a row of usage_rollups by name, those of its units and its histogram among them.';

create or replace function rowhouse.reconcile_usage()
  returns table (book text, name text, period_start timestamptz, difference text, counted numeric, expected numeric)
  -- Stable: all books are compared as they are at one moment. Nothing is locked.
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
  set jit = off
as $$
#variable_conflict use_column
declare
  v_tenant text := rowhouse.require_tenant();
  v_events_from timestamptz;
  v_rolled_up_to timestamptz;
begin
  select a.events_from, a.rolled_up_to into v_events_from, v_rolled_up_to from rowhouse.accounts a where a.tenant_id = v_tenant;
  return query
    select 'counters', d.name, d.period_start, d.difference, d.counted, d.expected from rowhouse.budget_differences() d
    union all
    select 'events', u.request_id, u.occurred_at, 'the cost is not units times prices', u.cost, m.cost
      from rowhouse.usage_events u
      cross join lateral rowhouse.priced_units(u.units, u.prices, (u.part = '')::integer) m (cost)
      where u.tenant_id = v_tenant and u.prices is not null and u.cost <> m.cost
    union all
    select 'rollups', coalesce(r.model, e.model), coalesce(r.period_start, e.period_start),
        format('%s of the quarter of an hour is not what its events add up to', f.figure), f.counted, f.expected
      from (select * from rowhouse.usage_rollups o where o.tenant_id = v_tenant and o.period_start >= v_events_from) r
      full join rowhouse.summed_usage(v_tenant, array[v_events_from], '{infinity}', v_rolled_up_to) e
        using (period_start, kind, model, provider, user_id, currency)
      cross join lateral (
        select n.figure, coalesce(c.value::numeric, 0) as counted, coalesce(x.value::numeric, 0) as expected
          from (select v.* from (values (rowhouse.rollup_figures(to_jsonb(r)), rowhouse.rollup_figures(to_jsonb(e)))) v (counted, expected)) v
          cross join lateral (
            select k.figure from jsonb_object_keys(v.counted) k (figure)
            union
            select k.figure from jsonb_object_keys(v.expected) k (figure)) n
          left join lateral (select v.counted ->> n.figure) c (value) on true
          left join lateral (select v.expected ->> n.figure) x (value) on true) f
      where (r.events, r.tokens, r.input_tokens, r.output_tokens, r.cached_input_tokens, r.cache_write_tokens, r.embedding_tokens,
          r.images, r.tool_calls, r.units, r.cost, r.latencies)
        is distinct from (e.events, e.tokens, e.input_tokens, e.output_tokens, e.cached_input_tokens, e.cache_write_tokens,
          e.embedding_tokens, e.images, e.tool_calls, e.units, e.cost, e.latencies)
        and f.counted <> f.expected;
end
$$;

comment on function rowhouse.reconcile_usage() is
  'Compares the books of the tenant of the transaction: counters with events and calls at work, the cost of each event with its units and prices, each figure of each rollup with its events. No rows: all agree. Writes and locks nothing.';

create or replace function rowhouse.priced_units(p_units jsonb, p_prices jsonb, p_requests integer) returns numeric
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return (rowhouse.measure_units(p_units, p_prices, p_requests)).cost;
end
$$;

comment on function rowhouse.priced_units(jsonb, jsonb, integer) is 'What units cost at these prices.';

revoke execute on function
  rowhouse.record_usage(text, jsonb, text, jsonb, timestamptz), rowhouse.latency_bucket(integer),
  rowhouse.latency_quantile(jsonb, numeric), rowhouse.quarter_hour(timestamptz),
  rowhouse.summed_usage(text, timestamptz[], timestamptz[], timestamptz, timestamptz, timestamptz),
  rowhouse.rollup_figures(jsonb), rowhouse.rollup_usage(),
  rowhouse.usage_report(timestamptz, timestamptz, text[]), rowhouse.reconcile_usage(),
  rowhouse.priced_units(jsonb, jsonb, integer)
  from public;
grant execute on function
  rowhouse.record_usage(text, jsonb, text, jsonb, timestamptz), rowhouse.latency_bucket(integer),
  rowhouse.latency_quantile(jsonb, numeric), rowhouse.quarter_hour(timestamptz),
  rowhouse.summed_usage(text, timestamptz[], timestamptz[], timestamptz, timestamptz, timestamptz),
  rowhouse.rollup_figures(jsonb), rowhouse.rollup_usage(),
  rowhouse.usage_report(timestamptz, timestamptz, text[]), rowhouse.reconcile_usage(),
  rowhouse.priced_units(jsonb, jsonb, integer), rowhouse.measure_units(jsonb, jsonb, integer)
  to rowhouse_app;
