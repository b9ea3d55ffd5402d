-- Resource locks: a tenant's processes exclude each other from what they name, each for a lease.
--
-- A lease ends by itself, by the clock of the database, so a process that crashed locks nobody out. Whoever was slow may
-- still believe to hold the lock: the fencing token, which grows each time the lock changes hands, and require_lock in
-- the transaction of a write keep it from doing harm.
-- Every function runs with the rights of its caller, under row-level security, for the tenant of the transaction.
-- Depends on: protect.sql, context.sql. Proven by: test/locks.

select rowhouse.protect_table('rowhouse.resource_locks');

create or replace function rowhouse.acquire_lock(p_name text, p_lease interval)
  returns table (holder uuid, token bigint, expires_at timestamptz)
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  -- Who holds the lock inside of a transaction makes others wait for its end, which may be far away.
  set lock_timeout = '250ms'
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_now timestamptz := clock_timestamp();
  v_holder uuid := gen_random_uuid();
begin
  if p_name is null or length(p_name) not between 1 and 512 then
    raise exception using errcode = 'RH070', message = 'the name of a lock is 1 to 512 characters long';
  elsif p_lease is null or p_lease <= interval '0' or p_lease > interval '1 day' then
    raise exception using errcode = 'RH070', message = 'a lease is more than 0 and at most a day long';
  end if;
  -- Microseconds since 1970: tokens also grow when the row was swept meanwhile.
  return query
    insert into rowhouse.resource_locks as l (tenant_id, name, holder, token, acquired_at, expires_at)
      values (v_tenant, p_name, v_holder, extract(epoch from v_now) * 1000000, v_now, v_now + p_lease)
      on conflict (tenant_id, name) do update
        set holder = excluded.holder, token = greatest(excluded.token, l.token + 1),
          acquired_at = excluded.acquired_at, expires_at = excluded.expires_at
        where l.expires_at <= excluded.acquired_at
      returning l.holder, l.token, l.expires_at;
exception
  when lock_not_available then
    return;
end
$$;

comment on function rowhouse.acquire_lock(text, interval) is
  'Takes a lock for a lease of up to a day: its holder, which renewing and releasing need, its fencing token and when it ends. No row when somebody else holds it. Raises RH070.';

create or replace function rowhouse.renew_lock(p_name text, p_holder uuid, p_lease interval) returns timestamptz
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_now timestamptz := clock_timestamp();
  v_expires_at timestamptz;
begin
  if p_lease is null or p_lease <= interval '0' or p_lease > interval '1 day' then
    raise exception using errcode = 'RH070', message = 'a lease is more than 0 and at most a day long';
  end if;
  update rowhouse.resource_locks l
    set expires_at = greatest(l.expires_at, v_now + p_lease)
    where l.tenant_id = v_tenant and l.name = p_name and l.holder = p_holder and l.expires_at > v_now
    returning l.expires_at into v_expires_at;
  return v_expires_at;
end
$$;

comment on function rowhouse.renew_lock(text, uuid, interval) is
  'Begins the lease anew and returns when it ends; null when the holder has lost the lock. Raises RH070.';

create or replace function rowhouse.release_lock(p_name text, p_holder uuid) returns boolean
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_now timestamptz := clock_timestamp();
begin
  update rowhouse.resource_locks l
    set expires_at = v_now
    where l.tenant_id = v_tenant and l.name = p_name and l.holder = p_holder and l.expires_at > v_now;
  return found;
end
$$;

comment on function rowhouse.release_lock(text, uuid) is 'Gives a lock back; false when the holder had lost it.';

create or replace function rowhouse.require_lock(p_name text, p_token bigint) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
begin
  -- The row stays as it is until the transaction ends: nobody takes the lock over, even when the lease ends meanwhile.
  perform from rowhouse.resource_locks l
    where l.tenant_id = v_tenant and l.name = p_name and l.token = p_token and l.expires_at > clock_timestamp()
    for share;
  if not found then
    raise exception using errcode = 'RH071', message = 'the lock is held no more';
  end if;
end
$$;

comment on function rowhouse.require_lock(text, bigint) is
  'Raises RH071 unless the lock is still held under this token, and keeps others from taking it until the transaction ends: what the transaction writes is written under the lock.';

create or replace function rowhouse.sweep_locks(p_limit integer default 1000) returns integer
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_before timestamptz := clock_timestamp() - interval '1 day';
  v_names text[];
  v_deleted integer;
begin
  v_names := array(
    select l.name from rowhouse.resource_locks l
      where l.tenant_id = v_tenant and l.expires_at < v_before
      limit p_limit for update skip locked);
  delete from rowhouse.resource_locks l where l.tenant_id = v_tenant and l.name = any (v_names);
  get diagnostics v_deleted = row_count;
  return v_deleted;
end
$$;

comment on function rowhouse.sweep_locks(integer) is
  'Deletes up to this many locks of the tenant that ended more than a day ago, and returns how many.';

revoke execute on function
  rowhouse.acquire_lock(text, interval), rowhouse.renew_lock(text, uuid, interval), rowhouse.release_lock(text, uuid),
  rowhouse.require_lock(text, bigint), rowhouse.sweep_locks(integer)
  from public;
grant execute on function
  rowhouse.acquire_lock(text, interval), rowhouse.renew_lock(text, uuid, interval), rowhouse.release_lock(text, uuid),
  rowhouse.require_lock(text, bigint), rowhouse.sweep_locks(integer)
  to rowhouse_app;
