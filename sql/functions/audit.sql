-- Audit: entries about what happened to a tenant, which nobody changes afterwards.
--
-- The application appends through append_audit and reads its own trail; it has no other right on the table. Changing or
-- removing an entry is refused by a trigger, for owners too, and shows in the chain for whoever gets past it
-- (audit_chain.sql). What operators do to a tenant is recorded by a trigger on the registry, so no function can forget it.
-- Depends on: context.sql, rowhouse.audit_entries, rowhouse.audit_pending. Proven by: test/audit.

create or replace function rowhouse.time_ordered_uuid(p_microseconds bigint) returns uuid
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  -- Version 7: 48 bits of milliseconds, 12 bits of their fraction, the rest random.
  return (lpad(to_hex(p_microseconds / 1000), 12, '0') || '7' || lpad(to_hex(p_microseconds % 1000 * 4096 / 1000), 3, '0')
    || substr(replace(gen_random_uuid()::text, '-', ''), 17))::uuid;
end
$$;

comment on function rowhouse.time_ordered_uuid(bigint) is
  'A random UUID of version 7 for a time in microseconds since 1970: that of a later microsecond sorts after it.';

create or replace function rowhouse.audit_commitment(p_entry rowhouse.audit_entries) returns bytea
  language sql stable parallel safe
  return sha256(uuid_send((p_entry).salt) || uuid_send((p_entry).entry_id)
    || timestamptz_send((p_entry).recorded_at) || timestamptz_send((p_entry).occurred_at)
    || convert_to(json_build_array(
      (p_entry).tenant_id, (p_entry).login::text, (p_entry).user_id, (p_entry).request_id, (p_entry).action, (p_entry).model,
      (p_entry).input_tokens, (p_entry).output_tokens, (p_entry).cost, (p_entry).documents, (p_entry).latency_ms,
      (p_entry).error, (p_entry).detail)::text, 'UTF8'));

comment on function rowhouse.audit_commitment(rowhouse.audit_entries) is
  'SHA-256 over the salt and every other column of an entry: 16 bytes of salt, 16 of id, twice 8 of time (microseconds since 2000-01-01 UTC, most significant byte first), and the rest as a JSON array in UTF-8, as json_build_array writes it.';

create or replace function rowhouse.write_audit(p_tenant text, p_entries jsonb) returns uuid[]
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_ids uuid[];
  v_microseconds bigint := extract(epoch from clock_timestamp()) * 1000000;
begin
  with written as (
    insert into rowhouse.audit_entries as a (tenant_id, entry_id, occurred_at, user_id, request_id, action, model,
        input_tokens, output_tokens, cost, documents, latency_ms, error, detail)
      select p_tenant, rowhouse.time_ordered_uuid(v_microseconds + e.place), coalesce(e."occurredAt", clock_timestamp()),
          coalesce(e."userId", nullif(current_setting('app.user_id', true), '')),
          coalesce(e."requestId", nullif(current_setting('app.request_id', true), '')),
          e.action, e.model, e."inputTokens", e."outputTokens", e.cost, e.documents, e."latencyMs", e.error,
          coalesce(e.detail, '{}')
        from rows from (jsonb_to_recordset(p_entries) as (
          "occurredAt" timestamptz, "userId" text, "requestId" text, action text, model text, "inputTokens" bigint,
          "outputTokens" bigint, cost numeric, documents text[], "latencyMs" bigint, error text, detail jsonb))
          with ordinality e ("occurredAt", "userId", "requestId", action, model, "inputTokens", "outputTokens", cost,
            documents, "latencyMs", error, detail, place)
      returning a.*
  ), pending as (
    insert into rowhouse.audit_pending as p (tenant_id, entry_id, commitment)
      select w.tenant_id, w.entry_id, rowhouse.audit_commitment(w) from written w
      returning p.entry_id
  )
  -- Each entry has a microsecond of its own, so the order of the ids is the order of the entries.
  select array_agg(p.entry_id order by p.entry_id) into v_ids from pending p;
  return v_ids;
end
$$;

comment on function rowhouse.write_audit(text, jsonb) is
  'Writes an array of entries with their commitments; used by the functions that check who may.';

create or replace function rowhouse.write_given_audit(p_tenant text, p_entries jsonb) returns uuid[]
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_entries jsonb := case jsonb_typeof(p_entries) when 'array' then p_entries else jsonb_build_array(p_entries) end;
  v_problem text;
begin
  select case
      when jsonb_typeof(e.value) is distinct from 'object' then 'is no JSON object'
      when e.value ->> 'action' is null then 'has no action'
      when starts_with(e.value ->> 'action', 'rowhouse.') then 'has an action of rowhouse itself, which only rowhouse records'
      else 'has a field that entries do not have: ' || (
        select string_agg(k.key, ', ') from jsonb_object_keys(e.value - rowhouse.audit_fields()) k (key))
    end into v_problem
    from jsonb_array_elements(v_entries) e (value)
    where jsonb_typeof(e.value) is distinct from 'object' or e.value ->> 'action' is null
      or starts_with(e.value ->> 'action', 'rowhouse.') or e.value - rowhouse.audit_fields() <> '{}'
    limit 1;
  if v_problem is not null then
    raise exception using errcode = 'RH090', message = format('an audit entry %s', v_problem);
  end if;
  return rowhouse.write_audit(p_tenant, v_entries);
exception
  when data_exception or check_violation or not_null_violation then
    raise exception using errcode = 'RH090', message = format('an audit entry is not accepted: %s', sqlerrm);
end
$$;

comment on function rowhouse.write_given_audit(text, jsonb) is
  'Writes entries that the application gave, after a look at them. Raises RH090 (an entry is not accepted).';

create or replace function rowhouse.append_audit(p_entries jsonb) returns uuid[]
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_verified_tenant();
begin
  -- Not what the caller may have set: with it the write guard would not ask whether the tenant may work.
  set local rowhouse.audits_lifecycle = off;
  return rowhouse.write_given_audit(v_tenant, p_entries);
end
$$;

comment on function rowhouse.append_audit(jsonb) is
  'Appends entries to the trail of the tenant and returns their ids: one JSON object or an array of them, with action (required), occurredAt, userId and requestId (default: app.user_id, app.request_id), model, inputTokens, outputTokens, cost, documents (ids), latencyMs, error, detail (an object). All are written or none. Waits for no other append. Raises RH090 (an entry is not accepted).';

create or replace function rowhouse.append_late_audit(p_entries jsonb) returns uuid[]
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  -- The work of the write guard, for tenants that it would refuse too.
  v_tenant text := rowhouse.enter_tenant_write('{active,suspended,inactive}');
  v_until timestamptz;
  v_places bigint[];
  v_entries jsonb;
  v_ids uuid[];
begin
  -- The clock of the application is another one.
  select t.updated_at + interval '1 second' into v_until
    from rowhouse.tenants t where t.tenant_id = v_tenant and t.status <> 'active';
  begin
    select coalesce(jsonb_agg(e.value order by e.place), '[]'), array_agg(e.place order by e.place) into v_entries, v_places
      from jsonb_array_elements(p_entries) with ordinality e (value, place)
      where v_until is null or (e.value ->> 'occurredAt')::timestamptz <= v_until;
  exception when data_exception then
    raise exception using errcode = 'RH090', message = format('an audit entry is not accepted: %s', sqlerrm);
  end;
  set local rowhouse.audits_lifecycle = on;
  v_ids := rowhouse.write_given_audit(v_tenant, v_entries);
  set local rowhouse.audits_lifecycle = off;
  return (select array_agg(v_ids[array_position(v_places, p.place)] order by p.place)
    from generate_series(1, jsonb_array_length(p_entries)) p (place));
end
$$;

comment on function rowhouse.append_late_audit(jsonb) is
  'append_audit for entries that were collected before, an array of them: also for a tenant that was suspended or deactivated since, what happened before (occurredAt, up to a second after the row of the tenant last changed). Returns null in place of the id of an entry that came later, which is not written.';

create or replace function rowhouse.audit_fields() returns text[]
  language sql immutable parallel safe
  return array['occurredAt', 'userId', 'requestId', 'action', 'model', 'inputTokens', 'outputTokens', 'cost', 'documents',
    'latencyMs', 'error', 'detail'];

comment on function rowhouse.audit_fields() is 'The fields of an entry that append_audit accepts.';

create or replace function rowhouse.hold_tenant(p_tenant text) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_status text;
begin
  perform rowhouse.check_tenant_id(p_tenant);
  select t.status into v_status from rowhouse.tenants t where t.tenant_id = p_tenant for share;
  if not rowhouse.tenant_is_here(v_status) and v_status is distinct from 'relocating' then
    perform rowhouse.check_tenant_status(p_tenant, v_status);
  end if;
end
$$;

comment on function rowhouse.hold_tenant(text) is
  'Keeps a tenant from being erased until the transaction ends: for what operators do to it, suspended or not. Raises RH002, RH004.';

create or replace function rowhouse.record_audit(p_tenant text, p_action text, p_detail jsonb) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_before text[];
begin
  v_before := rowhouse.work_as(p_tenant, false);
  -- The caller holds the row of the tenant in the registry, which an erasure needs, so the write guard has nothing to
  -- do; it would wait for a running promotion, and refuse to record that a tenant was suspended.
  set local rowhouse.audits_lifecycle = on;
  perform rowhouse.write_audit(p_tenant, jsonb_build_array(jsonb_build_object('action', p_action, 'detail', p_detail)));
  set local rowhouse.audits_lifecycle = off;
  perform rowhouse.end_work(v_before);
end
$$;

comment on function rowhouse.record_audit(text, text, jsonb) is
  'Records what a function of rowhouse does to a tenant, whatever its status. Only after hold_tenant, or a change of the tenant''s row in rowhouse.tenants.';

create or replace function rowhouse.record_own_audit(p_action text, p_detail jsonb) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  -- Not what the caller may have set: with it the write guard would not ask whether the tenant may work.
  set local rowhouse.audits_lifecycle = off;
  perform rowhouse.write_audit(rowhouse.require_tenant(),
    jsonb_build_array(jsonb_build_object('action', p_action, 'detail', p_detail)));
end
$$;

comment on function rowhouse.record_own_audit(text, jsonb) is
  'Records what a function of rowhouse does for the tenant of the transaction.';

create or replace function rowhouse.audit_tenant_change() returns trigger
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  -- While its rows are on their way to other partitions: what it was, and will be again.
  v_old text := case when tg_op = 'INSERT' then null when old.status = 'relocating' then old.status_before else old.status end;
  v_new text := case new.status when 'relocating' then new.status_before else new.status end;
begin
  if tg_op = 'INSERT' and new.status <> 'importing' then
    perform rowhouse.record_audit(new.tenant_id, 'rowhouse.tenant.provision',
      jsonb_build_object('name', new.name, 'tier', new.tier));
    return null;
  end if;
  -- Nothing of an erased tenant may be left; the receipt is the evidence.
  if new.status = 'erased' then
    return null;
  end if;
  -- What arrives brings its trail along, and what has moved takes it along: the next entries belong to the other end.
  if new.status in ('importing', 'moved') or (tg_op = 'UPDATE' and old.status in ('importing', 'moved')) then
    return null;
  end if;
  if v_new <> v_old then
    perform rowhouse.record_audit(new.tenant_id,
      'rowhouse.tenant.' || case when v_old = 'moving' then 'cancel_move' else case v_new when 'active' then 'resume'
        when 'suspended' then 'suspend' when 'inactive' then 'deactivate' when 'moving' then 'move' else 'erase' end end,
      jsonb_strip_nulls(jsonb_build_object('from', v_old, 'to', v_new, 'reason', new.status_reason, 'placement', new.placement)));
  end if;
  if new.tier <> old.tier then
    perform rowhouse.record_audit(new.tenant_id, 'rowhouse.tenant.set_tier',
      jsonb_build_object('from', old.tier, 'to', new.tier));
  end if;
  if new.settings_version <> old.settings_version then
    perform rowhouse.record_audit(new.tenant_id, 'rowhouse.settings.change', jsonb_build_object(
      'version', new.settings_version, 'changes', rowhouse.settings_difference(old.settings, new.settings)));
  end if;
  if new.own_timeouts is distinct from old.own_timeouts then
    perform rowhouse.record_audit(new.tenant_id, 'rowhouse.timeouts.set', jsonb_build_object(
      'statementMs', new.own_timeouts[1], 'lockMs', new.own_timeouts[2], 'idleInTransactionMs', new.own_timeouts[3]));
  end if;
  if new.partition_schema is distinct from old.partition_schema then
    perform rowhouse.record_audit(new.tenant_id,
      'rowhouse.tenant.' || case when new.partition_schema is null then 'demote' else 'promote' end, '{}');
  end if;
  return null;
end
$$;

comment on function rowhouse.audit_tenant_change() is
  'Trigger of the registry: records provisioning, every change of status, tier, settings and timeouts, promotion and demotion in the trail of the tenant, in the transaction that makes the change.';

create or replace trigger rowhouse_audit after insert or update on rowhouse.tenants
  for each row execute function rowhouse.audit_tenant_change();

create or replace function rowhouse.refuse_change() returns trigger
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception using errcode = 'RH091',
    message = format('%s.%s is append-only: %s is refused', tg_table_schema, tg_table_name, lower(tg_op)),
    hint = 'Old entries are removed by rowhouse.purge_audit, those of a tenant by its erasure; both leave the chain verifiable.';
end
$$;

comment on function rowhouse.refuse_change() is
  'Trigger that refuses what it fires for, whoever asks: roles without privileges never get here, owners do.';

revoke execute on function
  rowhouse.time_ordered_uuid(bigint), rowhouse.audit_commitment(rowhouse.audit_entries), rowhouse.write_audit(text, jsonb),
  rowhouse.write_given_audit(text, jsonb), rowhouse.append_audit(jsonb), rowhouse.append_late_audit(jsonb), rowhouse.audit_fields(),
  rowhouse.hold_tenant(text), rowhouse.record_audit(text, text, jsonb),
  rowhouse.record_own_audit(text, jsonb), rowhouse.audit_tenant_change(), rowhouse.refuse_change()
  from public;
grant execute on function rowhouse.append_audit(jsonb), rowhouse.append_late_audit(jsonb) to rowhouse_app;
