-- Shared statements: calls of several tenants, made in one transaction.
--
-- A process that serves many tenants has calls of many of them at the same time. Each tenant's are decided on its own
-- rows, under its policies, as if they were alone; they share the round trip, the statement and the commit, which take
-- more time than the calls.
-- No tenant waits for what another one holds: where a call would have to wait for a lock of its tenant, or much has to be
-- done first, it is not made, and its caller makes it alone. So no two such statements wait for each other, either.
-- Only for transactions in which no tenant was set: injected SQL finds itself in that of its tenant. Where seals are
-- required, nothing here has a proof, and each tenant is refused.
-- Depends on: reservations.sql, settlements.sql. Proven by: test/budgets/shared-statements.test.ts.

create or replace function rowhouse.call_for_tenant(p_call jsonb) returns jsonb
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
  set enable_bitmapscan = off
  set jit = off
  -- For what else there may be to wait for: a table whose partitions change, or is extended, a counter that is being added.
  set lock_timeout = '200ms'
as $$
declare
  v_answer jsonb;
  -- Mostly the settings are empty already, which takes less time to see than to say.
  v_is_named boolean := coalesce(p_call ->> 'user', '') <> '' or coalesce(p_call ->> 'request', '') <> '';
begin
  if rowhouse.current_tenant() is not null then
    raise exception using errcode = 'RH005', message = 'a transaction of a tenant makes calls of that tenant alone',
      hint = 'Call admit and settle.';
  end if;
  -- Not by set_config, which hardened servers revoke.
  execute format('set local app.tenant_id = %L', coalesce(p_call ->> 'tenant', ''));
  if v_is_named then
    perform rowhouse.set_caller(p_call ->> 'user', p_call ->> 'request');
  end if;
  if p_call ->> 'function' = 'admit' then
    v_answer := rowhouse.admit_call(false, p_call ->> 'requestId', p_call -> 'units', p_call ->> 'model',
      (p_call -> 'leaseMs')::integer, p_call ->> 'rateLimit', p_call ->> 'subject', p_call ->> 'circuit');
  elsif p_call ->> 'function' = 'settle' then
    v_answer := rowhouse.settle_call(false, p_call ->> 'requestId', p_call -> 'units', p_call ->> 'part', p_call -> 'details');
  else
    raise exception using errcode = 'RH052', message = 'not a call of admit or settle';
  end if;
  set local app.tenant_id = '';
  if v_is_named then
    perform rowhouse.set_caller('', '');
  end if;
  return v_answer;
end
$$;

comment on function rowhouse.call_for_tenant(jsonb) is
  'Admits or settles in the name of a tenant, in a transaction in which none is set, so that one statement may do it for several: {"tenant": ..., "user": ..., "request": ..., "function": "admit", "requestId": "r-1", "units": {"input_tokens": 1200}, "model": "large", "leaseMs": 60000, "rateLimit": null, "subject": "", "circuit": ""} or {"tenant": ..., "user": ..., "request": ..., "function": "settle", "requestId": "r-2", "units": {}, "part": "", "details": {}}. Returns what admit or settle return; null: nothing was done, because it would have waited for something, or the tenant is refused, and is to be made in a transaction of the tenant. What is left out is null, not a default; without user and request it is in the name that the transaction has. Raises what they raise, RH005 in a transaction of a tenant, RH052 for what is no call.';

revoke execute on function rowhouse.call_for_tenant(jsonb) from public;
grant execute on function rowhouse.call_for_tenant(jsonb) to rowhouse_app;
