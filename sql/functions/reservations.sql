-- Reservations: money is reserved before it is spent.
--
-- admit reserves the most that a call can use, of every quota and budget at once, or refuses it and books nothing. A
-- caller that dies leaves a lease that runs out; settlements.sql books what a call did use, and gives the rest back. At
-- every commit: settled + reserved <= allowance, which the table itself checks.
-- Every row is found by its key. The planner is told so: it would plan anew in every call, because arrays of few elements
-- look cheap (plan_cache_mode), or keep a plan that it made while the tables were empty (enable_seqscan). What such a
-- plan is said to cost would make it compile every statement, which takes a thousand times as long (jit).
-- Depends on: prices.sql, quotas.sql, rate_limits.sql, denials.sql, rowhouse.reservations. Proven by: test/budgets.

select rowhouse.protect_table('rowhouse.reservations');
select rowhouse.protect_table('rowhouse.circuits');

-- Written by the functions below alone, which do the work of the write guard themselves.
revoke insert, update, delete on rowhouse.reservations, rowhouse.circuits from rowhouse_app;
drop trigger rowhouse_guard on rowhouse.reservations;
drop trigger rowhouse_guard on rowhouse.circuits;

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
    perform rowhouse.give_back_quotas(p_tenant, v_names, v_periods, v_reserved);
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
            and c.period_start >= rowhouse.rolling_bucket(p_window_ms, p_at, p_window_ms)) b
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
  language sql stable
  return jsonb_build_object('admitted', true, 'requestId', p_request_id, 'duplicate', p_duplicate,
    'expiresAt', p_expires_at, 'cost', p_cost::text, 'currency', p_currency);

comment on function rowhouse.admission_json(text, timestamptz, numeric, text, boolean) is
  'What admit returns of an admitted request.';

create or replace function rowhouse.quota_denial(p_account record, p_amounts jsonb) returns jsonb
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
      from rowhouse.effective_quotas(p_account.tenant, p_account.tier, p_account.time_zone, p_account.opened_at) e
  loop
    v_missing := v_quota.amount - (v_quota.hard_limit - v_quota.settled - v_quota.reserved - v_quota.overrun);
    continue when v_missing is null or v_missing <= 0 or v_quota.amount = 0;
    -- What is above the limit alone fits at no time.
    v_retry := case when v_quota.amount <= v_quota.hard_limit then
      rowhouse.quota_retry_ms(p_account.tenant, v_quota.name, v_quota.metric, v_quota.window_ms, v_quota.period_end, v_missing, p_account.opened_at) end;
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

comment on function rowhouse.quota_denial(record, jsonb) is
  'Of the quotas that amounts do not fit into, the one that stays in the way longest, as admit returns it; null when they fit.';

create or replace function rowhouse.rate_denial(p_rate_limit text, p_subject text) returns jsonb
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_decision json := rowhouse.take_rate_limit(p_rate_limit, null, null, null, array[p_subject], '{1}', '{1}') -> 0;
begin
  if v_decision ->> 0 = '1' then
    return null;
  end if;
  return jsonb_build_object('admitted', false, 'reason', 'rate_limited', 'decidedAt', v_decision -> 1, 'windows', v_decision -> 2,
    'retryAfterMs', (select max((w.value ->> 4)::bigint) from json_array_elements(v_decision -> 2) w));
end
$$;

comment on function rowhouse.rate_denial(text, text) is
  'Takes one call from a stored rate limit: null when it is admitted, else the denial as admit returns it.';

-- Without a search path of its own, as begin_tenant_write.
create or replace function rowhouse.admit_call(
  p_waits boolean, p_request_id text, p_units jsonb, p_model text, p_lease_ms integer,
  p_rate_limit text, p_subject text, p_circuit text
) returns jsonb
  language plpgsql volatile
as $$
declare
  v_account rowhouse.locked_account;
  v_tenant text;
  v_terms rowhouse.account_terms;
  v_facts record;
  v_answer jsonb;
  v_prices jsonb;
  v_measured record;
  v_amounts jsonb;
  v_amount numeric;
  v_reserved numeric[] := '{}';
  v_fits boolean := true;
  v_expires_at timestamptz;
begin
  if p_request_id is null or length(p_request_id) not between 1 and 200 then
    raise exception using errcode = 'RH052', message = 'a request id is a text of 1 to 200 characters';
  elsif p_lease_ms is null or p_lease_ms not between 1 and 86400000 then
    raise exception using errcode = 'RH052', message = 'a lease is 1 to 86400000 ms long';
  elsif p_circuit is null or length(p_circuit) > 100 then
    raise exception using errcode = 'RH052', message = 'a circuit has a name of at most 100 characters';
  end if;
  v_account := rowhouse.lock_account('{active}', p_waits);
  if v_account.tenant is null then
    return null;
  end if;
  v_tenant := v_account.tenant;
  v_terms := v_account.terms;
  if (v_account.opened_at >= v_terms.valid_from and v_account.opened_at < v_terms.valid_until) is not true then
    v_terms := rowhouse.renew_terms(v_account);
  end if;
  loop
    -- All that the decision needs is read in one statement: whatever may stand in the way, of which most calls meet
    -- nothing, and what is free of each quota.
    select exists (select from rowhouse.reservations r where r.tenant_id = v_tenant and r.request_id = p_request_id)
          or exists (select from rowhouse.usage_events u where u.tenant_id = v_tenant and u.request_id = p_request_id) as is_known,
        exists (
          select from rowhouse.reservations r
            where r.tenant_id = v_tenant and r.status = 'active' and r.expires_at <= v_account.opened_at) as has_expired,
        l.*
      into v_facts
      from (
        -- In the order of the terms, which a nested loop keeps.
        select array_agg(q.hard_limit - coalesce(c.used, 0)) as free, bool_or(c.counted is not true) as begins_period
          from (
              select unnest(v_terms.names) as name, unnest(v_terms.period_starts) as period_start,
                  unnest(v_terms.counted_from) as counted_from, unnest(v_terms.hard_limits) as hard_limit) q
            cross join lateral (
              select sum(n.settled + n.reserved + n.overrun) as used, bool_or(n.period_start = q.period_start) as counted
                from rowhouse.quota_counters n
                where n.tenant_id = v_tenant and n.name = q.name and n.period_start between q.counted_from and q.period_start) c) l;
    exit when not v_facts.has_expired;
    if not p_waits then
      return null;
    end if;
    perform rowhouse.expire_reservations(v_tenant, v_account.opened_at);
  end loop;
  if v_facts.is_known then
    return rowhouse.known_admission(v_tenant, p_request_id);
  end if;
  if v_account.has_open_circuit then
    v_answer := rowhouse.circuit_denial(v_tenant, p_circuit, v_account.opened_at);
    if v_answer is not null then
      return rowhouse.deny(v_tenant, v_answer);
    end if;
  end if;
  if p_model <> all (coalesce(v_account.models, v_terms.models)) then
    return rowhouse.deny(v_tenant, jsonb_build_object('admitted', false, 'reason', 'model_not_allowed', 'model', p_model));
  end if;
  if p_model is not null then
    v_prices := rowhouse.model_prices(p_model, v_account.currency, v_account.opened_at);
  end if;
  v_measured := rowhouse.measure_units(p_units, v_prices, 1);
  v_amounts := v_measured.amounts || '{"slots": 1}';

  -- Every quota is asked, and then the rate limit; nothing is booked before all of them agreed.
  for v_number in 1 .. cardinality(v_terms.names) loop
    v_amount := coalesce((v_amounts -> v_terms.metrics[v_number])::numeric, 0);
    v_reserved[v_number] := v_amount;
    if v_amount > v_facts.free[v_number] and v_amount > 0 then
      v_fits := false;
    end if;
  end loop;
  for v_number in 1 .. coalesce(cardinality(v_terms.request_metrics), 0) loop
    if (v_amounts -> v_terms.request_metrics[v_number])::numeric > v_terms.request_limits[v_number] then
      v_fits := false;
    end if;
  end loop;
  if not v_fits then
    v_answer := rowhouse.quota_denial(v_account, v_amounts);
    if v_answer is null then
      -- They fit by the limits of now: an operator raised one since, or the terms are not what they should be.
      perform rowhouse.renew_terms(v_account);
      return rowhouse.admit_call(p_waits, p_request_id, p_units, p_model, p_lease_ms, p_rate_limit, p_subject, p_circuit);
    end if;
    return rowhouse.deny(v_tenant, v_answer);
  end if;
  if p_rate_limit is not null then
    if not p_waits and rowhouse.is_rate_counter_held(v_tenant, p_rate_limit, p_subject) then
      return null;
    end if;
    v_answer := rowhouse.rate_denial(p_rate_limit, p_subject);
    if v_answer is not null then
      return v_answer;
    end if;
  end if;

  if v_facts.begins_period then
    perform rowhouse.begin_periods(v_account, v_terms.names, v_terms.period_starts, v_terms.hard_limits);
  end if;
  -- What is admitted fits into the limit, and so does what was overrun before.
  update rowhouse.quota_counters c
    set allowance = b.hard_limit, reserved = c.reserved + b.amount, settled = c.settled + c.overrun, overrun = 0
    from (
      select unnest(v_terms.names) as name, unnest(v_terms.period_starts) as period_start, unnest(v_terms.hard_limits) as hard_limit,
          unnest(v_reserved) as amount) b
    where c.tenant_id = v_tenant and c.name = b.name and c.period_start = b.period_start and b.amount > 0;
  v_expires_at := v_account.opened_at + p_lease_ms * interval '1 millisecond';
  if v_account.has_open_circuit then
    perform rowhouse.try_circuits(v_tenant, p_circuit, p_request_id, v_expires_at);
  end if;
  insert into rowhouse.reservations (tenant_id, request_id, model, user_id, circuit, currency, prices, quotas, metrics, periods,
      windows, reserved, soft_limits, cost, admitted_at, expires_at)
    values (v_tenant, p_request_id, p_model, nullif(current_setting('app.user_id', true), ''), p_circuit, v_account.currency,
      v_prices, v_terms.names, v_terms.metrics, v_terms.period_starts, v_terms.windows, v_reserved, v_terms.soft_limits, v_measured.cost,
      v_account.opened_at, v_expires_at);
  return rowhouse.admission_json(p_request_id, v_expires_at, v_measured.cost, v_account.currency, false);
end
$$;

comment on function rowhouse.admit_call(boolean, text, jsonb, text, integer, text, text, text) is
  'What admit does. p_waits: false returns null where it would wait for a lock, or where there are expired reservations to be given back first, of which there may be thousands.';

create or replace function rowhouse.admit(
  p_request_id text, p_units jsonb default '{}', p_model text default null, p_lease_ms integer default 60000,
  p_rate_limit text default 'requests', p_subject text default '', p_circuit text default ''
) returns jsonb
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
  set enable_bitmapscan = off
  set jit = off
as $$
begin
  return rowhouse.admit_call(true, p_request_id, p_units, p_model, p_lease_ms, p_rate_limit, p_subject, p_circuit);
end
$$;

comment on function rowhouse.admit(text, jsonb, text, integer, text, text, text) is
  'Asks whether a call may begin, and reserves the most that it can use: {"admitted": true, "requestId": ..., "expiresAt": ..., "cost": "0.0156", "currency": "USD", "duplicate": false}, or {"admitted": false, "reason": ...} and nothing is booked. Reasons: model_not_allowed, quota_exceeded, budget_exceeded (with quota, limit, used, reserved, requested and retryAfterMs, null when time alone does not help), rate_limited, circuit_open. p_request_id: new for each call; repeating it while the call is at work returns the same answer. p_units: the worst case, such as {"input_tokens": 1200, "output_tokens": 800}. p_lease_ms: unless it is extended or settled by then, the reservation is given back. p_rate_limit: name of a stored limit, null for none. p_circuit: what it is stopped with, such as a provider, besides the tenant as a whole. Raises RH050, RH052, RH053 (unknown quota, amount, model or price), RH056 (request id used before), and those of the tenant.';

revoke execute on function
  rowhouse.expire_reservations(text, timestamptz), rowhouse.find_reservation(text, text),
  rowhouse.quota_retry_ms(text, text, text, bigint, timestamptz, numeric, timestamptz),
  rowhouse.known_admission(text, text), rowhouse.admission_json(text, timestamptz, numeric, text, boolean),
  rowhouse.quota_denial(record, jsonb),
  rowhouse.rate_denial(text, text),
  rowhouse.admit_call(boolean, text, jsonb, text, integer, text, text, text), rowhouse.admit(text, jsonb, text, integer, text, text, text)
  from public;
grant execute on function
  rowhouse.admit(text, jsonb, text, integer, text, text, text)
  to rowhouse_app;
