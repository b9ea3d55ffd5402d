-- Settlements: what a call did use is booked, once for each request id, however often it is said and however late.
--
-- The rest of its reservation goes back, and so does all of it when the call is released. budget_differences proves at any
-- moment that the books balance.
-- Depends on: reservations.sql, prices.sql, quotas.sql, usage.sql. Proven by: test/budgets.

-- Without a search path of its own, as begin_tenant_write.
create or replace function rowhouse.settle_call(
  p_waits boolean, p_request_id text, p_units jsonb, p_part text, p_details jsonb
) returns jsonb
  language plpgsql volatile
as $$
declare
  -- A tenant that was suspended meanwhile too; not one that is being erased.
  v_account rowhouse.locked_account := rowhouse.lock_account('{active,suspended,inactive}', p_waits);
  v_tenant text := v_account.tenant;
  v_event rowhouse.usage_events;
  v_reservation rowhouse.reservations;
  v_measured record;
  v_final boolean := p_part = '';
  v_given_back numeric[] := '{}';
  v_used numeric[] := '{}';
  -- Without terms nobody knows, and it is looked at.
  v_has_circuits boolean := v_account.has_open_circuit or (v_account.terms).has_circuit_rule is not false;
  v_crossed text[] := '{}';
begin
  if v_tenant is null then
    return null;
  end if;
  if p_part is null or length(p_part) > 64 then
    raise exception using errcode = 'RH052', message = 'a part is a text of at most 64 characters';
  end if;
  -- While its reservation is there, a call has not been settled as a whole.
  if v_final then
    delete from rowhouse.reservations r where r.tenant_id = v_tenant and r.request_id = p_request_id returning r.* into v_reservation;
  end if;
  if v_reservation.request_id is null then
    select u.* into v_event
      from rowhouse.usage_events u where u.tenant_id = v_tenant and u.request_id = p_request_id and u.part = p_part;
    if v_event.request_id is not null then
      return rowhouse.settlement_json(v_event.request_id, v_event.part, v_event.cost, v_event.currency, true, '{}');
    end if;
    v_reservation := rowhouse.find_reservation(v_tenant, p_request_id);
  end if;
  v_measured := rowhouse.measure_units(p_units, v_reservation.prices, v_final::integer);
  for v_number in 1 .. cardinality(v_reservation.metrics) loop
    v_used[v_number] := coalesce((v_measured.amounts -> v_reservation.metrics[v_number])::numeric, 0);
    v_given_back[v_number] := case when v_reservation.status <> 'active' then 0
      when v_final then v_reservation.reserved[v_number] else least(v_reservation.reserved[v_number], v_used[v_number]) end;
  end loop;
  perform rowhouse.add_usage_event(v_reservation, p_part, p_units, v_measured.cost, v_used, p_details, v_account.opened_at);
  if rowhouse.book_quotas(v_tenant, v_reservation.quotas, v_reservation.periods, v_reservation.windows, v_given_back, v_used,
    v_reservation.soft_limits) then
    v_crossed := rowhouse.note_crossed_limits(v_account, v_reservation.quotas, v_reservation.periods);
  end if;
  if v_final and v_has_circuits then
    perform rowhouse.note_outcome(v_account, v_reservation.circuit, p_request_id,
      coalesce((p_details ->> 'failed')::boolean, false), v_measured.cost);
  elsif not v_final then
    if v_has_circuits then
      perform rowhouse.note_spend(v_account, v_reservation.circuit, v_measured.cost);
    end if;
    update rowhouse.reservations r
      set reserved = (
        select coalesce(array_agg(b.reserved - b.given_back), '{}')
          from unnest(v_reservation.reserved, v_given_back) b (reserved, given_back))
      where r.tenant_id = v_tenant and r.request_id = p_request_id;
  end if;
  if p_details ? 'audit' then
    perform rowhouse.audit_settlement(v_reservation, p_part, p_details);
  end if;
  return rowhouse.settlement_json(p_request_id, p_part, v_measured.cost, v_reservation.currency, false, v_crossed);
end
$$;

comment on function rowhouse.settle_call(boolean, text, jsonb, text, jsonb) is
  'What settle does. p_waits: false returns null where it would wait for a lock.';

create or replace function rowhouse.settle(
  p_request_id text, p_units jsonb default '{}', p_part text default '', p_details jsonb default '{}'
) returns jsonb
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
  set enable_bitmapscan = off
  set jit = off
as $$
begin
  return rowhouse.settle_call(true, p_request_id, p_units, p_part, p_details);
end
$$;

comment on function rowhouse.settle(text, jsonb, text, jsonb) is
  'Books what an admitted call used, in the period in which it was admitted and at its prices, and gives back what it had reserved besides: {"requestId": ..., "cost": "0.0042", "currency": "USD", "duplicate": false, "crossed": []}. Repeating it changes nothing and returns the first settlement. A call whose lease ran out, or that was released, is booked all the same. p_part: names a partial settlement, after which the call goes on; empty ends it. p_details: kind, provider, latencyMs, metadata, failed (true counts against its circuit), audit (an entry of the audit trail as audit_settlement writes it; without it none is written). A tenant that was suspended meanwhile may settle. crossed: quotas whose soft limit is used up by this. Raises RH050, RH052, RH053, RH090 (nothing is booked), RH055 (never admitted), RH058 (a part after the end), and those of the tenant.';

create or replace function rowhouse.check_details(p_details jsonb) returns void
  language plpgsql immutable
  set search_path = pg_catalog, pg_temp
as $$
begin
  if jsonb_typeof(p_details) is distinct from 'object'
    or p_details - array['kind', 'provider', 'latencyMs', 'metadata', 'failed', 'audit'] <> '{}'
    or jsonb_typeof(p_details -> 'audit') <> 'object'
    or jsonb_typeof(p_details -> 'failed') <> 'boolean'
    or coalesce(p_details ->> 'kind', 'x') !~ '^[a-z][a-z0-9_]{0,62}$'
    or length(p_details ->> 'provider') > 200
    or (p_details ? 'latencyMs' and (jsonb_typeof(p_details -> 'latencyMs') <> 'number'
      or (p_details ->> 'latencyMs')::numeric not between 0 and 2147483647))
    or jsonb_typeof(p_details -> 'metadata') <> 'object' or octet_length((p_details -> 'metadata')::text) > 65536
  then
    raise exception using errcode = 'RH052', message = 'not details of a settlement',
      hint = 'kind: lower-case letters, digits, underscores; provider: text; latencyMs: a number from 0; metadata: a JSON object of at most 65536 bytes; audit: an object.';
  end if;
end
$$;

comment on function rowhouse.check_details(jsonb) is 'Raises RH052 for what are no details of a settlement.';

-- Without a search path of its own, as begin_tenant_write.
create or replace function rowhouse.add_usage_event(
  p_call rowhouse.reservations, p_part text, p_units jsonb, p_cost numeric, p_amounts numeric[], p_details jsonb, p_at timestamptz
) returns void
  language plpgsql volatile
as $$
begin
  if p_details is distinct from '{}' then
    perform rowhouse.check_details(p_details);
  end if;
  insert into rowhouse.usage_events (tenant_id, request_id, part, kind, model, provider, user_id, units, prices, currency, cost,
      quotas, periods, amounts, occurred_at, recorded_at, latency_ms, metadata)
    values (p_call.tenant_id, p_call.request_id, p_part,
      coalesce(p_details ->> 'kind', case when p_call.model is null then 'call' else 'model_call' end),
      p_call.model, p_details ->> 'provider', p_call.user_id, p_units, p_call.prices, p_call.currency, p_cost,
      p_call.quotas, p_call.periods, p_amounts, p_call.admitted_at, p_at,
      round((p_details ->> 'latencyMs')::numeric), coalesce(p_details -> 'metadata', '{}'));
end
$$;

comment on function rowhouse.add_usage_event(rowhouse.reservations, text, jsonb, numeric, numeric[], jsonb, timestamptz) is
  'Writes what a call used. Raises RH052 for details that are none.';

create or replace function rowhouse.audit_settlement(p_call rowhouse.reservations, p_part text, p_details jsonb) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_audit jsonb := p_details -> 'audit';
  v_used record;
begin
  if v_audit ->> 'action' is null or starts_with(v_audit ->> 'action', 'rowhouse.')
    or v_audit - array['action', 'documents', 'error', 'detail'] <> '{}'
  then
    raise exception using errcode = 'RH090', message = 'not an audit entry of a settlement',
      hint = 'It has an action, not one of rowhouse, and may have documents, error and detail; all else is filled in.';
  end if;
  -- The end of a call is about all of it.
  select sum(coalesce((u.units ->> 'input_tokens')::numeric, 0) + coalesce((u.units ->> 'cached_input_tokens')::numeric, 0)
        + coalesce((u.units ->> 'cache_write_tokens')::numeric, 0) + coalesce((u.units ->> 'embedding_tokens')::numeric, 0)) as input_tokens,
      sum(coalesce((u.units ->> 'output_tokens')::numeric, 0)) as output_tokens, sum(u.cost) as cost
    into v_used
    from rowhouse.usage_events u
    where u.tenant_id = p_call.tenant_id and u.request_id = p_call.request_id and (p_part = '' or u.part = p_part);
  -- The caller has done what the write guard does, and lets a tenant settle that is suspended.
  set local rowhouse.audits_lifecycle = on;
  perform rowhouse.write_audit(p_call.tenant_id, jsonb_build_array(v_audit || jsonb_strip_nulls(jsonb_build_object(
    'requestId', p_call.request_id, 'userId', p_call.user_id, 'model', p_call.model, 'inputTokens', round(v_used.input_tokens),
    'outputTokens', round(v_used.output_tokens), 'cost', trim_scale(v_used.cost),
    'latencyMs', round((p_details ->> 'latencyMs')::numeric)))));
  set local rowhouse.audits_lifecycle = off;
exception
  when data_exception or check_violation or not_null_violation then
    raise exception using errcode = 'RH090', message = format('an audit entry is not accepted: %s', sqlerrm);
end
$$;

comment on function rowhouse.audit_settlement(rowhouse.reservations, text, jsonb) is
  'Writes the entry of the audit trail that the details of a settlement have (audit: action, documents, error, detail), with what is known of the call: request, user, model, tokens read and written, exact cost, latency. At the end of a call all its parts are in it. Raises RH090.';

create or replace function rowhouse.settlement_json(
  p_request_id text, p_part text, p_cost numeric, p_currency text, p_duplicate boolean, p_crossed text[]
) returns jsonb
  language sql stable
  return jsonb_build_object('requestId', p_request_id, 'part', p_part, 'cost', p_cost::text, 'currency', p_currency,
    'duplicate', p_duplicate, 'crossed', p_crossed);

comment on function rowhouse.settlement_json(text, text, numeric, text, boolean, text[]) is 'What settle returns.';

create or replace function rowhouse.release(p_request_id text, p_failed boolean default false) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
  set enable_bitmapscan = off
  set jit = off
as $$
declare
  -- A tenant that was suspended meanwhile too; not one that is being erased.
  v_account record := rowhouse.open_account('{active,suspended,inactive}');
  v_tenant text := v_account.tenant;
  v_reservation rowhouse.reservations := rowhouse.find_reservation(v_tenant, p_request_id);
begin
  if v_reservation.status <> 'active' then
    return false;
  end if;
  update rowhouse.reservations r set status = 'released'
    where r.tenant_id = v_tenant and r.request_id = p_request_id;
  perform rowhouse.give_back_quotas(v_tenant, v_reservation.quotas, v_reservation.periods, v_reservation.reserved);
  if p_failed then
    perform rowhouse.note_outcome(v_account, v_reservation.circuit, p_request_id, true, 0);
  else
    perform rowhouse.move_trial(v_tenant, v_reservation.circuit, p_request_id, v_account.opened_at);
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
  set enable_bitmapscan = off
  set jit = off
as $$
declare
  v_account record;
  v_tenant text;
  v_reservation rowhouse.reservations;
begin
  if p_lease_ms is null or p_lease_ms not between 1 and 86400000 then
    raise exception using errcode = 'RH052', message = 'a lease is 1 to 86400000 ms long';
  end if;
  v_account := rowhouse.open_account();
  v_tenant := v_account.tenant;
  v_reservation := rowhouse.find_reservation(v_tenant, p_request_id);
  if v_reservation.status <> 'active' then
    raise exception using errcode = 'RH057', message = format('the reservation %s',
        case v_reservation.status when 'expired' then 'has expired' else 'was released' end),
      hint = 'What it held may be in use by others; stop the call and settle what it used.';
  end if;
  v_reservation.expires_at := greatest(v_reservation.expires_at, v_account.opened_at + p_lease_ms * interval '1 millisecond');
  update rowhouse.reservations r set expires_at = v_reservation.expires_at
    where r.tenant_id = v_tenant and r.request_id = p_request_id;
  perform rowhouse.move_trial(v_tenant, v_reservation.circuit, p_request_id, v_reservation.expires_at);
  return v_reservation.expires_at;
end
$$;

comment on function rowhouse.extend_lease(text, integer) is
  'Lets a reservation live for p_lease_ms from now on, and returns until when. Raises RH055 (never admitted), RH058 (settled), RH057 (expired or released).';

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
      select c.name, c.period_start, c.allowance, c.settled, c.reserved, c.overrun, c.archived
        from rowhouse.quota_counters c where c.tenant_id = v_tenant
    )
    select p.name, p.period_start, d.difference, d.counted, d.expected
      from (
        select c.name, c.period_start, c.allowance, coalesce(c.settled, 0) as settled, coalesce(c.reserved, 0) as reserved,
            coalesce(c.overrun, 0) as overrun, coalesce(c.held, 0) as held, coalesce(c.used, 0) + coalesce(c.archived, 0) as used
          from (
            select name, period_start, allowance, settled, reserved, overrun, archived, h.amount as held, u.amount as used
              from counters
              full join held h using (name, period_start)
              full join used u using (name, period_start)) c) p
      cross join lateral (values
        ('reserved is not what calls at work hold', p.reserved, p.held),
        ('settled and overrun are not what usage events say', p.settled + p.overrun, p.used),
        ('settled and reserved pass the allowance', greatest(p.settled + p.reserved, p.allowance), p.allowance),
        -- Of rolling quotas it stays where it was booked when others leave the window.
        ('there is overrun although there is room', case when p.settled + p.reserved < p.allowance
          and not exists (select from rowhouse.quotas q where q.name = p.name and q.period = 'rolling') then p.overrun else 0 end, 0)
      ) d (difference, counted, expected)
      where d.counted <> d.expected
        -- Counters of rolling quotas are swept when they count nothing any more.
        and not exists (
          select from rowhouse.quotas q
            where q.name = p.name and p.period_start < clock_timestamp() - q.window_ms * interval '1 millisecond')
    union all
    (select distinct on (w.name) w.name, w.period_start, 'the window of a rolling quota passes its allowance', w.held, w.allowance
      from (
        -- Of the whole window and of what will be left of it, whenever older sixtieths have gone.
        select c.name, c.period_start, sum(c.settled + c.reserved) over later as held,
            max(coalesce(c.allowance, 'Infinity')) over later as allowance
          from rowhouse.quotas q
          join counters c
            on c.name = q.name and c.period_start >= rowhouse.rolling_bucket(q.window_ms, clock_timestamp(), q.window_ms)
          where q.period = 'rolling'
          window later as (partition by c.name order by c.period_start desc)) w
      where w.held > w.allowance
      order by w.name, w.period_start);
end
$$;

comment on function rowhouse.budget_differences() is
  'Conservation: compares every counter of the tenant of the transaction with the calls at work and the usage events. No rows: everything balances, settled + reserved + free = allowance.';

revoke execute on function
  rowhouse.settle_call(boolean, text, jsonb, text, jsonb), rowhouse.settle(text, jsonb, text, jsonb),
  rowhouse.check_details(jsonb), rowhouse.audit_settlement(rowhouse.reservations, text, jsonb),
  rowhouse.add_usage_event(rowhouse.reservations, text, jsonb, numeric, numeric[], jsonb, timestamptz),
  rowhouse.settlement_json(text, text, numeric, text, boolean, text[]), rowhouse.release(text, boolean),
  rowhouse.extend_lease(text, integer), rowhouse.budget_differences()
  from public;
grant execute on function
  rowhouse.settle(text, jsonb, text, jsonb), rowhouse.release(text, boolean), rowhouse.extend_lease(text, integer),
  rowhouse.budget_differences()
  to rowhouse_app;
