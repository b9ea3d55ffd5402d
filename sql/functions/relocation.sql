-- Relocation: what promotion and demotion share, so that the tenant goes on working while its rows are moved.
--
-- Its transactions take its lock when they begin, and wait there. A demotion moves the rows in several transactions,
-- between which the tenant has the status relocating: nobody may read half of the rows, so whoever enters waits for the
-- end (await_relocation), as long as somebody is at work on it.
-- Depends on: locks.sql, context.sql. Proven by: test/tenants/promote-own-traffic.test.ts, demote*.test.ts.

create or replace function rowhouse.enter_for_move(p_tenant text) returns name
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant record;
begin
  perform rowhouse.check_tenant_id(p_tenant);
  perform rowhouse.lock_moves();
  perform rowhouse.lock_tenant(p_tenant);
  select t.status, t.partition_schema into v_tenant from rowhouse.tenants t where t.tenant_id = p_tenant;
  if not rowhouse.tenant_is_here(v_tenant.status) then
    perform rowhouse.check_tenant_status(p_tenant, v_tenant.status);
  end if;
  return v_tenant.partition_schema;
end
$$;

comment on function rowhouse.enter_for_move(text) is
  'Takes the locks for moving the rows of a tenant; returns the schema of its partitions. Raises RH002, RH004, RH032.';

create or replace function rowhouse.begin_relocation(p_tenant text) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform rowhouse.check_tenant_id(p_tenant);
  update rowhouse.tenants t set locks_on_entry = true
    where t.tenant_id = p_tenant and (rowhouse.tenant_is_here(t.status) or t.status = 'relocating');
  if not found then
    perform rowhouse.check_tenant_status(p_tenant, (select t.status from rowhouse.tenants t where t.tenant_id = p_tenant));
  end if;
end
$$;

comment on function rowhouse.begin_relocation(text) is
  'First step of a promotion or demotion of a tenant that goes on working, in a transaction of its own: from its commit on, transactions of the tenant take its lock when they begin, so that they wait there while its rows are moved, before they use a table; those of a promoted tenant also when they only read. Then await_entries, then promote_tenant, or begin_demotion and demote_next, which end it. Raises RH002, RH004, RH006.';

create or replace function rowhouse.await_entries(p_milliseconds integer default 10000) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_deadline timestamptz := clock_timestamp() + p_milliseconds * interval '1 millisecond';
  -- Whoever entered as a tenant has read the registry, and keeps this lock to the end of its transaction.
  v_entered text[] := array(
    select l.virtualtransaction from pg_locks l
      where l.locktype = 'relation' and l.relation = 'rowhouse.tenants'::regclass and l.pid <> pg_backend_pid()
        and l.database = (select d.oid from pg_database d where d.datname = current_database()));
begin
  while exists (select from pg_locks l where l.locktype = 'virtualxid' and l.virtualtransaction = any (v_entered)) loop
    if clock_timestamp() > v_deadline then
      return false;
    end if;
    perform pg_sleep(0.005);
  end loop;
  return true;
end
$$;

comment on function rowhouse.await_entries(integer) is
  'Second step: waits for the transactions that began before begin_relocation was committed, of all tenants, at most so long; whether they have ended. A writer among them that comes later makes a promotion give way (RH032). A demotion must not begin before they have ended: they would find no rows.';

create or replace function rowhouse.end_relocation(p_tenant text) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  -- One that is half moved stays closed.
  update rowhouse.tenants t set locks_on_entry = false
    where t.tenant_id = p_tenant and t.locks_on_entry and t.status <> 'relocating';
end
$$;

comment on function rowhouse.end_relocation(text) is
  'Undoes begin_relocation, when the promotion or demotion after it failed. Nothing happens otherwise.';

create or replace function rowhouse.finish_relocation(p_tenant text) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  -- A new lock key: who comes with a snapshot from before would not find the rows, and is told so (40001).
  update rowhouse.tenants t set locks_on_entry = false, lock_key = default where t.tenant_id = p_tenant;
end
$$;

comment on function rowhouse.finish_relocation(text) is 'Last step of promote_tenant: the tenant''s rows are elsewhere.';

create or replace function rowhouse.relocation_key(p_lock_key bigint) returns bigint
  language sql immutable parallel safe
  return p_lock_key # 1;

comment on function rowhouse.relocation_key(bigint) is
  'Key of the advisory lock that a demotion holds while it moves rows, for those who wait for its end; p_lock_key: that of the tenant.';

create or replace function rowhouse.raise_relocated(p_tenant text) returns void
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception using errcode = 'serialization_failure',
    message = format('rows of tenant "%s" are moved to other partitions', p_tenant),
    hint = 'Try again. If nobody promotes or demotes the tenant, it was cut off: do it again.';
end
$$;

comment on function rowhouse.raise_relocated(text) is
  'Raises 40001: the snapshot of the transaction is older than the partitions in which the rows of the tenant are.';

create or replace function rowhouse.await_relocation(p_tenant text) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_has_snapshot boolean := current_setting('transaction_isolation') <> 'read committed';
  v_tenant record;
  v_asked timestamptz;
  v_alive timestamptz := '-infinity';
begin
  loop
    select t.status, t.lock_key, t.updated_at into v_tenant from rowhouse.tenants t where t.tenant_id = p_tenant;
    if v_tenant.status is distinct from 'relocating' then
      return;
    end if;
    v_alive := greatest(v_alive, v_tenant.updated_at);
    if clock_timestamp() > v_alive + interval '10 seconds' then
      perform rowhouse.check_tenant_status(p_tenant, v_tenant.status);
    end if;
    begin
      v_asked := clock_timestamp();
      perform pg_advisory_xact_lock_shared(rowhouse.relocation_key(v_tenant.lock_key));
      if clock_timestamp() > v_asked + interval '2 milliseconds' then
        v_alive := clock_timestamp();
      end if;
      if v_has_snapshot and current_setting('transaction_read_only') = 'off' then
        -- The end changes this key, which raises 40001.
        perform from rowhouse.tenants t where t.tenant_id = p_tenant for key share;
      end if;
      -- Gives the locks back, for the next step.
      raise exception using errcode = 'RH033';
    exception
      when sqlstate 'RH033' then
        null;
    end;
    if v_has_snapshot and current_setting('transaction_read_only') = 'on' then
      perform rowhouse.raise_relocated(p_tenant);
    end if;
    perform pg_sleep(0.01);
  end loop;
end
$$;

comment on function rowhouse.await_relocation(text) is
  'Waits until the rows of the tenant are back where everybody finds them. Raises RH033 when nobody has been at work on it for 10 seconds, 40001 in other isolation levels than read committed: their snapshot is from before.';

create or replace function rowhouse.hold_rows(p_tenant text) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_lock_key bigint;
begin
  select t.lock_key into v_lock_key from rowhouse.tenants t
    where t.tenant_id = p_tenant and (t.locks_on_entry or t.status = 'relocating');
  if v_lock_key is null then
    return;
  elsif current_setting('transaction_isolation') <> 'read committed' then
    raise exception using errcode = 'RH033', message = format('tenant "%s" is being moved to other partitions', p_tenant),
      hint = 'Try again. If nobody promotes or demotes the tenant, it was cut off: do it again.';
  end if;
  perform rowhouse.lock_tenant_shared(p_tenant, v_lock_key);
end
$$;

comment on function rowhouse.hold_rows(text) is
  'For operators'' functions that read rows of a tenant: waits while they are moved, and keeps them where they are until the transaction ends. Raises RH033 where that cannot be: in other isolation levels than read committed, and when a demotion was cut off.';

revoke execute on function
  rowhouse.enter_for_move(text), rowhouse.begin_relocation(text), rowhouse.await_entries(integer),
  rowhouse.end_relocation(text), rowhouse.finish_relocation(text), rowhouse.relocation_key(bigint),
  rowhouse.raise_relocated(text), rowhouse.await_relocation(text), rowhouse.hold_rows(text)
  from public;
grant execute on function rowhouse.begin_relocation(text), rowhouse.await_entries(integer), rowhouse.end_relocation(text) to rowhouse_admin;
