-- Reservations: money is reserved before it is spent.
--
-- admit reserves the most that a call can use, of every quota and budget at once, or refuses it and books nothing. settle
-- books what it did use and gives the rest back, once for each request id, however often it is called. A caller that
-- dies leaves a lease that runs out. At every commit: settled + reserved <= allowance, which the table itself checks.
-- Every row is found by its key. The planner is told so: it would plan anew in every call, because arrays of few elements
-- look cheap (plan_cache_mode), or keep a plan that it made while the tables were empty (enable_seqscan). What such a
-- plan is said to cost would make it compile every statement, which takes a thousand times as long (jit).
-- Depends on: prices.sql, quotas.sql, rate_limits.sql, rowhouse.reservations. Proven by: test/budgets.

select rowhouse.protect_table('rowhouse.reservations');
select rowhouse.protect_table('rowhouse.circuits');

-- Written by the functions below alone, which do the work of the write guard themselves.
revoke insert, update, delete on rowhouse.reservations, rowhouse.circuits from rowhouse_app;
drop trigger rowhouse_guard on rowhouse.reservations;
drop trigger rowhouse_guard on rowhouse.circuits;

-- Leases ---------------------------------------------------------------------------------------------------------------

create or replace function rowhouse.expire_reservations(p_tenant text, p_at timestamptz) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_names text[];
  v_periods timestamptz[];
  v_reserved numeric[];
begin
  with expired as (
    update rowhouse.reservations r set status = 'expired'
      where r.tenant_id = p_tenant and r.status = 'active' and r.expires_at <= p_at
      returning r.quotas, r.periods, r.reserved)
  select array_agg(b.name), array_agg(b.period_start), array_agg(b.reserved) into v_names, v_periods, v_reserved
    from expired e
    cross join lateral unnest(e.quotas, e.periods, e.reserved) b (name, period_start, reserved);
  if v_names is not null then
    perform rowhouse.book_quotas(p_tenant, v_names, v_periods, v_reserved, array_fill(0::numeric, array[cardinality(v_names)]));
  end if;
  delete from rowhouse.reservations r
    where r.tenant_id = p_tenant and r.status in ('expired', 'released') and r.expires_at < p_at - interval '30 days';
end
$$;

comment on function rowhouse.expire_reservations(text, timestamptz) is
  'Gives back what reservations hold whose lease ran out, and forgets those of a month ago. The caller holds the account.';

create or replace function rowhouse.find_reservation(p_tenant text, p_request_id text) returns rowhouse.reservations
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_reservation rowhouse.reservations;
begin
  select r.* into v_reservation from rowhouse.reservations r where r.tenant_id = p_tenant and r.request_id = p_request_id;
  if v_reservation.request_id is null then
    if exists (select from rowhouse.usage_events u where u.tenant_id = p_tenant and u.request_id = p_request_id and u.part = '') then
      raise exception using errcode = 'RH058', message = 'the request is settled';
    end if;
    raise exception using errcode = 'RH055', message = 'no such request was admitted',
      hint = 'admit comes first, with the same request id. A request that was never settled is forgotten after 30 days.';
  end if;
  return v_reservation;
end
$$;

comment on function rowhouse.find_reservation(text, text) is
  'The reservation of a request. Raises RH055 (never admitted) or RH058 (settled already).';

-- Admission ------------------------------------------------------------------------------------------------------------

create or replace function rowhouse.quota_retry_ms(
  p_tenant text, p_name text, p_metric text, p_window_ms bigint, p_period_end timestamptz, p_missing numeric, p_at timestamptz
) returns bigint
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_free_at timestamptz := p_period_end;
begin
  if p_window_ms is not null then
    -- When the oldest buckets that together hold what is missing have left.
    select min(b.period_start) + (p_window_ms + (p_window_ms + 59) / 60) * interval '1 millisecond' into v_free_at
      from (
        select c.period_start, sum(c.settled + c.reserved + c.overrun) over (order by c.period_start) as freed
          from rowhouse.quota_counters c
          where c.tenant_id = p_tenant and c.name = p_name
            and c.period_start >= (rowhouse.quota_period('rolling', p_window_ms, null, p_at)).counted_from) b
      where b.freed >= p_missing;
  elsif p_metric = 'slots' then
    select min(r.expires_at) into v_free_at
      from rowhouse.reservations r where r.tenant_id = p_tenant and r.status = 'active';
  end if;
  return ceil(extract(epoch from v_free_at - p_at) * 1000);
end
$$;

comment on function rowhouse.quota_retry_ms(text, text, text, bigint, timestamptz, numeric, timestamptz) is
  'In how many milliseconds at the latest p_missing more of a quota is free, if nothing else is used; null: not by time alone.';

create or replace function rowhouse.known_admission(p_tenant text, p_request_id text) returns jsonb
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_reservation rowhouse.reservations;
begin
  if exists (select from rowhouse.reservations r where r.tenant_id = p_tenant and r.request_id = p_request_id)
    or exists (select from rowhouse.usage_events u where u.tenant_id = p_tenant and u.request_id = p_request_id)
  then
    select r.* into v_reservation
      from rowhouse.reservations r where r.tenant_id = p_tenant and r.request_id = p_request_id and r.status = 'active';
    if found then
      return rowhouse.admission_json(p_request_id, v_reservation.expires_at, v_reservation.cost, v_reservation.currency, true);
    end if;
    raise exception using errcode = 'RH056', message = 'the request id was used before',
      hint = 'Each call has a request id of its own; only a repeated admit of a call at work is answered again.';
  end if;
  return null;
end
$$;

comment on function rowhouse.known_admission(text, text) is
  'The admission of a request that is at work; null when the id is new. Raises RH056 when it was used and is not at work.';

create or replace function rowhouse.admission_json(
  p_request_id text, p_expires_at timestamptz, p_cost numeric, p_currency text, p_duplicate boolean
) returns jsonb
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return jsonb_build_object('admitted', true, 'requestId', p_request_id, 'duplicate', p_duplicate,
    'expiresAt', p_expires_at, 'cost', p_cost::text, 'currency', p_currency);
end
$$;

comment on function rowhouse.admission_json(text, timestamptz, numeric, text, boolean) is
  'What admit returns of an admitted request.';

create or replace function rowhouse.quota_denial(p_tenant text, p_account record, p_amounts jsonb) returns jsonb
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_quota record;
  v_missing numeric;
  v_retry bigint;
  v_denial jsonb;
begin
  for v_quota in
    select e.*, (p_amounts ->> e.metric)::numeric as amount
      from rowhouse.effective_quotas(p_tenant, p_account.tier, p_account.time_zone, p_account.opened_at) e
  loop
    v_missing := v_quota.amount - (v_quota.hard_limit - v_quota.settled - v_quota.reserved - v_quota.overrun);
    continue when v_missing is null or v_missing <= 0 or v_quota.amount = 0;
    -- What is above the limit alone fits at no time.
    v_retry := case when v_quota.amount <= v_quota.hard_limit then
      rowhouse.quota_retry_ms(p_tenant, v_quota.name, v_quota.metric, v_quota.window_ms, v_quota.period_end, v_missing, p_account.opened_at) end;
    continue when (v_denial ->> 'retryAfterMs')::bigint >= v_retry or v_denial -> 'retryAfterMs' = 'null';
    v_denial := jsonb_build_object('admitted', false,
      'reason', case v_quota.metric when 'money' then 'budget_exceeded' else 'quota_exceeded' end,
      'quota', v_quota.name, 'metric', v_quota.metric, 'limit', v_quota.hard_limit,
      'used', v_quota.settled + v_quota.overrun, 'reserved', v_quota.reserved, 'requested', v_quota.amount,
      'retryAfterMs', v_retry);
  end loop;
  return v_denial;
end
$$;

comment on function rowhouse.quota_denial(text, record, jsonb) is
  'Of the quotas that amounts do not fit into, the one that stays in the way longest, as admit returns it; null when they fit.';

create or replace function rowhouse.plan_reservation(
  p_tenant text, p_account record, p_amounts jsonb,
  out fits boolean, out names text[], out metrics text[], out periods timestamptz[], out amounts numeric[],
  out hard_limits numeric[], out soft_limits numeric[], out changed text[], out begins_bucket boolean
)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  select coalesce(bool_and(p.amount = 0 or p.fits), true),
      coalesce(array_agg(p.name) filter (where p.counts), '{}'),
      coalesce(array_agg(p.metric) filter (where p.counts), '{}'),
      coalesce(array_agg(p.period_start) filter (where p.counts), '{}'),
      coalesce(array_agg(p.amount) filter (where p.counts), '{}'),
      coalesce(array_agg(p.hard_limit) filter (where p.counts), '{}'),
      -- What was used of a rolling quota is in several counters: it is looked at each time.
      coalesce(array_agg(case when p.soft_limit is not null and p.window_ms is not null then 0 else p.soft_limit end)
        filter (where p.counts), '{}'),
      coalesce(array_agg(p.name) filter (where p.counts and (p.amount > 0 or not p.counted)), '{}'),
      coalesce(bool_or(p.window_ms is not null and not p.counted), false)
    into fits, names, metrics, periods, amounts, hard_limits, soft_limits, changed, begins_bucket
    from (
      select e.*, e.period <> 'request' as counts, a.amount,
          a.amount <= coalesce(e.hard_limit - e.settled - e.reserved - e.overrun, 'Infinity') as fits
        from rowhouse.effective_quotas(p_tenant, p_account.tier, p_account.time_zone, p_account.opened_at) e
        cross join lateral (values (coalesce((p_amounts ->> e.metric)::numeric, 0))) a (amount)) p;
end
$$;

comment on function rowhouse.plan_reservation(text, record, jsonb) is
  'What amounts such as {"tokens": 2000, "slots": 1} would reserve: whether they fit into every quota; the quotas with a counter, their metrics, periods, amounts and limits; which counters change or begin (changed), and whether one of them is of a rolling quota (begins_bucket). p_account: as open_account returns it.';

create or replace function rowhouse.rate_denial(p_rate_limit text, p_subject text) returns jsonb
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_taken record;
begin
  select t.admitted, t.decided_at, t.windows into v_taken
    from rowhouse.take_rate_limit(p_rate_limit, null, null, null, array[p_subject], '{1}', '{1}') t;
  return case when v_taken.admitted = 0 then jsonb_build_object('admitted', false, 'reason', 'rate_limited',
    'decidedAt', v_taken.decided_at, 'windows', v_taken.windows,
    'retryAfterMs', (select max((w.value ->> 4)::bigint) from jsonb_array_elements(v_taken.windows) w)) end;
end
$$;

comment on function rowhouse.rate_denial(text, text) is
  'Takes one call from a stored rate limit: null when it is admitted, else the denial as admit returns it.';

create or replace function rowhouse.admit(
  p_request_id text, p_units jsonb default '{}', p_model text default null, p_lease_ms integer default 60000,
  p_rate_limit text default 'requests', p_subject text default '', p_circuit text default ''
) returns jsonb
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
  set jit = off
as $$
declare
  v_tenant text := rowhouse.enter_tenant_write();
  v_account record;
  v_answer jsonb;
  v_prices jsonb;
  v_measured record;
  v_amounts jsonb;
  v_plan record;
  v_expires_at timestamptz;
begin
  if p_request_id is null or length(p_request_id) not between 1 and 200 then
    raise exception using errcode = 'RH052', message = 'a request id is a text of 1 to 200 characters';
  elsif p_lease_ms is null or p_lease_ms not between 1 and 86400000 then
    raise exception using errcode = 'RH052', message = 'a lease is 1 to 86400000 ms long';
  elsif p_circuit is null or length(p_circuit) > 100 then
    raise exception using errcode = 'RH052', message = 'a circuit has a name of at most 100 characters';
  end if;
  v_account := rowhouse.open_account(v_tenant);
  v_answer := rowhouse.known_admission(v_tenant, p_request_id);
  if v_answer is not null then
    return v_answer;
  end if;
  v_answer := rowhouse.circuit_denial(v_tenant, p_circuit, v_account.opened_at);
  if v_answer is not null then
    return v_answer;
  end if;
  if p_model is not null then
    if p_model <> all (v_account.models) then
      return jsonb_build_object('admitted', false, 'reason', 'model_not_allowed', 'model', p_model);
    end if;
    v_prices := rowhouse.model_prices(p_model, v_account.currency, v_account.opened_at);
  end if;
  v_measured := rowhouse.measure_units(p_units, v_prices, 1);
  v_amounts := v_measured.amounts || '{"slots": 1}';

  -- Every quota is asked, and then the rate limit; nothing is booked before all of them agreed.
  v_plan := rowhouse.plan_reservation(v_tenant, v_account, v_amounts);
  if not v_plan.fits then
    return rowhouse.quota_denial(v_tenant, v_account, v_amounts);
  end if;
  if p_rate_limit is not null then
    v_answer := rowhouse.rate_denial(p_rate_limit, p_subject);
    if v_answer is not null then
      return v_answer;
    end if;
  end if;

  -- What is admitted fits into the limit, and so does what was overrun before.
  insert into rowhouse.quota_counters as c (tenant_id, name, period_start, allowance, reserved)
    select v_tenant, b.name, b.period_start, b.hard_limit, b.amount
      from unnest(v_plan.names, v_plan.periods, v_plan.hard_limits, v_plan.amounts) b (name, period_start, hard_limit, amount)
      where b.name = any (v_plan.changed)
    on conflict (tenant_id, name, period_start) do update
      set allowance = excluded.allowance, reserved = c.reserved + excluded.reserved, settled = c.settled + c.overrun, overrun = 0;
  if v_plan.begins_bucket then
    perform rowhouse.sweep_rolling_counters(v_tenant, v_account.opened_at);
  end if;
  v_expires_at := v_account.opened_at + p_lease_ms * interval '1 millisecond';
  perform rowhouse.try_circuits(v_tenant, p_circuit, p_request_id, v_expires_at);
  insert into rowhouse.reservations (tenant_id, request_id, model, user_id, circuit, currency, prices, quotas, metrics, periods,
      reserved, soft_limits, cost, admitted_at, expires_at)
    values (v_tenant, p_request_id, p_model, nullif(current_setting('app.user_id', true), ''), p_circuit, v_account.currency, v_prices,
      v_plan.names, v_plan.metrics, v_plan.periods, v_plan.amounts, v_plan.soft_limits, v_measured.cost,
      v_account.opened_at, v_expires_at);
  return rowhouse.admission_json(p_request_id, v_expires_at, v_measured.cost, v_account.currency, false);
end
$$;

comment on function rowhouse.admit(text, jsonb, text, integer, text, text, text) is
  'Asks whether a call may begin, and reserves the most that it can use: {"admitted": true, "requestId": ..., "expiresAt": ..., "cost": "0.0156", "currency": "USD", "duplicate": false}, or {"admitted": false, "reason": ...} and nothing is booked. Reasons: model_not_allowed, quota_exceeded, budget_exceeded (with quota, limit, used, reserved, requested and retryAfterMs, null when time alone does not help), rate_limited, circuit_open. p_request_id: new for each call; repeating it while the call is at work returns the same answer. p_units: the worst case, such as {"input_tokens": 1200, "output_tokens": 800}. p_lease_ms: unless it is extended or settled by then, the reservation is given back. p_rate_limit: name of a stored limit, null for none. p_circuit: what it is stopped with, such as a provider, besides the tenant as a whole. Raises RH050, RH052, RH053 (unknown quota, amount, model or price), RH056 (request id used before), and those of the tenant.';

-- Settlement -----------------------------------------------------------------------------------------------------------

create or replace function rowhouse.settle(
  p_request_id text, p_units jsonb default '{}', p_part text default '', p_details jsonb default '{}'
) returns jsonb
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
  set jit = off
as $$
declare
  v_tenant text := rowhouse.enter_tenant_write();
  v_account record;
  v_event rowhouse.usage_events;
  v_reservation rowhouse.reservations;
  v_measured record;
  v_final boolean := p_part = '';
  v_given_back numeric[];
  v_crossed text[] := '{}';
begin
  if p_part is null or length(p_part) > 64 then
    raise exception using errcode = 'RH052', message = 'a part is a text of at most 64 characters';
  end if;
  v_account := rowhouse.open_account(v_tenant);
  select u.* into v_event
    from rowhouse.usage_events u where u.tenant_id = v_tenant and u.request_id = p_request_id and u.part = p_part;
  if v_event.request_id is not null then
    return rowhouse.settlement_json(v_event, true, '{}');
  end if;
  v_reservation := rowhouse.find_reservation(v_tenant, p_request_id);
  v_measured := rowhouse.measure_units(p_units, v_reservation.prices, v_final::integer);

  v_event := rowhouse.usage_event(v_reservation, p_part, p_units, v_measured.cost, p_details, v_account.opened_at);
  select array_agg(coalesce((v_measured.amounts ->> m.metric)::numeric, 0) order by m.number),
      array_agg(case
          when v_reservation.status <> 'active' then 0
          when v_final then m.reserved
          else least(m.reserved, coalesce((v_measured.amounts ->> m.metric)::numeric, 0))
        end order by m.number)
    into v_event.amounts, v_given_back
    from unnest(v_reservation.metrics, v_reservation.reserved) with ordinality m (metric, reserved, number);
  v_event.amounts := coalesce(v_event.amounts, '{}');
  insert into rowhouse.usage_events select v_event.*;
  perform rowhouse.book_quotas(v_tenant, v_reservation.quotas, v_reservation.periods, v_given_back, v_event.amounts);
  if v_final then
    perform rowhouse.note_outcome(v_tenant, v_reservation.circuit, p_request_id, coalesce((p_details ->> 'failed')::boolean, false),
      v_event.cost, v_account);
    delete from rowhouse.reservations r where r.tenant_id = v_tenant and r.request_id = p_request_id;
  else
    update rowhouse.reservations r
      set reserved = (
        select coalesce(array_agg(b.reserved - coalesce(b.given_back, 0) order by b.number), '{}')
          from unnest(v_reservation.reserved, v_given_back) with ordinality b (reserved, given_back, number))
      where r.tenant_id = v_tenant and r.request_id = p_request_id;
  end if;
  if exists (
    select from unnest(v_reservation.quotas, v_reservation.periods, v_reservation.soft_limits) s (name, period_start, soft_limit)
      join rowhouse.quota_counters c
        on c.tenant_id = v_tenant and c.name = s.name and c.period_start = s.period_start and c.settled + c.overrun >= s.soft_limit)
  then
    v_crossed := rowhouse.note_crossed_limits(v_tenant, v_account, v_event.quotas);
  end if;
  return rowhouse.settlement_json(v_event, false, v_crossed);
end
$$;

comment on function rowhouse.settle(text, jsonb, text, jsonb) is
  'Books what an admitted call used, in the period in which it was admitted and at its prices, and gives back what it had reserved besides: {"requestId": ..., "cost": "0.0042", "currency": "USD", "duplicate": false, "crossed": []}. Repeating it changes nothing and returns the first settlement. A call whose lease ran out, or that was released, is booked all the same. p_part: names a partial settlement, after which the call goes on; empty ends it. p_details: kind, provider, latencyMs, metadata, failed (true counts against its circuit). crossed: quotas whose soft limit is used up by this. Raises RH050, RH052, RH053 (nothing is booked), RH055 (never admitted), RH058 (a part after the end), and those of the tenant.';

create or replace function rowhouse.usage_event(
  p_reservation rowhouse.reservations, p_part text, p_units jsonb, p_cost numeric, p_details jsonb, p_at timestamptz
) returns rowhouse.usage_events
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_event rowhouse.usage_events;
begin
  if jsonb_typeof(p_details) is distinct from 'object'
    or p_details - array['kind', 'provider', 'latencyMs', 'metadata', 'failed'] <> '{}'
    or jsonb_typeof(p_details -> 'failed') <> 'boolean'
    or coalesce(p_details ->> 'kind', 'x') !~ '^[a-z][a-z0-9_]{0,62}$'
    or length(p_details ->> 'provider') > 200
    or (p_details ? 'latencyMs' and (jsonb_typeof(p_details -> 'latencyMs') <> 'number'
      or (p_details ->> 'latencyMs')::numeric not between 0 and 2147483647))
    or jsonb_typeof(p_details -> 'metadata') <> 'object' or octet_length((p_details -> 'metadata')::text) > 65536
  then
    raise exception using errcode = 'RH052', message = 'not details of a settlement',
      hint = 'kind: lower-case letters, digits, underscores; provider: text; latencyMs: a number from 0; metadata: a JSON object of at most 65536 bytes.';
  end if;
  v_event.tenant_id := p_reservation.tenant_id;
  v_event.request_id := p_reservation.request_id;
  v_event.part := p_part;
  v_event.kind := coalesce(p_details ->> 'kind', case when p_reservation.model is null then 'call' else 'model_call' end);
  v_event.model := p_reservation.model;
  v_event.provider := p_details ->> 'provider';
  v_event.user_id := p_reservation.user_id;
  v_event.units := p_units;
  v_event.prices := p_reservation.prices;
  v_event.currency := p_reservation.currency;
  v_event.cost := p_cost;
  v_event.quotas := p_reservation.quotas;
  v_event.periods := p_reservation.periods;
  v_event.occurred_at := p_reservation.admitted_at;
  v_event.recorded_at := p_at;
  v_event.latency_ms := round((p_details ->> 'latencyMs')::numeric);
  v_event.metadata := coalesce(p_details -> 'metadata', '{}');
  return v_event;
end
$$;

comment on function rowhouse.usage_event(rowhouse.reservations, text, jsonb, numeric, jsonb, timestamptz) is
  'The row of usage_events of a settlement, without what it books. Raises RH052 for details that are none.';

create or replace function rowhouse.settlement_json(p_event rowhouse.usage_events, p_duplicate boolean, p_crossed text[]) returns jsonb
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return jsonb_build_object('requestId', p_event.request_id, 'part', p_event.part, 'cost', p_event.cost::text,
    'currency', p_event.currency, 'duplicate', p_duplicate, 'crossed', to_jsonb(p_crossed));
end
$$;

comment on function rowhouse.settlement_json(rowhouse.usage_events, boolean, text[]) is 'What settle returns.';

create or replace function rowhouse.release(p_request_id text, p_failed boolean default false) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
  set jit = off
as $$
declare
  v_tenant text := rowhouse.enter_tenant_write();
  v_account record := rowhouse.open_account(v_tenant);
  v_reservation rowhouse.reservations := rowhouse.find_reservation(v_tenant, p_request_id);
begin
  if v_reservation.status <> 'active' then
    return false;
  end if;
  update rowhouse.reservations r set status = 'released'
    where r.tenant_id = v_tenant and r.request_id = p_request_id;
  perform rowhouse.book_quotas(v_tenant, v_reservation.quotas, v_reservation.periods, v_reservation.reserved,
    array_fill(0::numeric, array[cardinality(v_reservation.quotas)]));
  if p_failed then
    perform rowhouse.note_outcome(v_tenant, v_reservation.circuit, p_request_id, true, 0, v_account);
  end if;
  return true;
end
$$;

comment on function rowhouse.release(text, boolean) is
  'Gives back all that an admitted call reserved, because it used nothing. p_failed: counts against its circuit; otherwise nobody knows. False when it holds nothing any more. Raises RH055 (never admitted), RH058 (settled).';

create or replace function rowhouse.extend_lease(p_request_id text, p_lease_ms integer default 60000) returns timestamptz
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
  set jit = off
as $$
declare
  v_tenant text := rowhouse.enter_tenant_write();
  v_account record;
  v_reservation rowhouse.reservations;
begin
  if p_lease_ms is null or p_lease_ms not between 1 and 86400000 then
    raise exception using errcode = 'RH052', message = 'a lease is 1 to 86400000 ms long';
  end if;
  v_account := rowhouse.open_account(v_tenant);
  v_reservation := rowhouse.find_reservation(v_tenant, p_request_id);
  if v_reservation.status <> 'active' then
    raise exception using errcode = 'RH057', message = format('the reservation %s',
        case v_reservation.status when 'expired' then 'has expired' else 'was released' end),
      hint = 'What it held may be in use by others; stop the call and settle what it used.';
  end if;
  v_reservation.expires_at := greatest(v_reservation.expires_at, v_account.opened_at + p_lease_ms * interval '1 millisecond');
  update rowhouse.reservations r set expires_at = v_reservation.expires_at
    where r.tenant_id = v_tenant and r.request_id = p_request_id;
  return v_reservation.expires_at;
end
$$;

comment on function rowhouse.extend_lease(text, integer) is
  'Lets a reservation live for p_lease_ms from now on, and returns until when. Raises RH055 (never admitted), RH058 (settled), RH057 (expired or released).';

-- Proof ----------------------------------------------------------------------------------------------------------------

create or replace function rowhouse.budget_differences()
  returns table (name text, period_start timestamptz, difference text, counted numeric, expected numeric)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_tenant text := rowhouse.require_tenant();
begin
  return query
    with held as (
      select b.name, b.period_start, sum(b.amount) as amount
        from rowhouse.reservations r
        cross join lateral unnest(r.quotas, r.periods, r.reserved) b (name, period_start, amount)
        where r.tenant_id = v_tenant and r.status = 'active'
        group by b.name, b.period_start
    ), used as (
      select b.name, b.period_start, sum(b.amount) as amount
        from rowhouse.usage_events u
        cross join lateral unnest(u.quotas, u.periods, u.amounts) b (name, period_start, amount)
        where u.tenant_id = v_tenant
        group by b.name, b.period_start
    ), counters as (
      select c.name, c.period_start, c.allowance, c.settled, c.reserved, c.overrun
        from rowhouse.quota_counters c where c.tenant_id = v_tenant
    )
    select p.name, p.period_start, d.difference, d.counted, d.expected
      from (
        select c.name, c.period_start, c.allowance, coalesce(c.settled, 0) as settled, coalesce(c.reserved, 0) as reserved,
            coalesce(c.overrun, 0) as overrun, coalesce(c.held, 0) as held, coalesce(c.used, 0) as used
          from (
            select name, period_start, allowance, settled, reserved, overrun, h.amount as held, u.amount as used
              from counters
              full join held h using (name, period_start)
              full join used u using (name, period_start)) c) p
      cross join lateral (values
        ('reserved is not what calls at work hold', p.reserved, p.held),
        ('settled and overrun are not what usage events say', p.settled + p.overrun, p.used),
        ('settled and reserved pass the allowance', greatest(p.settled + p.reserved, p.allowance), p.allowance),
        ('there is overrun although there is room', case when p.settled + p.reserved < p.allowance then p.overrun else 0 end, 0)
      ) d (difference, counted, expected)
      where d.counted <> d.expected
        -- Counters of rolling quotas are swept when they count nothing any more.
        and not exists (
          select from rowhouse.quotas q
            where q.name = p.name and p.period_start < clock_timestamp() - q.window_ms * interval '1 millisecond');
end
$$;

comment on function rowhouse.budget_differences() is
  'Conservation: compares every counter of the tenant of the transaction with the calls at work and the usage events. No rows: everything balances, settled + reserved + free = allowance.';

revoke execute on function
  rowhouse.expire_reservations(text, timestamptz), rowhouse.find_reservation(text, text),
  rowhouse.quota_retry_ms(text, text, text, bigint, timestamptz, numeric, timestamptz),
  rowhouse.known_admission(text, text), rowhouse.admission_json(text, timestamptz, numeric, text, boolean),
  rowhouse.plan_reservation(text, record, jsonb), rowhouse.quota_denial(text, record, jsonb), rowhouse.rate_denial(text, text),
  rowhouse.admit(text, jsonb, text, integer, text, text, text), rowhouse.settle(text, jsonb, text, jsonb),
  rowhouse.usage_event(rowhouse.reservations, text, jsonb, numeric, jsonb, timestamptz),
  rowhouse.settlement_json(rowhouse.usage_events, boolean, text[]), rowhouse.release(text, boolean),
  rowhouse.extend_lease(text, integer), rowhouse.budget_differences()
  from public;
grant execute on function
  rowhouse.admit(text, jsonb, text, integer, text, text, text), rowhouse.settle(text, jsonb, text, jsonb),
  rowhouse.release(text, boolean), rowhouse.extend_lease(text, integer), rowhouse.budget_differences()
  to rowhouse_app;
