-- Who may settle: also a tenant that was suspended while a call was at work, because the money is spent.
--
-- A transaction that only settles or gives back says so (rowhouse.settles), and is let in by enter_tenant all the same; it
-- opens nothing, for what it may write is decided by the functions. A tenant can only settle what was admitted before.
-- Depends on: context.sql. Proven by: test/budgets/suspended.test.ts.

create or replace function rowhouse.enter_settlement() returns text
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_believed boolean;
  v_lock_key bigint;
  v_status text;
begin
  -- As in enter_tenant_write.
  select case when s.required then rowhouse.seal_digest(s.inner_secret, s.outer_secret, v_tenant)
      in (current_setting('app.seal', true), current_setting('app.work_seal', true)) else true end, t.lock_key
    into v_believed, v_lock_key
    from rowhouse.seals s left join rowhouse.tenants t on t.tenant_id = v_tenant;
  if v_believed is not true then
    perform rowhouse.sealed_tenant();
  end if;
  perform pg_advisory_xact_lock_shared(v_lock_key);
  if current_setting('transaction_isolation') = 'read committed' then
    select t.status into v_status from rowhouse.tenants t where t.tenant_id = v_tenant;
  else
    select t.status into v_status from rowhouse.tenants t where t.tenant_id = v_tenant for key share;
  end if;
  if v_status is null or v_status not in ('active', 'suspended', 'inactive') then
    perform rowhouse.check_tenant_status(v_tenant, v_status);
  end if;
  return v_tenant;
end
$$;

comment on function rowhouse.enter_settlement() is
  'enter_tenant_write for settle and release: a tenant that is suspended or inactive may enter too, one that is being erased may not. Returns the tenant.';

create or replace function rowhouse.settles(p_status text) returns boolean
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return p_status in ('suspended', 'inactive') and current_setting('rowhouse.settles', true) = 'on';
end
$$;

comment on function rowhouse.settles(text) is
  'Whether the transaction said that it only settles calls, and a tenant of this status may.';

revoke execute on function rowhouse.enter_settlement(), rowhouse.settles(text) from public;
grant execute on function rowhouse.settles(text) to rowhouse_app, rowhouse_admin;
