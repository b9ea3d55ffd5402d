-- Moves: a tenant goes to another database, and at no time can two copies of it be written.
--
--   here:   active -> moving -> moved, then erased but for its row in the registry
--   there:           importing -> active
--
-- moving and importing let nobody in. Only here is decided where the tenant is: what is there is opened when here says
-- moved, and here is never opened again after that, unless the tenant is moved back. Each step can be repeated.
-- Depends on: tenant_import.sql, erase.sql. Proven by: test/placements.

create or replace function rowhouse.begin_move(p_tenant text, p_placement text) returns text
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant rowhouse.tenants;
begin
  perform rowhouse.check_tenant_id(p_tenant);
  select t.* into v_tenant from rowhouse.tenants t where t.tenant_id = p_tenant for no key update;
  if v_tenant.status = 'moving' and v_tenant.placement = p_placement then
    return v_tenant.updated_at::text;
  elsif not rowhouse.tenant_is_here(v_tenant.status) then
    perform rowhouse.check_tenant_status(p_tenant, v_tenant.status);
  end if;
  -- Refused now rather than when everything has been copied.
  perform rowhouse.check_erasable(p_tenant);
  update rowhouse.tenants t
    set status = 'moving', status_before = t.status, placement = p_placement, updated_at = clock_timestamp()
    where t.tenant_id = p_tenant
    returning t.updated_at into v_tenant.updated_at;
  return v_tenant.updated_at::text;
end
$$;

comment on function rowhouse.begin_move(text, text) is
  'Closes the tenant here, for a move to the database of this name: RH033 for everybody. Returns which move it is, for the steps after it. Calling it again changes nothing. Raises RH002, RH004, RH030, RH033 (on its way to another one), RH034.';

create or replace function rowhouse.await_writers(p_tenant text) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform rowhouse.check_tenant_id(p_tenant);
  perform rowhouse.lock_tenant(p_tenant);
  -- A new lock key: who comes with a snapshot from before must not believe the status that it sees.
  update rowhouse.tenants t set lock_key = default where t.tenant_id = p_tenant and t.status = 'moving';
  if not found then
    raise exception using errcode = 'RH033', message = format('tenant "%s" is not on its way any more', p_tenant),
      hint = 'Somebody else moved it, or called the move off. Look where it is, then try again.';
  end if;
end
$$;

comment on function rowhouse.await_writers(text) is
  'Waits until no transaction that writes for the tenant is left that began before begin_move, and keeps those from writing that have an older snapshot. Raises RH032 after 60 seconds, RH033 when the move was called off.';

create or replace function rowhouse.hold_move(p_tenant text) returns table (status text, placement text, status_before text)
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform rowhouse.check_tenant_id(p_tenant);
  return query
    select t.status, t.placement, t.status_before from rowhouse.tenants t where t.tenant_id = p_tenant for no key update;
end
$$;

comment on function rowhouse.hold_move(text) is
  'How far the move of a tenant is, as its source says; stays so until the transaction ends.';

create or replace function rowhouse.switch_placement(p_tenant text, p_placement text, p_move text) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  update rowhouse.tenants t set status = 'moved', updated_at = statement_timestamp()
    -- Not one that began after this one was called off: what it copied is older than what was written between.
    where t.tenant_id = p_tenant and t.status = 'moving' and t.placement = p_placement and t.updated_at = p_move::timestamptz;
  if not found then
    raise exception using errcode = 'RH033', message = format('tenant "%s" is not on its way to %s any more', p_tenant, p_placement),
      hint = 'Somebody else moved it, or called the move off. Look where it is, then try again.';
  end if;
end
$$;

comment on function rowhouse.switch_placement(text, text, text) is
  'Says that the tenant is in the other database from now on: RH034 for everybody here. The copy there must be complete. p_move: what begin_move returned.';

create or replace function rowhouse.cancel_move(p_tenant text, p_move text default null) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform rowhouse.check_tenant_id(p_tenant);
  update rowhouse.tenants t
    set status = t.status_before, status_before = null, placement = null, updated_at = statement_timestamp()
    where t.tenant_id = p_tenant and t.status = 'moving' and (p_move is null or t.updated_at = p_move::timestamptz);
  return found;
end
$$;

comment on function rowhouse.cancel_move(text, text) is
  'Lets a tenant work here again whose move has not switched yet; false when there is no such move. p_move: only this one, as begin_move returned it.';

create or replace function rowhouse.open_moved(p_tenant text, p_origin jsonb) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_status text;
begin
  perform rowhouse.check_tenant_id(p_tenant);
  select t.status into v_status from rowhouse.tenants t where t.tenant_id = p_tenant for no key update;
  if v_status = 'importing' then
    perform rowhouse.open_imported(p_tenant, p_origin);
  elsif v_status is null then
    perform rowhouse.check_tenant_status(p_tenant, v_status);
  end if;
end
$$;

comment on function rowhouse.open_moved(text, jsonb) is
  'Lets a tenant work that arrived; only after the database where it was says that it moved. Calling it again changes nothing. p_origin: status, placement and contentHash.';

create or replace function rowhouse.finish_move(p_tenant text) returns jsonb
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set lock_timeout = '60s'
as $$
declare
  v_tenant rowhouse.tenants;
  v_before text[];
  v_started timestamptz := clock_timestamp();
  v_hash text;
  v_erased jsonb;
  v_erased_at timestamptz;
begin
  perform rowhouse.check_tenant_id(p_tenant);
  perform rowhouse.lock_tenant(p_tenant);
  select t.* into v_tenant from rowhouse.tenants t where t.tenant_id = p_tenant;
  if v_tenant.status is distinct from 'moved' then
    raise exception using errcode = 'RH033', message = format('tenant "%s" has not moved', p_tenant),
      hint = 'Its rows here are erased when they are in another database.';
  elsif v_tenant.status_before is null then
    return (select e.receipt from rowhouse.erasures e where e.tenant_id = p_tenant order by e.erasure_number desc limit 1);
  end if;
  v_before := rowhouse.work_as(p_tenant, true);
  v_hash := rowhouse.content_hash(rowhouse.describe_tables(p_tenant, 'digests'));
  v_erased := rowhouse.erase_everywhere(p_tenant, true);
  perform rowhouse.end_work(v_before);
  v_erased_at := clock_timestamp();
  -- A new lock key, as in erase_tenant.
  update rowhouse.tenants t
    set status = 'moved', status_before = null, updated_at = v_erased_at, lock_key = default, name = t.tenant_id,
      settings = '{}', own_timeouts = null, status_reason = null, partition_schema = null
    where t.tenant_id = p_tenant;
  return rowhouse.store_receipt(p_tenant, v_erased_at, v_erased || jsonb_build_object('tenantId', p_tenant,
    'startedAt', v_started, 'erasedAt', v_erased_at, 'erasedBy', session_user, 'movedTo', v_tenant.placement,
    'contentHash', v_hash));
end
$$;

comment on function rowhouse.finish_move(text) is
  'Erases what a move left behind, in this transaction, and returns the receipt, as erase_tenant does; the registry goes on saying where the tenant is. Calling it again returns the same receipt. Raises RH033 unless the tenant moved, and what erase_tenant raises.';

revoke execute on function
  rowhouse.begin_move(text, text), rowhouse.await_writers(text), rowhouse.hold_move(text), rowhouse.switch_placement(text, text, text),
  rowhouse.cancel_move(text, text), rowhouse.open_moved(text, jsonb), rowhouse.finish_move(text)
  from public;
grant execute on function
  rowhouse.begin_move(text, text), rowhouse.await_writers(text), rowhouse.hold_move(text), rowhouse.switch_placement(text, text, text),
  rowhouse.cancel_move(text, text), rowhouse.open_moved(text, jsonb), rowhouse.finish_move(text)
  to rowhouse_admin;
