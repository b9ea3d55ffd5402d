-- Denials: that limits, circuits, allowed models or API keys refused calls of a tenant, in its audit trail.
--
-- Whoever is refused may call again as often as he likes, so not every refusal is an entry: at most one in a minute for
-- each kind and name of what refused. The others cost a look at one row, and write nothing. Names come from callers too
-- (models, addresses), so a tenant has at most 50 of a kind; further ones are recorded together, without a name.
--
-- An entry is part of the transaction of the refusal: rolled back with it, and then the next refusal is recorded.
-- Depends on: context.sql, audit.sql, rowhouse.denials, which protected_tables.sql puts under protection.
-- Proven by: test/audit/denials.test.ts, test/audit/denials-concurrency.test.ts.

-- Part of every refusal, so without a search path of its own, which takes a third of its time: every name, type and
-- operator says its schema instead. Its callers have one anyway.
create or replace function rowhouse.record_denial(
  p_tenant pg_catalog.text, p_action pg_catalog.text, p_kind pg_catalog.text, p_name pg_catalog.text,
  p_reason pg_catalog.text, p_detail pg_catalog.jsonb
) returns void
  language plpgsql volatile
as $$
declare
  v_recorded_at pg_catalog.timestamptz;
begin
  select d.recorded_at into v_recorded_at from rowhouse.denials d
    where d.tenant_id operator(pg_catalog.=) p_tenant and d.kind operator(pg_catalog.=) p_kind
      and d.name operator(pg_catalog.=) p_name;
  if v_recorded_at operator(pg_catalog.>) (pg_catalog.clock_timestamp() operator(pg_catalog.-) '1 minute'::pg_catalog.interval) then
    return;
  end if;
  perform rowhouse.write_denial(p_tenant, p_action, p_kind, p_name, p_reason, p_detail);
end
$$;

comment on function rowhouse.record_denial(text, text, text, text, text, jsonb) is
  'Records that something was refused to the tenant of the transaction, unless that was recorded within the last minute for the same kind and name. p_reason: the error of the entry. Only for functions that run as rowhouse_owner and made sure of the tenant.';

create or replace function rowhouse.denial_detail(p_detail jsonb) returns jsonb
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_detail jsonb := jsonb_strip_nulls(p_detail - array['admitted', 'reason', 'retryAfterMs', 'windows']);
  v_window jsonb;
begin
  if p_detail ? 'windows' then
    -- As decide_rate_limit tells them; of several the one that stays in the way longest.
    select w.value into v_window
      from jsonb_array_elements(p_detail -> 'windows') w (value) order by (w.value ->> 4)::bigint desc limit 1;
    v_detail := v_detail || jsonb_build_object('limit', v_window -> 0, 'windowMs', abs((v_window ->> 1)::bigint));
  end if;
  -- Names come from callers.
  return case when octet_length(v_detail::text) <= 4096 then v_detail else '{}' end;
end
$$;

comment on function rowhouse.denial_detail(jsonb) is 'What an entry says of a denial, made of what the refusing function knows.';

create or replace function rowhouse.write_denial(
  p_tenant text, p_action text, p_kind text, p_name text, p_reason text, p_detail jsonb
) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  -- Nobody is held up to record that he was refused.
  set lock_timeout = '10ms'
as $$
declare
  v_name text := left(coalesce(p_name, ''), 200);
  v_now timestamptz := clock_timestamp();
  v_detail jsonb;
begin
  if current_setting('transaction_read_only') = 'on' then
    return;
  end if;
  if (select count(*) from rowhouse.denials d where d.tenant_id = p_tenant and d.kind = p_kind) >= 50
    and not exists (select from rowhouse.denials d where d.tenant_id = p_tenant and d.kind = p_kind and d.name = v_name)
  then
    v_name := '';
  end if;
  if exists (
      select from rowhouse.denials d
        where d.tenant_id = p_tenant and d.kind = p_kind and d.name = v_name and d.recorded_at > v_now - interval '1 minute')
    -- Who else records the same has not ended its transaction, and does it for this one too. The key of the lock is random
    -- for each tenant: SQL of others can't take it.
    or not pg_try_advisory_xact_lock(hashtextextended(p_kind || ' ' || v_name,
      (select t.lock_key from rowhouse.tenants t where t.tenant_id = p_tenant)))
  then
    return;
  end if;
  -- What the write guard does, also for a tenant that was suspended since it was asked for.
  perform rowhouse.enter_tenant_write('{active,suspended,inactive}');
  v_detail := rowhouse.denial_detail(p_detail);
  insert into rowhouse.denials as d (tenant_id, kind, name, recorded_at, reason, detail)
    values (p_tenant, p_kind, v_name, v_now, p_reason, v_detail)
    on conflict (tenant_id, kind, name) do update
      set recorded_at = excluded.recorded_at, reason = excluded.reason, detail = excluded.detail
      where d.recorded_at <= excluded.recorded_at - interval '1 minute';
  if not found then
    return;
  end if;
  delete from rowhouse.denials d
    where d.tenant_id = p_tenant and (d.kind, d.name) in (
      select o.kind, o.name from rowhouse.denials o
        where o.tenant_id = p_tenant and o.recorded_at < v_now - interval '7 days'
        limit 10
        for update skip locked);
  set local rowhouse.audits_lifecycle = on;
  perform rowhouse.write_audit(p_tenant, jsonb_build_array(jsonb_build_object('action', p_action, 'error', p_reason,
    'detail', v_detail, 'userId', nullif(left(current_setting('app.user_id', true), 200), ''),
    'requestId', nullif(left(current_setting('app.request_id', true), 200), ''))));
  set local rowhouse.audits_lifecycle = off;
exception
  -- Recorded by another transaction, which this one can't wait for or, by its isolation level, can't see.
  when lock_not_available or serialization_failure then
    null;
end
$$;

comment on function rowhouse.write_denial(text, text, text, text, text, jsonb) is
  'Writes what record_denial found to be new; nothing when another transaction is writing it, or when there are too many names and one of the others was just recorded.';

create or replace function rowhouse.deny(p_tenant text, p_denial jsonb) returns jsonb
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform rowhouse.record_denial(p_tenant, 'rowhouse.call.refuse', p_denial ->> 'reason',
    coalesce(p_denial ->> 'quota', p_denial ->> 'circuit', p_denial ->> 'model', ''), p_denial ->> 'reason', p_denial);
  return p_denial;
end
$$;

comment on function rowhouse.deny(text, jsonb) is
  'Records a denial as admit answers it, for a quota, a budget, a circuit or a model, and returns it.';

create or replace function rowhouse.list_denials(p_tenant text)
  returns table (kind text, name text, recorded_at timestamptz, reason text, detail jsonb)
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_before text[];
begin
  perform rowhouse.check_tenant_id(p_tenant);
  if not exists (select from rowhouse.tenants t where t.tenant_id = p_tenant) then
    perform rowhouse.check_tenant_status(p_tenant, null);
  end if;
  v_before := rowhouse.work_as(p_tenant, false);
  return query
    select d.kind, d.name, d.recorded_at, d.reason, d.detail from rowhouse.denials d
      where d.tenant_id = p_tenant order by d.recorded_at desc, d.kind, d.name;
  perform rowhouse.end_work(v_before);
end
$$;

comment on function rowhouse.list_denials(text) is
  'What refused calls of a tenant in the last days, newest first: one row for each kind (rate_limited, quota_exceeded, budget_exceeded, circuit_open, model_not_allowed, refused_key, missing_scope, too_many_attempts) and name, with what its last entry in the audit trail says. Raises RH002, RH006.';

revoke execute on function
  rowhouse.record_denial(text, text, text, text, text, jsonb), rowhouse.write_denial(text, text, text, text, text, jsonb),
  rowhouse.denial_detail(jsonb), rowhouse.deny(text, jsonb), rowhouse.list_denials(text)
  from public;
grant execute on function rowhouse.list_denials(text) to rowhouse_admin;
