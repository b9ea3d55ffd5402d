-- Settlements: what a call did use is booked, once for each request id, however often it is said and however late.
--
-- The rest of its reservation goes back, and so does all of it when the call is released. budget_differences proves at any
-- moment that the books balance.
-- Depends on: reservations.sql, prices.sql, quotas.sql, usage.sql. Proven by: test/budgets.

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
  -- A tenant that was suspended meanwhile too; not one that is being erased.
  v_tenant text := rowhouse.enter_tenant_write('{active,suspended,inactive}');
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
  'Books what an admitted call used, in the period in which it was admitted and at its prices, and gives back what it had reserved besides: {"requestId": ..., "cost": "0.0042", "currency": "USD", "duplicate": false, "crossed": []}. Repeating it changes nothing and returns the first settlement. A call whose lease ran out, or that was released, is booked all the same. p_part: names a partial settlement, after which the call goes on; empty ends it. p_details: kind, provider, latencyMs, metadata, failed (true counts against its circuit). A tenant that was suspended meanwhile may settle. crossed: quotas whose soft limit is used up by this. Raises RH050, RH052, RH053 (nothing is booked), RH055 (never admitted), RH058 (a part after the end), and those of the tenant.';

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
  -- A tenant that was suspended meanwhile too; not one that is being erased.
  v_tenant text := rowhouse.enter_tenant_write('{active,suspended,inactive}');
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
  rowhouse.settle(text, jsonb, text, jsonb),
  rowhouse.usage_event(rowhouse.reservations, text, jsonb, numeric, jsonb, timestamptz),
  rowhouse.settlement_json(rowhouse.usage_events, boolean, text[]), rowhouse.release(text, boolean),
  rowhouse.extend_lease(text, integer), rowhouse.budget_differences()
  from public;
grant execute on function
  rowhouse.settle(text, jsonb, text, jsonb), rowhouse.release(text, boolean), rowhouse.extend_lease(text, integer),
  rowhouse.budget_differences()
  to rowhouse_app;
