-- Tenants: provisioning, suspension, tiers.
--
-- The registry is the one table whose rows operators see across tenants; a tenant sees its own row.
-- Depends on: rowhouse.tenants, context.sql. Proven by: test/tenants.

alter table rowhouse.tenants enable row level security, force row level security;

create or replace function rowhouse.write_registry_policy() returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  drop policy if exists tenant_own_row on rowhouse.tenants;
  execute format('create policy tenant_own_row on rowhouse.tenants for select to public using (%s)',
    rowhouse.tenant_condition('tenant_id', 'text'));
  comment on policy tenant_own_row on rowhouse.tenants is 'A tenant sees its own row.';
end
$$;

comment on function rowhouse.write_registry_policy() is
  'Lets each tenant see its own row of the registry; its condition depends on whether seals are required.';

revoke execute on function rowhouse.write_registry_policy() from public;
grant execute on function rowhouse.write_registry_policy() to rowhouse_admin;
select rowhouse.write_registry_policy();

drop policy if exists operators_see_all on rowhouse.tenants;
create policy operators_see_all on rowhouse.tenants for select to rowhouse_admin using (true);
comment on policy operators_see_all on rowhouse.tenants is 'Operators see every tenant of the registry.';

drop policy if exists owner_all on rowhouse.tenants;
create policy owner_all on rowhouse.tenants for all to rowhouse_owner using (true) with check (true);
comment on policy owner_all on rowhouse.tenants is 'The functions of rowhouse write the registry.';

revoke all on rowhouse.tenants from public, rowhouse_app, rowhouse_admin;
grant select (tenant_id, name, status, tier, settings, settings_version, placement) on rowhouse.tenants to rowhouse_app;
grant select (tenant_id, name, status, tier, settings, settings_version, partition_schema, placement, status_before, status_reason, created_at,
    updated_at, erased_at)
  on rowhouse.tenants to rowhouse_admin;

create or replace function rowhouse.provision_tenant(
  p_tenant text,
  p_name text default null,
  p_tier text default 'free',
  p_settings jsonb default '{}'
) returns table (tenant_id text, name text, status text, tier text, settings jsonb, created_at timestamptz, created boolean)
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_created boolean;
  v_status text;
begin
  perform rowhouse.check_tenant_id(p_tenant);
  insert into rowhouse.tenants as t (tenant_id, name, tier, settings)
    values (p_tenant, coalesce(p_name, p_tenant), p_tier, p_settings)
    on conflict (tenant_id) do nothing;
  v_created := found;
  select t.status into v_status from rowhouse.tenants t where t.tenant_id = p_tenant;
  if v_status in ('moving', 'moved', 'importing') then
    perform rowhouse.check_tenant_status(p_tenant, v_status);
  elsif v_status in ('erasing', 'erased') then
    raise exception using errcode = 'RH004',
      message = format('tenant "%s" was erased and its id is never used again', p_tenant),
      hint = 'Provision the tenant under a new id.';
  end if;
  return query
    select t.tenant_id::text, t.name, t.status, t.tier, t.settings, t.created_at, v_created
      from rowhouse.tenants t
      where t.tenant_id = p_tenant;
end
$$;

comment on function rowhouse.provision_tenant(text, text, text, jsonb) is
  'Creates a tenant, or returns the one that has this id, unchanged; the column created tells which. Raises RH006 (malformed id) and RH004 (an erased id is never used again).';

create or replace function rowhouse.change_tenant_status(p_tenant text, p_from text[], p_to text, p_reason text) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_status text;
begin
  perform rowhouse.check_tenant_id(p_tenant);
  -- Not for update: that would wait for writers in repeatable read, which hold the key of this row.
  select t.status into v_status from rowhouse.tenants t where t.tenant_id = p_tenant for no key update;
  if v_status is null then
    perform rowhouse.check_tenant_status(p_tenant, null);
  elsif v_status = p_to then
    return;
  elsif v_status = 'relocating' and p_to <> 'erasing' then
    -- Closed already: what it will be when its rows are back.
    update rowhouse.tenants t set status_before = p_to, status_reason = p_reason
      where t.tenant_id = p_tenant and t.status_before = any (p_from);
    return;
  elsif v_status <> all (p_from) then
    perform rowhouse.check_tenant_status(p_tenant, v_status);
  end if;
  update rowhouse.tenants t
    set status = p_to, status_before = null, status_reason = p_reason, updated_at = statement_timestamp()
    where t.tenant_id = p_tenant;
end
$$;

comment on function rowhouse.change_tenant_status(text, text[], text, text) is
  'Moves a tenant from one of the given statuses to another; nothing happens when it is there already. One whose rows are on their way to other partitions gets it when they are there. Used by the functions below.';

create or replace function rowhouse.suspend_tenant(p_tenant text, p_reason text default null) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform rowhouse.change_tenant_status(p_tenant, array['active', 'inactive'], 'suspended', p_reason);
end
$$;

comment on function rowhouse.suspend_tenant(text, text) is
  'Suspends a tenant: every transaction it begins from the commit of this one on is refused with RH003. Its data stays.';

create or replace function rowhouse.deactivate_tenant(p_tenant text, p_reason text default null) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform rowhouse.change_tenant_status(p_tenant, array['active', 'suspended'], 'inactive', p_reason);
end
$$;

comment on function rowhouse.deactivate_tenant(text, text) is
  'Marks a tenant inactive (it left, or is not set up yet): refused with RH004 until it is resumed. Its data stays.';

create or replace function rowhouse.resume_tenant(p_tenant text) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform rowhouse.change_tenant_status(p_tenant, array['suspended', 'inactive'], 'active', null);
end
$$;

comment on function rowhouse.resume_tenant(text) is 'Lets a suspended or inactive tenant work again.';

create or replace function rowhouse.set_tenant_tier(p_tenant text, p_tier text) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform rowhouse.check_tenant_id(p_tenant);
  update rowhouse.tenants t
    set tier = p_tier, updated_at = statement_timestamp()
    where t.tenant_id = p_tenant and rowhouse.tenant_is_here(t.status);
  if not found then
    perform rowhouse.check_tenant_status(p_tenant, (select t.status from rowhouse.tenants t where t.tenant_id = p_tenant));
  end if;
end
$$;

comment on function rowhouse.set_tenant_tier(text, text) is 'Puts a tenant into another tier.';

revoke execute on function
  rowhouse.provision_tenant(text, text, text, jsonb), rowhouse.change_tenant_status(text, text[], text, text),
  rowhouse.suspend_tenant(text, text), rowhouse.deactivate_tenant(text, text), rowhouse.resume_tenant(text),
  rowhouse.set_tenant_tier(text, text)
  from public;

grant execute on function
  rowhouse.provision_tenant(text, text, text, jsonb), rowhouse.suspend_tenant(text, text),
  rowhouse.deactivate_tenant(text, text), rowhouse.resume_tenant(text), rowhouse.set_tenant_tier(text, text)
  to rowhouse_admin;
