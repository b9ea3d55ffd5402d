-- Giving back: what a tenant holds of something that can go away, such as seats and stored bytes, gets less.
--
-- Only quotas that never start anew count what is held; in all other periods what was used was used, and money is never
-- given back. It is a usage event with negative amounts, so the books still balance.
-- Depends on: quotas.sql, settlements.sql. Proven by: test/budgets/give-back.test.ts.

create or replace function rowhouse.check_given_back(p_units jsonb) returns void
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_unit text;
begin
  -- Also that they are amounts.
  perform rowhouse.measure_units(p_units, null, 0);
  select k.key into v_unit
    from jsonb_object_keys(p_units) k (key)
    where k.key in ('money', 'tokens', 'images', 'tool_calls') or k.key like '%\_tokens'
      or not exists (select from rowhouse.quotas q where q.metric = k.key and q.period = 'total')
    limit 1;
  if v_unit is not null then
    raise exception using errcode = 'RH052', message = format('%s cannot be given back', left(v_unit, 63)),
      hint = 'Only what a quota of the period total counts, and what costs nothing, such as seats.';
  end if;
end
$$;

comment on function rowhouse.check_given_back(jsonb) is
  'Raises RH052 for units that cannot be given back, and what measure_units raises.';

create or replace function rowhouse.give_back(p_event_id text, p_units jsonb) returns jsonb
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set enable_seqscan = off
  set jit = off
as $$
declare
  v_account record := rowhouse.lock_account();
  v_tenant text := v_account.tenant;
  v_call rowhouse.reservations;
  v_event rowhouse.usage_events;
  v_used numeric[];
  v_limits numeric[];
  v_units jsonb;
begin
  if p_event_id is null or length(p_event_id) not between 1 and 200 then
    raise exception using errcode = 'RH052', message = 'an event id is a text of 1 to 200 characters';
  end if;
  select u.* into v_event
    from rowhouse.usage_events u where u.tenant_id = v_tenant and u.request_id = p_event_id and u.part = 'give_back';
  if v_event.request_id is not null then
    return jsonb_build_object('givenBack', rowhouse.negated_units(v_event.units), 'duplicate', true);
  end if;
  perform rowhouse.check_given_back(p_units);
  -- No more than is there.
  select coalesce(array_agg(h.name), '{}'), coalesce(array_agg(h.period_start), '{}'), coalesce(array_agg(-h.amount), '{}'),
      coalesce(array_agg(h.hard_limit), '{}')
    into v_call.quotas, v_call.periods, v_used, v_limits
    from (
      select e.name, e.period_start, e.hard_limit,
          least((p_units ->> e.metric)::numeric, e.settled + e.overrun) as amount
        from rowhouse.effective_quotas(v_tenant, v_account.tier, v_account.time_zone, v_account.opened_at) e
        where e.period = 'total' and p_units ? e.metric) h
    where h.amount > 0;
  select coalesce(jsonb_object_agg(g.metric, g.amount), '{}') into v_units
    from (
      select q.metric, min(b.amount) as amount
        from unnest(v_call.quotas, v_used) b (name, amount) join rowhouse.quotas q on q.name = b.name
        group by q.metric) g;
  v_call.tenant_id := v_tenant;
  v_call.request_id := p_event_id;
  v_call.user_id := nullif(current_setting('app.user_id', true), '');
  v_call.currency := v_account.currency;
  v_call.admitted_at := v_account.opened_at;
  perform rowhouse.add_usage_event(v_call, 'give_back', v_units, 0, v_used, '{"kind": "give_back"}', v_account.opened_at);
  perform rowhouse.book_quotas(v_tenant, v_call.quotas, v_call.periods, null,
    array_fill(0::numeric, array[cardinality(v_used)]), v_used, null, v_limits);
  return jsonb_build_object('givenBack', rowhouse.negated_units(v_units), 'duplicate', false);
end
$$;

comment on function rowhouse.give_back(text, jsonb) is
  'Gives back units such as {"seats": 1} to the quotas of the period total that count them, never more than was used, and returns what was: {"givenBack": {"seats": 1}, "duplicate": false}. Repeating it with its event id changes nothing; the id may be that with which they were used. Raises RH050, RH052 (money, tokens, and what no quota of the period total counts), and those of the tenant.';

create or replace function rowhouse.negated_units(p_units jsonb) returns jsonb
  language sql immutable parallel safe
  return (select coalesce(jsonb_object_agg(u.key, -(u.value::numeric)), '{}') from jsonb_each_text(p_units) u);

comment on function rowhouse.negated_units(jsonb) is 'Units with the other sign.';

revoke execute on function
  rowhouse.check_given_back(jsonb), rowhouse.give_back(text, jsonb), rowhouse.negated_units(jsonb)
  from public;
grant execute on function rowhouse.give_back(text, jsonb) to rowhouse_app;
