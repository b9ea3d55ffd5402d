-- Usage: what tenants used, what it cost, and reports of it.
--
-- Events come from settle and record_usage, are append-only and exact. Rollups are made from them by the hour: whoever
-- records holds the account of the tenant, so times of recording are in the order of commits, and everything after
-- accounts.rolled_up_to is new. Nothing is missed and nothing counted twice, however late it comes.
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
  v_account record := rowhouse.open_account();
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
      coalesce(array_agg((v_measured.amounts ->> e.metric)::numeric), '{}'), coalesce(array_agg(e.hard_limit), '{}')
    into v_call.quotas, v_call.periods, v_used, v_limits
    from rowhouse.effective_quotas(v_tenant, v_account.tier, v_account.time_zone, v_call.admitted_at) e
    where e.period <> 'request' and v_measured.amounts ? e.metric;
  perform rowhouse.begin_periods(v_account, v_call.quotas, v_call.periods, v_limits);
  perform rowhouse.add_usage_event(v_call, '', p_units, v_measured.cost, v_used, p_details, v_account.opened_at);
  perform rowhouse.book_quotas(v_tenant, v_call.quotas, v_call.periods, array_fill(0::numeric, array[cardinality(v_used)]), v_used, null, v_limits);
  perform rowhouse.note_spend(v_account, '', v_measured.cost);
  return rowhouse.settlement_json(p_event_id, '', v_measured.cost, v_account.currency, false,
    rowhouse.note_crossed_limits(v_account, v_call.quotas, v_call.periods));
end
$$;

comment on function rowhouse.record_usage(text, jsonb, text, jsonb, timestamptz) is
  'Books what was used already, without admission: a tool call, a batch that a provider billed. Repeating it with its event id changes nothing. It is booked whether or not it fits into the quotas; what does not is overrun. p_occurred_at: within the last 31 days; prices and periods are those of then. Returns what settle does. Raises RH050, RH052, RH053, RH056, and those of the tenant.';

-- Rollups --------------------------------------------------------------------------------------------------------------

create or replace function rowhouse.latency_bucket(p_latency_ms integer) returns integer
  language plpgsql immutable strict parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  return ceil(8 * log(2, greatest(p_latency_ms, 1)::numeric));
end
$$;

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

create or replace function rowhouse.hourly_usage(p_tenant text, p_hours timestamptz[]) returns setof rowhouse.usage_rollups
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    select p_tenant, b.hour, b.kind, b.model, b.provider, b.user_id, b.currency, sum(b.events)::bigint,
        sum(b.input_tokens), sum(b.output_tokens), sum(b.cached_input_tokens), sum(b.cache_write_tokens),
        sum(b.embedding_tokens), sum(b.images), sum(b.tool_calls), sum(b.cost),
        coalesce(jsonb_object_agg(b.bucket, b.timed) filter (where b.bucket is not null), '{}')
      from (
        select h.hour, u.kind, coalesce(u.model, '') as model, coalesce(u.provider, '') as provider,
            coalesce(u.user_id, '') as user_id, u.currency, rowhouse.latency_bucket(u.latency_ms) as bucket,
            count(*) filter (where u.part = '') as events, count(u.latency_ms) as timed,
            coalesce(sum((u.units ->> 'input_tokens')::numeric), 0) as input_tokens,
            coalesce(sum((u.units ->> 'output_tokens')::numeric), 0) as output_tokens,
            coalesce(sum((u.units ->> 'cached_input_tokens')::numeric), 0) as cached_input_tokens,
            coalesce(sum((u.units ->> 'cache_write_tokens')::numeric), 0) as cache_write_tokens,
            coalesce(sum((u.units ->> 'embedding_tokens')::numeric), 0) as embedding_tokens,
            coalesce(sum((u.units ->> 'images')::numeric), 0) as images,
            coalesce(sum((u.units ->> 'tool_calls')::numeric), 0) as tool_calls,
            sum(u.cost) as cost
          from unnest(p_hours) h (hour)
          join rowhouse.usage_events u
            on u.tenant_id = p_tenant and u.occurred_at >= h.hour and u.occurred_at < h.hour + interval '1 hour'
          group by 1, 2, 3, 4, 5, 6, 7) b
      group by b.hour, b.kind, b.model, b.provider, b.user_id, b.currency;
end
$$;

comment on function rowhouse.hourly_usage(text, timestamptz[]) is
  'What the events of these hours add up to, as it should stand in usage_rollups.';

create or replace function rowhouse.roll_up_usage() returns integer
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_account record := rowhouse.open_account();
  v_tenant text := v_account.tenant;
  v_hours timestamptz[];
begin
  select array_agg(distinct date_trunc('hour', u.occurred_at, 'UTC')) into v_hours
    from rowhouse.usage_events u
    join rowhouse.accounts a on a.tenant_id = u.tenant_id
    where u.tenant_id = v_tenant and a.tenant_id = v_tenant and u.recorded_at > a.rolled_up_to;
  if v_hours is null then
    return 0;
  end if;
  delete from rowhouse.usage_rollups r where r.tenant_id = v_tenant and r.hour = any (v_hours);
  insert into rowhouse.usage_rollups select h.* from rowhouse.hourly_usage(v_tenant, v_hours) h
    on conflict (tenant_id, hour, kind, model, provider, user_id, currency) do nothing;
  update rowhouse.accounts a set rolled_up_to = v_account.opened_at where a.tenant_id = v_tenant;
  return cardinality(v_hours);
end
$$;

comment on function rowhouse.roll_up_usage() is
  'Brings usage_rollups of the tenant of the transaction up to date, and returns how many hours had to be made, or made again. Reports do it themselves.';

-- Reports --------------------------------------------------------------------------------------------------------------

create or replace function rowhouse.usage_report(
  p_from timestamptz, p_to timestamptz, p_by text[] default '{model}'
) returns table (
    period_start timestamptz, model text, user_id text, kind text, provider text, currency text, events bigint,
    input_tokens numeric, output_tokens numeric, cached_input_tokens numeric, cache_write_tokens numeric,
    embedding_tokens numeric, images numeric, tool_calls numeric, cost numeric, p50_ms integer, p95_ms integer, p99_ms integer)
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_tenant text := rowhouse.require_tenant();
  v_time_zone text;
  v_period text;
begin
  if p_by is null or not p_by <@ '{hour,day,month,model,user,kind,provider}'
    or cardinality(array(select unnest(p_by) intersect select unnest('{hour,day,month}'::text[]))) > 1
  then
    raise exception using errcode = 'RH052', message = 'a report is by model, user, kind, provider, and one of hour, day and month';
  end if;
  perform rowhouse.roll_up_usage();
  select a.time_zone into v_time_zone from rowhouse.accounts a where a.tenant_id = v_tenant;
  select b.name into v_period from unnest(p_by) b (name) where b.name in ('hour', 'day', 'month');
  return query
    with picked as (
      select case when v_period is not null then date_trunc(v_period, r.hour, v_time_zone) end as period_start,
          case when 'model' = any (p_by) then r.model end as model,
          case when 'user' = any (p_by) then r.user_id end as user_id,
          case when 'kind' = any (p_by) then r.kind end as kind,
          case when 'provider' = any (p_by) then r.provider end as provider,
          r.currency, r.events, r.input_tokens, r.output_tokens, r.cached_input_tokens, r.cache_write_tokens,
          r.embedding_tokens, r.images, r.tool_calls, r.cost, r.latencies
        from rowhouse.usage_rollups r
        where r.tenant_id = v_tenant and r.hour >= date_trunc('hour', p_from, 'UTC') and r.hour < p_to
    ), histograms as (
      select b.key, jsonb_object_agg(b.bucket, b.calls) as latencies
        from (
          select jsonb_build_array(p.period_start, p.model, p.user_id, p.kind, p.provider, p.currency) as key,
              l.key as bucket, sum(l.value::bigint) as calls
            from picked p cross join lateral jsonb_each_text(p.latencies) l
            group by 1, 2) b
        group by b.key
    ), sums as (
      select p.period_start, p.model, p.user_id, p.kind, p.provider, p.currency, sum(p.events)::bigint as events,
          sum(p.input_tokens) as input_tokens, sum(p.output_tokens) as output_tokens,
          sum(p.cached_input_tokens) as cached_input_tokens, sum(p.cache_write_tokens) as cache_write_tokens,
          sum(p.embedding_tokens) as embedding_tokens, sum(p.images) as images, sum(p.tool_calls) as tool_calls,
          trim_scale(sum(p.cost)) as cost
        from picked p
        group by p.period_start, p.model, p.user_id, p.kind, p.provider, p.currency
    )
    select s.*, rowhouse.latency_quantile(h.latencies, 0.50), rowhouse.latency_quantile(h.latencies, 0.95),
        rowhouse.latency_quantile(h.latencies, 0.99)
      from sums s
      left join histograms h
        on h.key = jsonb_build_array(s.period_start, s.model, s.user_id, s.kind, s.provider, s.currency)
      order by s.period_start, s.cost desc, s.model, s.user_id, s.kind, s.provider;
end
$$;

comment on function rowhouse.usage_report(timestamptz, timestamptz, text[]) is
  'Usage of the tenant of the transaction in whole hours from p_from until p_to, by model, user, kind, provider and one of hour, day and month (in its time zone); columns that it is not by are null. Latencies are upper bounds of buckets 9 % apart. Raises RH052.';

create or replace function rowhouse.reconcile_usage()
  returns table (book text, name text, period_start timestamptz, difference text, counted numeric, expected numeric)
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_tenant text := rowhouse.require_tenant();
  v_hours timestamptz[];
  v_events_from timestamptz;
begin
  perform rowhouse.roll_up_usage();
  select a.events_from into v_events_from from rowhouse.accounts a where a.tenant_id = v_tenant;
  select array_agg(distinct h.hour) into v_hours
    from (
      select date_trunc('hour', u.occurred_at, 'UTC') as hour from rowhouse.usage_events u where u.tenant_id = v_tenant
      union all
      select r.hour from rowhouse.usage_rollups r where r.tenant_id = v_tenant) h
    where h.hour >= v_events_from;
  return query
    select 'counters', d.name, d.period_start, d.difference, d.counted, d.expected from rowhouse.budget_differences() d
    union all
    select 'events', u.request_id, u.occurred_at, 'the cost is not units times prices', u.cost, m.cost
      from rowhouse.usage_events u
      cross join lateral rowhouse.priced_units(u.units, u.prices, (u.part = '')::integer) m (cost)
      where u.tenant_id = v_tenant and u.prices is not null and u.cost <> m.cost
    union all
    select 'rollups', coalesce(r.model, e.model), coalesce(r.hour, e.hour), 'the hour is not what its events add up to', r.cost, e.cost
      from (select * from rowhouse.usage_rollups o where o.tenant_id = v_tenant and o.hour >= v_events_from) r
      full join rowhouse.hourly_usage(v_tenant, v_hours) e
        using (hour, kind, model, provider, user_id, currency)
      where (r.events, r.input_tokens, r.output_tokens, r.cached_input_tokens, r.cache_write_tokens, r.embedding_tokens,
          r.images, r.tool_calls, r.cost, r.latencies)
        is distinct from (e.events, e.input_tokens, e.output_tokens, e.cached_input_tokens, e.cache_write_tokens,
          e.embedding_tokens, e.images, e.tool_calls, e.cost, e.latencies);
end
$$;

comment on function rowhouse.reconcile_usage() is
  'Compares the books of the tenant of the transaction: counters with events and calls at work, the cost of each event with its units and prices, rollups with events. No rows: all agree.';

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
  rowhouse.latency_quantile(jsonb, numeric), rowhouse.hourly_usage(text, timestamptz[]), rowhouse.roll_up_usage(),
  rowhouse.usage_report(timestamptz, timestamptz, text[]), rowhouse.reconcile_usage(),
  rowhouse.priced_units(jsonb, jsonb, integer)
  from public;
grant execute on function
  rowhouse.record_usage(text, jsonb, text, jsonb, timestamptz), rowhouse.latency_bucket(integer),
  rowhouse.latency_quantile(jsonb, numeric), rowhouse.hourly_usage(text, timestamptz[]), rowhouse.roll_up_usage(),
  rowhouse.usage_report(timestamptz, timestamptz, text[]), rowhouse.reconcile_usage(),
  rowhouse.priced_units(jsonb, jsonb, integer), rowhouse.measure_units(jsonb, jsonb, integer)
  to rowhouse_app;
