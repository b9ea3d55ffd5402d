-- Circuits: stop the calls of a tenant, or those of it to one provider, when too many fail or money runs away.
--
-- State is in the database, so all processes see it. admit refuses calls of an open circuit; settle and release tell the
-- outcome of each call. After a pause one call may try: its outcome closes the circuit or opens it again.
-- The caller of each function but those of operators holds the account of the tenant.
-- Depends on: locks.sql, rowhouse.circuits; reservations.sql puts the table under protection, because this file is
-- applied before protect.sql. Proven by: test/budgets/circuits.test.ts.

alter table rowhouse.circuit_rules enable row level security, force row level security;
drop policy if exists everybody_reads on rowhouse.circuit_rules;
create policy everybody_reads on rowhouse.circuit_rules for select to public using (true);
comment on policy everybody_reads on rowhouse.circuit_rules is 'Rules of tiers; no data of tenants.';
drop policy if exists owner_all on rowhouse.circuit_rules;
create policy owner_all on rowhouse.circuit_rules for all to rowhouse_owner using (true) with check (true);
comment on policy owner_all on rowhouse.circuit_rules is 'The functions of rowhouse write the rules of tiers.';
revoke all on rowhouse.circuit_rules from public, rowhouse_app, rowhouse_admin;
grant select on rowhouse.circuit_rules to rowhouse_app, rowhouse_admin;

create or replace function rowhouse.circuit_denial(p_tenant text, p_circuit text, p_at timestamptz) returns jsonb
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_circuit rowhouse.circuits;
begin
  select c.* into v_circuit
    from rowhouse.circuits c
    where c.tenant_id = p_tenant and c.circuit in ('', p_circuit) and c.status <> 'closed'
      and (c.retry_at is null or c.retry_at > p_at)
    order by c.retry_at desc nulls first
    limit 1;
  return case when v_circuit.circuit is not null then
    jsonb_build_object('admitted', false, 'reason', 'circuit_open', 'circuit', v_circuit.circuit, 'cause', v_circuit.reason,
      'retryAfterMs', ceil(extract(epoch from v_circuit.retry_at - p_at) * 1000)) end;
end
$$;

comment on function rowhouse.circuit_denial(text, text, timestamptz) is
  'The denial of a call whose circuit, or that of the tenant as a whole, is open and not to be tried yet; null when it may go through.';

create or replace function rowhouse.try_circuits(p_tenant text, p_circuit text, p_request_id text, p_until timestamptz) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  update rowhouse.circuits c set status = 'half_open', trying = p_request_id, retry_at = p_until
    where c.tenant_id = p_tenant and c.circuit in ('', p_circuit) and c.status <> 'closed';
end
$$;

comment on function rowhouse.try_circuits(text, text, text, timestamptz) is
  'Lets the call that is being admitted be the one that tries, until its lease ends; others wait that long.';

create or replace function rowhouse.note_outcome(
  p_account record, p_circuit text, p_request_id text, p_failed boolean, p_cost numeric
) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_rule rowhouse.circuit_rules;
  v_pause interval;
begin
  select r.* into v_rule from rowhouse.circuit_rules r where r.tier in (p_account.tier, '*') order by r.tier = '*' limit 1;
  v_pause := coalesce(v_rule.pause_ms, 30000) * interval '1 millisecond';
  -- Of the call that tried; others began before the circuit opened.
  update rowhouse.circuits c
    set status = case when p_failed then 'open' else 'closed' end, reason = case when p_failed then c.reason end,
      retry_at = case when p_failed then p_account.opened_at + v_pause end, trying = null,
      window_start = p_account.opened_at, calls = 0, errors = 0, spent = 0
    where c.tenant_id = p_account.tenant and c.circuit in ('', p_circuit) and c.status = 'half_open' and c.trying = p_request_id;
  if v_rule.tier is not null then
    perform rowhouse.count_call(p_account, v_rule, p_circuit, 1, p_failed::integer, p_cost);
    if p_circuit <> '' and p_cost > 0 then
      perform rowhouse.count_call(p_account, v_rule, '', 0, 0, p_cost);
    end if;
  end if;
end
$$;

comment on function rowhouse.note_outcome(record, text, text, boolean, numeric) is
  'Counts a call that ended, opens its circuit when the rule of the tier says so, and closes or opens the one that the call tried. What it cost counts for the tenant as a whole, too; that it failed counts for its circuit alone, so that a provider that is down stops no other. p_account: as lock_account returns it.';

create or replace function rowhouse.note_spend(p_account record, p_circuit text, p_cost numeric) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_rule rowhouse.circuit_rules;
begin
  select r.* into v_rule from rowhouse.circuit_rules r where r.tier in (p_account.tier, '*') order by r.tier = '*' limit 1;
  if v_rule.max_spend is null or p_cost <= 0 then
    return;
  end if;
  perform rowhouse.count_call(p_account, v_rule, '', 0, 0, p_cost);
  if p_circuit <> '' then
    perform rowhouse.count_call(p_account, v_rule, p_circuit, 0, 0, p_cost);
  end if;
end
$$;

comment on function rowhouse.note_spend(record, text, numeric) is
  'Counts what was spent besides the end of a call: by a part of one, or what was recorded. p_account: as lock_account returns it.';

create or replace function rowhouse.count_call(
  p_account record, p_rule rowhouse.circuit_rules, p_circuit text, p_calls integer, p_errors integer, p_cost numeric
) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_circuit rowhouse.circuits;
  v_cause text;
begin
  insert into rowhouse.circuits as c (tenant_id, circuit, window_start) values (p_account.tenant, p_circuit, p_account.opened_at)
    on conflict (tenant_id, circuit) do update
      set window_start = excluded.window_start, calls = 0, errors = 0, spent = 0
      where c.window_start < excluded.window_start - p_rule.window_ms * interval '1 millisecond';
  update rowhouse.circuits c
    set calls = c.calls + p_calls, errors = c.errors + p_errors, spent = c.spent + p_cost
    where c.tenant_id = p_account.tenant and c.circuit = p_circuit
    returning c.* into v_circuit;
  v_cause := case
    when v_circuit.status <> 'closed' then null
    when v_circuit.calls >= p_rule.min_calls and v_circuit.errors * 100 >= p_rule.error_percent * v_circuit.calls then
      format('%s of %s calls failed', v_circuit.errors, v_circuit.calls)
    when v_circuit.spent > p_rule.max_spend then format('calls cost %s in a short time', v_circuit.spent)
  end;
  if v_cause is not null then
    update rowhouse.circuits c
      set status = 'open', reason = v_cause, retry_at = p_account.opened_at + p_rule.pause_ms * interval '1 millisecond'
      where c.tenant_id = p_account.tenant and c.circuit = p_circuit;
  end if;
end
$$;

comment on function rowhouse.count_call(record, rowhouse.circuit_rules, text, integer, integer, numeric) is
  'Adds to what is counted for a circuit in the present window, and opens it when the rule says so.';

create or replace function rowhouse.move_trial(p_tenant text, p_circuit text, p_request_id text, p_until timestamptz) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  update rowhouse.circuits c set retry_at = p_until
    where c.tenant_id = p_tenant and c.circuit in ('', p_circuit) and c.status = 'half_open' and c.trying = p_request_id;
end
$$;

comment on function rowhouse.move_trial(text, text, text, timestamptz) is
  'Says until when others wait for the call that tries: its lease was extended, or it was given back and another one may try.';

create or replace function rowhouse.note_open_circuits() returns trigger
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := case tg_op when 'DELETE' then old.tenant_id else new.tenant_id end;
begin
  update rowhouse.accounts a
    set has_open_circuit = exists (select from rowhouse.circuits c where c.tenant_id = v_tenant and c.status <> 'closed')
    where a.tenant_id = v_tenant;
  return null;
end
$$;

comment on function rowhouse.note_open_circuits() is
  'Trigger of circuits: an account says whether one of its circuits is not closed, so that calls of others need not look.';

create or replace trigger rowhouse_note_status after insert or delete or update of status on rowhouse.circuits
  for each row execute function rowhouse.note_open_circuits();
comment on trigger rowhouse_note_status on rowhouse.circuits is 'Accounts know whether to look at circuits.';

-- Operators ------------------------------------------------------------------------------------------------------------

create or replace function rowhouse.trip_circuit(p_tenant text, p_circuit text, p_reason text, p_pause_ms integer default null) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_before text[];
  v_account record;
begin
  perform rowhouse.check_tenant_id(p_tenant);
  v_before := rowhouse.work_for_operator(p_tenant);
  v_account := rowhouse.open_account('{active,suspended,inactive}');
  insert into rowhouse.circuits (tenant_id, circuit, status, reason, retry_at, window_start)
    values (p_tenant, p_circuit, 'open', p_reason, v_account.opened_at + p_pause_ms * interval '1 millisecond', v_account.opened_at)
    on conflict (tenant_id, circuit) do update
      set status = excluded.status, reason = excluded.reason, retry_at = excluded.retry_at;
  perform rowhouse.record_own_audit('rowhouse.circuit.trip',
    jsonb_build_object('circuit', p_circuit, 'reason', p_reason, 'pauseMs', p_pause_ms));
  perform rowhouse.end_work(v_before);
exception
  when check_violation or not_null_violation then
    raise exception using errcode = 'RH051', message = 'a circuit has a name of at most 100 characters, and a reason of at most 500';
end
$$;

comment on function rowhouse.trip_circuit(text, text, text, integer) is
  'Opens a circuit of a tenant by hand (empty name: all its calls), until it is reset, or for p_pause_ms until one call may try. Calls at work go on. Raises RH051, and RH002, RH004, RH006 for the tenant.';

create or replace function rowhouse.reset_circuit(p_tenant text, p_circuit text) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_before text[];
  v_account record;
begin
  perform rowhouse.check_tenant_id(p_tenant);
  v_before := rowhouse.work_for_operator(p_tenant);
  v_account := rowhouse.open_account('{active,suspended,inactive}');
  update rowhouse.circuits c
    set status = 'closed', reason = null, retry_at = null, trying = null, window_start = v_account.opened_at, calls = 0, errors = 0, spent = 0
    where c.tenant_id = p_tenant and c.circuit = p_circuit;
  perform rowhouse.record_own_audit('rowhouse.circuit.reset', jsonb_build_object('circuit', p_circuit));
  perform rowhouse.end_work(v_before);
end
$$;

comment on function rowhouse.reset_circuit(text, text) is
  'Closes a circuit of a tenant and counts anew. Raises RH002, RH004, RH006 for the tenant.';

create or replace function rowhouse.set_circuit_rule(
  p_tier text, p_window_ms integer, p_min_calls integer, p_error_percent integer, p_max_spend numeric, p_pause_ms integer
) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  insert into rowhouse.circuit_rules (tier, window_ms, min_calls, error_percent, max_spend, pause_ms)
    values (p_tier, p_window_ms, p_min_calls, p_error_percent, p_max_spend, p_pause_ms)
    on conflict (tier) do update
      set window_ms = excluded.window_ms, min_calls = excluded.min_calls, error_percent = excluded.error_percent,
        max_spend = excluded.max_spend, pause_ms = excluded.pause_ms;
exception
  when check_violation or not_null_violation then
    raise exception using errcode = 'RH051', message = 'not a rule of circuits', hint = 'See the comments of the columns of rowhouse.circuit_rules.';
end
$$;

comment on function rowhouse.set_circuit_rule(text, integer, integer, integer, numeric, integer) is
  'Sets when circuits of tenants of a tier open (* for tiers that have no rule): of at least p_min_calls in p_window_ms, p_error_percent failed; or they cost more than p_max_spend. Raises RH051.';

create or replace function rowhouse.unset_circuit_rule(p_tier text) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  delete from rowhouse.circuit_rules r where r.tier = p_tier;
end
$$;

comment on function rowhouse.unset_circuit_rule(text) is 'Removes the rule of a tier.';

revoke execute on function
  rowhouse.note_open_circuits(), rowhouse.circuit_denial(text, text, timestamptz), rowhouse.try_circuits(text, text, text, timestamptz),
  rowhouse.note_outcome(record, text, text, boolean, numeric), rowhouse.note_spend(record, text, numeric),
  rowhouse.count_call(record, rowhouse.circuit_rules, text, integer, integer, numeric),
  rowhouse.move_trial(text, text, text, timestamptz), rowhouse.trip_circuit(text, text, text, integer),
  rowhouse.reset_circuit(text, text), rowhouse.set_circuit_rule(text, integer, integer, integer, numeric, integer),
  rowhouse.unset_circuit_rule(text)
  from public;
grant execute on function
  rowhouse.trip_circuit(text, text, text, integer), rowhouse.reset_circuit(text, text),
  rowhouse.set_circuit_rule(text, integer, integer, integer, numeric, integer), rowhouse.unset_circuit_rule(text)
  to rowhouse_admin;
