-- Locks of what moves or removes all rows of a tenant: erasure, promotion, demotion.
--
-- Depends on: context.sql. Proven by: test/erase/writers.test.ts, test/tenants/promote-traffic.test.ts.

create or replace function rowhouse.lock_tenant(p_tenant text) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  set lock_timeout = '60s'
as $$
declare
  v_key bigint;
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception using errcode = 'invalid_transaction_state',
      message = 'all rows of a tenant can be moved or erased in isolation level read committed only',
      hint = 'An older snapshot does not see rows that were written meanwhile. begin isolation level read committed';
  end if;
  -- While this waited the key may have become another one, which others lock since.
  loop
    select t.lock_key into v_key from rowhouse.tenants t where t.tenant_id = p_tenant;
    perform pg_advisory_xact_lock(v_key);
    exit when not exists (select from rowhouse.tenants t where t.tenant_id = p_tenant and t.lock_key <> v_key);
  end loop;
exception
  when lock_not_available then
    raise exception using errcode = 'RH032',
      message = format('transactions of tenant "%s" did not finish within 60 seconds', p_tenant),
      hint = 'Suspend the tenant, end its transactions, then try again.';
  when deadlock_detected then
    raise exception using errcode = 'RH032',
      message = format('a transaction of tenant "%s" waits for this one, and this one for it', p_tenant),
      hint = 'Try again.';
end
$$;

comment on function rowhouse.lock_tenant(text) is
  'Waits for the running writers of the tenant, then keeps new ones waiting until the transaction ends. Raises RH032 after 60 seconds, 25000 in other isolation levels than read committed.';

create or replace function rowhouse.work_as(p_tenant text, p_holds_lock boolean) returns text[]
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_before text[] := array[
    current_setting('app.tenant_id', true), current_setting('app.work_seal', true), current_setting('rowhouse.holds_tenant_lock', true)];
begin
  -- Operators' functions find nothing of a tenant that is elsewhere, and must not answer as if there were nothing.
  if not p_holds_lock and exists (select from rowhouse.tenants t where t.tenant_id = p_tenant and t.status = 'moved') then
    perform rowhouse.check_tenant_status(p_tenant, 'moved');
  end if;
  -- Not as options of the functions that need it: only a superuser may give a function settings that no extension knows.
  execute format('set local app.tenant_id = %L', coalesce(p_tenant, ''));
  execute format('set local app.work_seal = %L',
    (select coalesce(rowhouse.seal_digest(s.inner_secret, s.outer_secret, p_tenant), '') from rowhouse.seals s));
  -- A seal of its own, which nobody else can make: no tenant id has a colon.
  execute format('set local rowhouse.holds_tenant_lock = %L', case when p_holds_lock then
    (select coalesce(rowhouse.seal_digest(s.inner_secret, s.outer_secret, p_tenant || ':lock'), 'off') from rowhouse.seals s) else 'off' end);
  return v_before;
end
$$;

comment on function rowhouse.work_as(text, boolean) is
  'Makes the transaction work for this tenant, as the holder of its lock or not, until end_work is called with what this returns. An error undoes it.';

create or replace function rowhouse.end_work(p_before text[]) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  execute format('set local app.tenant_id = %L', coalesce(p_before[1], ''));
  execute format('set local app.work_seal = %L', coalesce(p_before[2], ''));
  execute format('set local rowhouse.holds_tenant_lock = %L', coalesce(p_before[3], ''));
end
$$;

comment on function rowhouse.end_work(text[]) is 'Ends work_as: the transaction works for whom it did before.';

create or replace function rowhouse.lock_moves() returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  set lock_timeout = '60s'
as $$
begin
  -- Two that hold a table each and then want it alone would wait for each other. Nobody else asks for this lock: it
  -- lets tables be registered meanwhile.
  lock table rowhouse.protected_tables in share update exclusive mode;
exception
  when lock_not_available or deadlock_detected then
    raise exception using errcode = 'RH032',
      message = 'the promotion, demotion or erasure of another promoted tenant did not finish within 60 seconds',
      hint = 'Try again.';
end
$$;

comment on function rowhouse.lock_moves() is
  'Lets one transaction at a time attach, detach or drop partitions of tenants. Raises RH032 after 60 seconds.';

create or replace function rowhouse.is_waited_for(p_tables regclass[]) returns boolean
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  return exists (
    with locks as materialized (select * from pg_locks)
    select from locks mine
      join locks waiting on not waiting.granted and waiting.locktype = 'advisory' and waiting.database = mine.database
        and (waiting.classid, waiting.objid, waiting.objsubid) = (mine.classid, mine.objid, mine.objsubid)
      join locks held on held.pid = waiting.pid and held.granted and held.locktype = 'relation'
        and held.database = mine.database and held.relation = any (p_tables)
      where mine.pid = pg_backend_pid() and mine.granted and mine.locktype = 'advisory' and mine.mode = 'ExclusiveLock');
end
$$;

comment on function rowhouse.is_waited_for(regclass[]) is
  'Whether somebody who uses one of these tables waits for the lock of a tenant that this transaction holds.';

create or replace function rowhouse.lock_tables(p_tables regclass[], p_mode text, p_readable regclass[] default '{}')
  returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  set lock_timeout = 0
as $$
declare
  v_deadline timestamptz := clock_timestamp() + interval '60 seconds';
  v_pause double precision := 0.05;
  v_give_up timestamptz;
  v_tables regclass[] := p_tables;
  v_lock record;
begin
  loop
    -- A writer of the tenant that is being moved or erased waits for its lock, and holds its table already.
    if p_mode = 'access exclusive' and rowhouse.is_waited_for(p_tables) then
      raise exception using errcode = 'RH032',
        message = format('a transaction of the tenant uses %s and waits for this one', array_to_string(p_tables, ' or ')),
        hint = 'Suspend the tenant, then try again.';
    end if;
    begin
      -- Statements of other tenants queue behind a lock that is waited for, and one that waits for us while we wait for
      -- it would be a deadlock after a second. So the locks come all in this time, or are given back.
      v_give_up := clock_timestamp() + interval '300 milliseconds';
      for v_lock in
        select t.relation as name, p_mode as mode from unnest(v_tables) t (relation)
        union all select r.relation, 'access share' from unnest(p_readable) r (relation)
      loop
        -- Dropped meanwhile: it has no name any more.
        continue when not exists (select from pg_class c where c.oid = v_lock.name);
        execute format('set local lock_timeout = %L',
          greatest(1, 1000 * extract(epoch from v_give_up - clock_timestamp()))::integer || 'ms');
        execute format('lock table only %s in %s mode', v_lock.name, v_lock.mode);
      end loop;
      return;
    exception
      when lock_not_available or deadlock_detected or undefined_table or insufficient_privilege or wrong_object_type then
        -- Dropped since, and another one has its name.
        if sqlstate in ('42501', '42809') and exists (select from pg_class c where c.oid = v_lock.name) then
          raise;
        end if;
        -- Who holds this one wants another one that was taken before it. So this one first, the next time.
        if v_lock.name = any (v_tables) then
          v_tables := v_lock.name || array_remove(v_tables, v_lock.name);
        end if;
    end;
    if clock_timestamp() > v_deadline then
      raise exception using errcode = 'RH032',
        message = format('%s stayed in use for 60 seconds', array_to_string(p_tables || p_readable, ', ')),
        hint = 'End the long transactions that use it, then try again.';
    end if;
    perform pg_sleep(v_pause * (0.5 + random()));
    v_pause := least(2, v_pause * 2);
  end loop;
end
$$;

comment on function rowhouse.lock_tables(regclass[], text, regclass[]) is
  'Locks tables in this mode, in this order at first, and p_readable against changes of their definition, all of them or none: other tenants are never held up for more than a third of a second while it waits. Tries for a minute, then raises RH032; at once where transactions of the tenant that it works on stand in the way.';

revoke execute on function
  rowhouse.lock_tenant(text), rowhouse.work_as(text, boolean), rowhouse.end_work(text[]), rowhouse.lock_moves(), rowhouse.is_waited_for(regclass[]),
  rowhouse.lock_tables(regclass[], text, regclass[])
  from public;
