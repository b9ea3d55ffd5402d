-- Credentials: what tenants need to use other services, encrypted before it gets here.
--
-- The application reads its rows as they are, and writes them through these functions, which record who did. Nothing in
-- this database decrypts: plaintext and master key never leave the application.
-- Depends on: audit.sql, rowhouse.credentials, rowhouse.credential_keys. Proven by: test/credentials.

create or replace function rowhouse.add_credential_key(p_key_version bigint, p_master_key_id text, p_wrapped_key bytea) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_verified_tenant();
begin
  insert into rowhouse.credential_keys (tenant_id, key_version, master_key_id, wrapped_key)
    values (v_tenant, p_key_version, p_master_key_id, p_wrapped_key)
    on conflict (tenant_id, key_version) do nothing;
  if not found then
    return false;
  end if;
  perform rowhouse.record_own_audit('rowhouse.credential.add_key',
    jsonb_build_object('keyVersion', p_key_version, 'masterKeyId', p_master_key_id));
  return true;
end
$$;

comment on function rowhouse.add_credential_key(bigint, text, bytea) is
  'Adds a data key of the tenant; false when somebody else added one of this version first.';

create or replace function rowhouse.put_credential(p_name text, p_key_version bigint, p_sealed bytea) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_verified_tenant();
begin
  insert into rowhouse.credentials as c (tenant_id, name, key_version, sealed)
    values (v_tenant, p_name, p_key_version, p_sealed)
    on conflict (tenant_id, name) do update
      set key_version = excluded.key_version, sealed = excluded.sealed, updated_at = excluded.updated_at;
  perform rowhouse.record_own_audit('rowhouse.credential.set', jsonb_build_object('name', p_name));
exception
  when foreign_key_violation then
    raise exception using errcode = 'RH095', message = format('data key %s of the tenant is not there any more', p_key_version);
  when data_exception or check_violation or not_null_violation then
    raise exception using errcode = 'RH094', message = format('the credential is not accepted: %s', sqlerrm);
end
$$;

comment on function rowhouse.put_credential(text, bigint, bytea) is
  'Stores an encrypted credential of the tenant, in place of the one of this name. Raises RH094 (not accepted), RH095 (its data key was rotated away meanwhile).';

create or replace function rowhouse.reseal_credential(p_name text, p_old bytea, p_key_version bigint, p_sealed bytea) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_verified_tenant();
begin
  update rowhouse.credentials c
    set key_version = p_key_version, sealed = p_sealed
    where c.tenant_id = v_tenant and c.name = p_name and c.sealed = p_old;
  return found;
end
$$;

comment on function rowhouse.reseal_credential(text, bytea, bigint, bytea) is
  'Puts the same value, encrypted by another data key, in place of p_old; false when it was stored anew meanwhile.';

create or replace function rowhouse.delete_credential(p_name text) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_verified_tenant();
begin
  perform rowhouse.enter_tenant();
  delete from rowhouse.credentials c where c.tenant_id = v_tenant and c.name = p_name;
  if not found then
    return false;
  end if;
  perform rowhouse.record_own_audit('rowhouse.credential.delete', jsonb_build_object('name', p_name));
  return true;
end
$$;

comment on function rowhouse.delete_credential(text) is 'Deletes a credential of the tenant; false when there is none of this name.';

create or replace function rowhouse.drop_credential_keys(p_before bigint) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_verified_tenant();
begin
  perform rowhouse.enter_tenant();
  delete from rowhouse.credential_keys k where k.tenant_id = v_tenant and k.key_version < p_before;
  if found then
    perform rowhouse.record_own_audit('rowhouse.credential.drop_keys', jsonb_build_object('beforeVersion', p_before));
  end if;
  return true;
exception
  -- From 18 on, a restrict has a state of its own.
  when foreign_key_violation or restrict_violation then
    return false;
end
$$;

comment on function rowhouse.drop_credential_keys(bigint) is
  'Deletes the data keys of the tenant before this version; false, and nothing is deleted, while a credential needs one of them.';

create or replace function rowhouse.list_credential_keys(p_tenant text) returns jsonb
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_before text[];
  v_keys jsonb;
begin
  perform rowhouse.check_tenant_id(p_tenant);
  v_before := rowhouse.work_as(p_tenant, false);
  select coalesce(jsonb_agg(jsonb_build_object('keyVersion', k.key_version, 'masterKeyId', k.master_key_id,
      'wrappedKey', encode(k.wrapped_key, 'base64')) order by k.key_version), '[]') into v_keys
    from rowhouse.credential_keys k where k.tenant_id = p_tenant;
  perform rowhouse.end_work(v_before);
  return v_keys;
end
$$;

comment on function rowhouse.list_credential_keys(text) is 'The data keys of a tenant, encrypted by a master key: for its rotation.';

create or replace function rowhouse.rewrap_credential_key(
  p_tenant text, p_key_version bigint, p_old bytea, p_master_key_id text, p_wrapped_key bytea
) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_before text[];
  v_done boolean;
begin
  perform rowhouse.hold_tenant(p_tenant);
  v_before := rowhouse.work_as(p_tenant, false);
  update rowhouse.credential_keys k
    set master_key_id = p_master_key_id, wrapped_key = p_wrapped_key
    where k.tenant_id = p_tenant and k.key_version = p_key_version and k.wrapped_key = p_old;
  v_done := found;
  perform rowhouse.end_work(v_before);
  if v_done then
    perform rowhouse.record_audit(p_tenant, 'rowhouse.credential.rewrap_key',
      jsonb_build_object('keyVersion', p_key_version, 'masterKeyId', p_master_key_id));
  end if;
  return v_done;
end
$$;

comment on function rowhouse.rewrap_credential_key(text, bigint, bytea, text, bytea) is
  'Puts the same data key, encrypted by another master key, in place of p_old; false when it was rotated meanwhile. Also for suspended tenants. Raises RH002, RH004.';

revoke execute on function
  rowhouse.add_credential_key(bigint, text, bytea), rowhouse.put_credential(text, bigint, bytea),
  rowhouse.reseal_credential(text, bytea, bigint, bytea), rowhouse.delete_credential(text),
  rowhouse.drop_credential_keys(bigint), rowhouse.list_credential_keys(text),
  rowhouse.rewrap_credential_key(text, bigint, bytea, text, bytea)
  from public;
grant execute on function
  rowhouse.add_credential_key(bigint, text, bytea), rowhouse.put_credential(text, bigint, bytea),
  rowhouse.reseal_credential(text, bytea, bigint, bytea), rowhouse.delete_credential(text), rowhouse.drop_credential_keys(bigint)
  to rowhouse_app;
grant execute on function
  rowhouse.list_credential_keys(text), rowhouse.rewrap_credential_key(text, bigint, bytea, text, bytea)
  to rowhouse_admin;
