-- Settings: configuration of a tenant, changed by who has seen the version that it replaces.
--
-- The registry keeps what differs from the defaults; defaults and the schema of the values are the application's. Every
-- change is recorded in the audit trail by the trigger of the registry (audit.sql).
-- Depends on: rowhouse.tenants, audit.sql. Proven by: test/settings.

create or replace function rowhouse.lock_settings() returns table (settings jsonb, settings_version bigint, tier text)
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_verified_tenant();
begin
  perform rowhouse.enter_tenant();
  -- Not for update: that would wait for writers in repeatable read, which hold the key of this row.
  return query
    select t.settings, t.settings_version, t.tier from rowhouse.tenants t where t.tenant_id = v_tenant for no key update;
end
$$;

comment on function rowhouse.lock_settings() is
  'The settings of the tenant with their version and its tier; nobody else changes them before the transaction ends.';

create or replace function rowhouse.change_settings(p_settings jsonb, p_version bigint) returns bigint
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_verified_tenant();
  v_version bigint;
begin
  perform rowhouse.enter_tenant();
  if jsonb_typeof(p_settings) is distinct from 'object' or octet_length(p_settings::text) > 262144 then
    raise exception using errcode = 'RH081', message = 'settings are a JSON object of up to 256 KB';
  end if;
  update rowhouse.tenants t
    set settings = p_settings, settings_version = t.settings_version + 1, updated_at = statement_timestamp()
    where t.tenant_id = v_tenant and t.settings_version = p_version and t.status = 'active'
    returning t.settings_version into v_version;
  if v_version is null then
    -- Suspended or erased since, or changed by somebody else.
    perform rowhouse.enter_tenant();
    raise exception using errcode = 'RH080', message = format('the settings are not in version %s any more', p_version);
  end if;
  return v_version;
end
$$;

comment on function rowhouse.change_settings(jsonb, bigint) is
  'Replaces the settings of the tenant when they are still in this version, and returns the next one. Raises RH080 (changed by somebody else meanwhile), RH081 (not accepted).';

create or replace function rowhouse.settings_difference(p_from jsonb, p_to jsonb) returns jsonb
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_changes jsonb;
begin
  select coalesce(jsonb_object_agg(k.key,
        case when p_from ? k.key then jsonb_build_object('from', p_from -> k.key) else '{}' end
        || case when p_to ? k.key then jsonb_build_object('to', p_to -> k.key) else '{}' end), '{}')
    into v_changes
    from (select jsonb_object_keys(p_from) union select jsonb_object_keys(p_to)) k (key)
    where p_from -> k.key is distinct from p_to -> k.key;
  -- What is too long for an entry of the audit trail is named only.
  if octet_length(v_changes::text) > 200000 then
    select jsonb_object_agg(c.key, '{}'::jsonb) into v_changes from jsonb_object_keys(v_changes) c (key);
  end if;
  return v_changes;
end
$$;

comment on function rowhouse.settings_difference(jsonb, jsonb) is
  'The settings that differ, each with what it was (from) and is (to).';

revoke execute on function
  rowhouse.lock_settings(), rowhouse.change_settings(jsonb, bigint), rowhouse.settings_difference(jsonb, jsonb)
  from public;
grant execute on function rowhouse.lock_settings(), rowhouse.change_settings(jsonb, bigint) to rowhouse_app;
