-- State: get, set, compare, count, list and sweep the values of one tenant.
--
-- Every function runs with the rights of its caller, under row-level security, for the tenant of the transaction, and
-- says so in its own condition as well. A value that expired is gone for all of them at once, by the clock of the
-- database; sweep_state deletes it later.
-- Depends on: protect.sql, context.sql. Proven by: test/state.

select rowhouse.protect_table('rowhouse.state');

create or replace function rowhouse.check_state(p_keys text[], p_value jsonb, p_lifetime interval) returns void
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_problem text;
begin
  v_problem := case
    when exists (select from unnest(p_keys) k where k is null or length(k) not between 1 and 512) then
      'a key is 1 to 512 characters long'
    when exists (select from unnest(p_keys) k where strpos(k, chr(1114111)) > 0) then 'a key has no character U+10FFFF'
    when p_value is null then 'a value is a JSON value, null included, but not nothing'
    when octet_length(p_value::text) > 1048576 then 'a value has at most 1048576 bytes'
    when p_lifetime <= interval '0' then 'a lifetime is more than 0'
  end;
  if v_problem is not null then
    raise exception using errcode = 'RH070', message = v_problem;
  end if;
end
$$;

comment on function rowhouse.check_state(text[], jsonb, interval) is 'Raises RH070 with the first thing that cannot be stored.';

create or replace function rowhouse.get_state(p_keys text[])
  returns table (tenant_id text, key text, value jsonb, expires_at timestamptz)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
begin
  return query
    select s.tenant_id, s.key, s.value, s.expires_at from rowhouse.state s
      where s.tenant_id = v_tenant and s.key = any (p_keys) and (s.expires_at is null or s.expires_at > clock_timestamp());
end
$$;

comment on function rowhouse.get_state(text[]) is 'The values under these keys, in no particular order; keys without one are left out.';

create or replace function rowhouse.set_state(p_key text, p_value jsonb, p_lifetime interval default null) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_now timestamptz := clock_timestamp();
begin
  perform rowhouse.check_state(array[p_key], p_value, p_lifetime);
  insert into rowhouse.state (tenant_id, key, value, expires_at, updated_at)
    values (v_tenant, p_key, p_value, v_now + p_lifetime, v_now)
    on conflict (tenant_id, key) do update
      set value = excluded.value, expires_at = excluded.expires_at, updated_at = excluded.updated_at;
end
$$;

comment on function rowhouse.set_state(text, jsonb, interval) is
  'Puts a value under a key, in place of the one that is there and of its lifetime. p_lifetime: when it expires; null is never. Raises RH070.';

create or replace function rowhouse.set_state_if_absent(p_key text, p_value jsonb, p_lifetime interval default null) returns boolean
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_now timestamptz := clock_timestamp();
begin
  perform rowhouse.check_state(array[p_key], p_value, p_lifetime);
  insert into rowhouse.state as s (tenant_id, key, value, expires_at, updated_at)
    values (v_tenant, p_key, p_value, v_now + p_lifetime, v_now)
    on conflict (tenant_id, key) do update
      set value = excluded.value, expires_at = excluded.expires_at, updated_at = excluded.updated_at
      where s.expires_at <= excluded.updated_at;
  return found;
end
$$;

comment on function rowhouse.set_state_if_absent(text, jsonb, interval) is
  'As set_state, but only when there is no value; tells whether it did. Raises RH070.';

create or replace function rowhouse.compare_and_set_state(
  p_key text, p_expected jsonb, p_value jsonb, p_lifetime interval default null
) returns boolean
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_now timestamptz := clock_timestamp();
begin
  perform rowhouse.check_state(array[p_key], p_value, p_lifetime);
  update rowhouse.state s
    set value = p_value, expires_at = v_now + p_lifetime, updated_at = v_now
    where s.tenant_id = v_tenant and s.key = p_key and s.value = p_expected and (s.expires_at is null or s.expires_at > v_now);
  return found;
end
$$;

comment on function rowhouse.compare_and_set_state(text, jsonb, jsonb, interval) is
  'As set_state, but only when the value is p_expected, as JSON; tells whether it did. Raises RH070.';

create or replace function rowhouse.increment_state(p_key text, p_by numeric default 1, p_lifetime interval default null)
  returns numeric
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_now timestamptz := clock_timestamp();
  v_value numeric;
begin
  perform rowhouse.check_state(array[p_key], to_jsonb(p_by), p_lifetime);
  insert into rowhouse.state as s (tenant_id, key, value, expires_at, updated_at)
    values (v_tenant, p_key, to_jsonb(p_by), v_now + p_lifetime, v_now)
    on conflict (tenant_id, key) do update
      set value = case when s.expires_at <= excluded.updated_at then excluded.value
          else to_jsonb(s.value::numeric + excluded.value::numeric) end,
        expires_at = case when s.expires_at <= excluded.updated_at then excluded.expires_at else s.expires_at end,
        updated_at = excluded.updated_at
    returning s.value::numeric into v_value;
  return v_value;
exception
  -- From PostgreSQL 18 on, a JSON null as a number is no error but null.
  when invalid_parameter_value or not_null_violation then
    raise exception using errcode = 'RH070', message = 'the value is no number, so it cannot be incremented';
end
$$;

comment on function rowhouse.increment_state(text, numeric, interval) is
  'Adds to the number under a key, which is 0 when there is none, and returns the sum. p_lifetime holds for a new number; that of an existing one stays. Raises RH070.';

create or replace function rowhouse.delete_state(p_keys text[]) returns bigint
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_now timestamptz := clock_timestamp();
  v_deleted bigint;
begin
  with gone as (
    delete from rowhouse.state s where s.tenant_id = v_tenant and s.key = any (p_keys) returning s.expires_at)
  select count(*) into v_deleted from gone g where g.expires_at is null or g.expires_at > v_now;
  return v_deleted;
end
$$;

comment on function rowhouse.delete_state(text[]) is 'Deletes the values under these keys and returns how many there were.';

create or replace function rowhouse.prefix_end(p_prefix text) returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  -- The largest character, which no key has.
  return p_prefix || chr(1114111);
end
$$;

comment on function rowhouse.prefix_end(text) is
  'Keys that begin with the prefix, compared byte by byte, are at least the prefix and less than this.';

create or replace function rowhouse.list_state(p_prefix text default '', p_limit integer default 100, p_after text default null)
  returns table (tenant_id text, key text, value jsonb, expires_at timestamptz)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_end text := rowhouse.prefix_end(p_prefix);
begin
  if p_limit is null or p_limit not between 1 and 1001 then
    raise exception using errcode = 'invalid_parameter_value', message = 'the limit of a list is 1 to 1001 values';
  end if;
  return query
    select s.tenant_id, s.key, s.value, s.expires_at from rowhouse.state s
      where s.tenant_id = v_tenant and s.key >= p_prefix and s.key < v_end and (p_after is null or s.key > p_after)
        and (s.expires_at is null or s.expires_at > clock_timestamp())
      order by s.key limit p_limit;
end
$$;

comment on function rowhouse.list_state(text, integer, text) is
  'Values whose keys begin with the prefix, in the order of their keys. p_after: the last key of the page before.';

create or replace function rowhouse.clear_state(p_prefix text) returns bigint
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_end text := rowhouse.prefix_end(p_prefix);
  v_now timestamptz := clock_timestamp();
  v_deleted bigint;
begin
  with gone as (
    delete from rowhouse.state s where s.tenant_id = v_tenant and s.key >= p_prefix and s.key < v_end returning s.expires_at)
  select count(*) into v_deleted from gone g where g.expires_at is null or g.expires_at > v_now;
  return v_deleted;
end
$$;

comment on function rowhouse.clear_state(text) is 'Deletes the values whose keys begin with the prefix and returns how many there were.';

create or replace function rowhouse.sweep_state(p_limit integer default 1000) returns integer
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_now timestamptz := clock_timestamp();
  v_keys text[];
  v_deleted integer;
begin
  -- What another process sweeps or sets right now is left to it.
  v_keys := array(
    select s.key from rowhouse.state s
      where s.tenant_id = v_tenant and s.expires_at <= v_now
      limit p_limit for update skip locked);
  delete from rowhouse.state s where s.tenant_id = v_tenant and s.key = any (v_keys);
  get diagnostics v_deleted = row_count;
  return v_deleted;
end
$$;

comment on function rowhouse.sweep_state(integer) is
  'Deletes up to this many expired values of the tenant and returns how many; fewer when no more are left. Several processes may sweep at once.';

revoke execute on function
  rowhouse.check_state(text[], jsonb, interval), rowhouse.get_state(text[]), rowhouse.set_state(text, jsonb, interval),
  rowhouse.set_state_if_absent(text, jsonb, interval), rowhouse.compare_and_set_state(text, jsonb, jsonb, interval),
  rowhouse.increment_state(text, numeric, interval), rowhouse.delete_state(text[]), rowhouse.prefix_end(text),
  rowhouse.list_state(text, integer, text), rowhouse.clear_state(text), rowhouse.sweep_state(integer)
  from public;
grant execute on function
  rowhouse.check_state(text[], jsonb, interval), rowhouse.get_state(text[]), rowhouse.set_state(text, jsonb, interval),
  rowhouse.set_state_if_absent(text, jsonb, interval), rowhouse.compare_and_set_state(text, jsonb, jsonb, interval),
  rowhouse.increment_state(text, numeric, interval), rowhouse.delete_state(text[]), rowhouse.prefix_end(text),
  rowhouse.list_state(text, integer, text), rowhouse.clear_state(text), rowhouse.sweep_state(integer)
  to rowhouse_app;
