-- Seals: a tenant that injected SQL cannot change.
--
-- Whoever may run SQL in a tenant's transaction may also set app.tenant_id. With seals required, the setting is believed
-- only together with app.seal: a digest over tenant, backend and transaction, with a secret that no role of the
-- application reads. enter_sealed_tenant makes one, for a proof of the application: an HMAC over the tenant, with a key
-- that the database knows. It travels as a bound parameter, so that pg_stat_activity does not show it to others.
--
-- The policies call sealed_tenant in a sub-select, which a statement evaluates once and keeps: changing the setting in
-- the middle of a statement changes nothing.
-- Depends on: rowhouse.seals, rowhouse.seal_keys. Proven by: test/isolation/p11, test/seals.

alter table rowhouse.seals enable row level security, force row level security;
drop policy if exists owner_all on rowhouse.seals;
create policy owner_all on rowhouse.seals for all to rowhouse_owner using (true) with check (true);
comment on policy owner_all on rowhouse.seals is 'Only the functions of rowhouse read the secret.';
revoke all on rowhouse.seals from public, rowhouse_app, rowhouse_admin;

alter table rowhouse.seal_keys enable row level security, force row level security;
drop policy if exists owner_all on rowhouse.seal_keys;
create policy owner_all on rowhouse.seal_keys for all to rowhouse_owner using (true) with check (true);
comment on policy owner_all on rowhouse.seal_keys is 'Only the functions of rowhouse read the keys.';
revoke all on rowhouse.seal_keys from public, rowhouse_app, rowhouse_admin;

create or replace function rowhouse.seals_required() returns boolean
  language plpgsql stable parallel safe security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  return (select s.required from rowhouse.seals s);
end
$$;

comment on function rowhouse.seals_required() is 'Whether transactions must prove their tenant.';

-- The start of a transaction can be set by nobody, and no backend begins two of them at the same microsecond.
create or replace function rowhouse.seal_digest(p_inner_secret bytea, p_outer_secret bytea, p_tenant text) returns text
  language sql stable parallel restricted
  return encode(sha256(p_outer_secret || sha256(p_inner_secret || convert_to(
    concat_ws(':', p_tenant, pg_backend_pid(), extract(epoch from transaction_timestamp())), 'UTF8'))), 'hex');

comment on function rowhouse.seal_digest(bytea, bytea, text) is
  'The seal of a tenant for this transaction: a nested digest over tenant, backend and begin of the transaction. Inlined where it is used.';

create or replace function rowhouse.sealed_tenant() returns text
  language plpgsql stable parallel restricted security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := nullif(current_setting('app.tenant_id', true), '');
  v_inner_secret bytea;
  v_outer_secret bytea;
begin
  if v_tenant is null then
    return null;
  end if;
  -- It runs with nearly every statement of an application: one plain query, and expressions, which take no query.
  select s.inner_secret, s.outer_secret into v_inner_secret, v_outer_secret from rowhouse.seals s;
  -- app.work_seal: a function of rowhouse that works for one tenant after another sealed this one itself.
  if rowhouse.seal_digest(v_inner_secret, v_outer_secret, v_tenant)
      in (current_setting('app.seal', true), current_setting('app.work_seal', true)) then
    return v_tenant;
  end if;
  raise exception using errcode = 'RH007',
    message = 'the tenant of this transaction was set without a seal',
    hint = 'This database believes a tenant only with a proof: give createRowhouse the option seal, or call rowhouse.enter_sealed_tenant.';
end
$$;

comment on function rowhouse.sealed_tenant() is
  'The tenant of the transaction, null when none is set; raises RH007 when it carries no valid seal. What policies compare with when seals are required.';

create or replace function rowhouse.sealed_tenant_uuid() returns uuid
  language plpgsql stable parallel restricted
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.sealed_tenant();
begin
  return case when v_tenant::uuid::text = v_tenant then v_tenant::uuid end;
end
$$;

comment on function rowhouse.sealed_tenant_uuid() is 'sealed_tenant for tenant columns of type uuid; null in another spelling.';

create or replace function rowhouse.sealed_tenant_bigint() returns bigint
  language plpgsql stable parallel restricted
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.sealed_tenant();
begin
  return case when v_tenant::bigint::text = v_tenant then v_tenant::bigint end;
end
$$;

comment on function rowhouse.sealed_tenant_bigint() is 'sealed_tenant for tenant columns of type integer and bigint; null in another spelling.';

create or replace function rowhouse.require_verified_tenant() returns text
  language plpgsql stable parallel restricted
  set search_path = pg_catalog, pg_temp
as $$
begin
  if rowhouse.seals_required() then
    return coalesce(rowhouse.sealed_tenant(), rowhouse.raise_no_tenant());
  end if;
  return rowhouse.require_tenant();
end
$$;

comment on function rowhouse.require_verified_tenant() is
  'require_tenant for functions that run with the rights of rowhouse_owner: where seals are required, only the sealed tenant (RH007). Policies hold for them too, but not on the registry.';

create or replace function rowhouse.enter_sealed_tenant(p_proof text) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := nullif(current_setting('app.tenant_id', true), '');
  v_valid boolean;
  v_age numeric;
  v_status text;
  v_timeouts integer[];
  v_locks_on_entry boolean;
  v_seal text;
begin
  -- One statement, because it runs in every transaction. key id . milliseconds since 1970 . digest in hexadecimal;
  -- digests of both sides are compared: how long that takes tells nothing about the expected value.
  select sha256(convert_to(encode(sha256(k.outer_pad || sha256(k.inner_pad
          || convert_to(concat_ws(':', 'rowhouse:1', split_part(p_proof, '.', 2), v_tenant), 'UTF8'))), 'hex'), 'UTF8'))
        = sha256(convert_to(split_part(p_proof, '.', 3), 'UTF8')),
      t.status, t.timeouts, t.locks_on_entry, rowhouse.seal_digest(s.inner_secret, s.outer_secret, v_tenant)
    into v_valid, v_status, v_timeouts, v_locks_on_entry, v_seal
    from rowhouse.seals s
    left join rowhouse.seal_keys k on k.key_id = split_part(p_proof, '.', 1)
    left join rowhouse.tenants t on t.tenant_id = v_tenant;
  if v_valid is not true then
    if v_tenant is null then
      perform rowhouse.raise_no_tenant();
    end if;
    raise exception using errcode = 'RH008', message = 'the proof of the tenant is not valid',
      hint = 'Give createRowhouse the key that this database knows, as the option seal.';
  end if;
  -- A number, for it was part of what the key signed.
  v_age := extract(epoch from clock_timestamp()) - split_part(p_proof, '.', 2)::numeric / 1000;
  if v_age not between -300 and 300 then
    raise exception using errcode = 'RH008',
      message = format('the proof of the tenant was made %s seconds %s, by the clock of the database',
        round(abs(v_age)), case when v_age > 0 then 'ago' else 'in the future' end),
      hint = 'Proofs hold for 5 minutes. Set the clock of the application server.';
  end if;
  if v_status is distinct from 'active' and v_status is distinct from 'relocating' and rowhouse.settles(v_status) is not true then
    perform rowhouse.check_tenant_id(v_tenant);
    perform rowhouse.check_tenant_status(v_tenant, v_status);
  end if;
  if v_timeouts is not null then
    perform rowhouse.apply_timeouts(v_timeouts);
  end if;
  execute format('set local app.seal = %L', v_seal);
  if v_locks_on_entry and v_status = 'active' or v_status = 'relocating' then
    perform rowhouse.lock_on_entry();
  end if;
end
$$;

comment on function rowhouse.enter_sealed_tenant(text) is
  'enter_tenant for databases that require seals: checks the proof for the tenant set in app.tenant_id, then that it may work, and seals it for the rest of the transaction. p_proof: <key id>.<milliseconds since 1970>.<HMAC-SHA-256 over rowhouse:1:<milliseconds>:<tenant>, in hexadecimal>; pass it as a bound parameter. Raises RH008 (no valid proof), RH001, RH002, RH003, RH004, RH006.';

create or replace function rowhouse.xor_bytes(p_bytes bytea, p_mask integer) returns bytea
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_result bytea := p_bytes;
begin
  for v_place in 0 .. length(p_bytes) - 1 loop
    v_result := set_byte(v_result, v_place, get_byte(p_bytes, v_place) # p_mask);
  end loop;
  return v_result;
end
$$;

comment on function rowhouse.xor_bytes(bytea, integer) is 'Every byte of a text of bytes XOR the mask.';

create or replace function rowhouse.add_seal_key(p_key bytea) returns text
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_key_id text := left(encode(sha256(p_key), 'hex'), 16);
  v_block bytea;
begin
  if p_key is null or length(p_key) not between 32 and 64 then
    raise exception using errcode = 'invalid_parameter_value', message = 'a seal key has 32 to 64 bytes';
  end if;
  v_block := p_key || decode(repeat('00', 64 - length(p_key)), 'hex');
  insert into rowhouse.seal_keys (key_id, inner_pad, outer_pad)
    values (v_key_id, rowhouse.xor_bytes(v_block, 54), rowhouse.xor_bytes(v_block, 92))
    on conflict (key_id) do nothing;
  return v_key_id;
end
$$;

comment on function rowhouse.add_seal_key(bytea) is
  'Lets applications that have this key (32 to 64 random bytes) prove their tenants; returns the id of the key. To rotate: add the new one, deploy it, drop the old one.';

create or replace function rowhouse.list_seal_keys() returns table (key_id text, added_at timestamptz)
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  return query select k.key_id, k.added_at from rowhouse.seal_keys k order by k.added_at, k.key_id;
end
$$;

comment on function rowhouse.list_seal_keys() is 'Which keys the database knows, oldest first, without the keys.';

create or replace function rowhouse.drop_seal_key(p_key_id text) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  -- Two calls at once must not drop the last two keys.
  perform from rowhouse.seals s for update;
  delete from rowhouse.seal_keys k where k.key_id = p_key_id;
  if rowhouse.seals_required() and not exists (select from rowhouse.seal_keys) then
    raise exception using errcode = 'object_not_in_prerequisite_state',
      message = 'the last seal key cannot be dropped while seals are required',
      hint = 'Add another key first, or: select rowhouse.require_seals(false).';
  end if;
  return found;
end
$$;

comment on function rowhouse.drop_seal_key(text) is
  'Refuses proofs of this key from the next transaction on; returns whether there was one. The last key stays while seals are required.';

create or replace function rowhouse.set_seals_required(p_required boolean) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  if p_required and not exists (select from rowhouse.seal_keys) then
    raise exception using errcode = 'object_not_in_prerequisite_state',
      message = 'seals cannot be required while the database knows no key',
      hint = 'select rowhouse.add_seal_key(...)';
  end if;
  update rowhouse.seals s set required = p_required;
end
$$;

comment on function rowhouse.set_seals_required(boolean) is 'Used by require_seals.';

create or replace function rowhouse.require_seals(p_required boolean) returns bigint
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_table record;
  v_relation regclass;
  v_statement text;
  v_count bigint := 0;
begin
  perform rowhouse.set_seals_required(p_required);
  perform rowhouse.write_registry_policy();
  for v_table in
    select t.relation, t.tenant_column, t.column_type from rowhouse.protected_tables t join pg_class c on c.oid = t.relation
      order by t.relation
  loop
    for v_relation in select p.relid from pg_partition_tree(v_table.relation) p union select v_table.relation loop
      for v_statement in select * from rowhouse.policy_statements(v_relation, v_table.tenant_column, v_table.column_type) loop
        execute v_statement;
      end loop;
    end loop;
    v_count := v_count + 1;
  end loop;
  return v_count;
end
$$;

comment on function rowhouse.require_seals(boolean) is
  'Makes every policy believe a tenant only with its seal, or not any longer: writes the policies of all protected tables anew, in this transaction, and returns how many tables. Locks each table until the end. Needs the rights of the owner of every protected table.';

revoke execute on function
  rowhouse.seals_required(), rowhouse.seal_digest(bytea, bytea, text), rowhouse.sealed_tenant(), rowhouse.sealed_tenant_uuid(),
  rowhouse.sealed_tenant_bigint(), rowhouse.require_verified_tenant(),
  rowhouse.enter_sealed_tenant(text), rowhouse.xor_bytes(bytea, integer), rowhouse.add_seal_key(bytea),
  rowhouse.list_seal_keys(), rowhouse.drop_seal_key(text), rowhouse.set_seals_required(boolean), rowhouse.require_seals(boolean)
  from public;

-- Policies call these with the rights of whoever runs the statement.
grant execute on function
  rowhouse.sealed_tenant(), rowhouse.sealed_tenant_uuid(), rowhouse.sealed_tenant_bigint()
  to public;
grant execute on function rowhouse.seals_required(), rowhouse.enter_sealed_tenant(text) to rowhouse_app, rowhouse_admin;
grant execute on function
  rowhouse.add_seal_key(bytea), rowhouse.list_seal_keys(), rowhouse.drop_seal_key(text),
  rowhouse.set_seals_required(boolean), rowhouse.require_seals(boolean)
  to rowhouse_admin;
