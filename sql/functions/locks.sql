-- Locks of what moves or removes all rows of a tenant: erasure, promotion, demotion.
--
-- Depends on: context.sql. Proven by: test/erase/writers.test.ts, test/tenants/promote-traffic.test.ts.

create or replace function rowhouse.lock_tenant(p_tenant text) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  set lock_timeout = '60s'
as $$
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception using errcode = 'invalid_transaction_state',
      message = 'all rows of a tenant can be moved or erased in isolation level read committed only',
      hint = 'An older snapshot does not see rows that were written meanwhile. begin isolation level read committed';
  end if;
  perform pg_advisory_xact_lock(t.lock_key) from rowhouse.tenants t where t.tenant_id = p_tenant;
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
  -- Not as options of the functions that need it: only a superuser may give a function settings that no extension knows.
  execute format('set local app.tenant_id = %L', p_tenant);
  execute format('set local app.work_seal = %L',
    (select rowhouse.seal_digest(s.inner_secret, s.outer_secret, p_tenant) from rowhouse.seals s));
  execute format('set local rowhouse.holds_tenant_lock = %L', case when p_holds_lock then 'on' else 'off' end);
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

create or replace function rowhouse.lock_tables(p_tables regclass[], p_mode text) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  set lock_timeout = 0
as $$
declare
  v_deadline timestamptz := clock_timestamp() + interval '60 seconds';
  v_pause double precision := 0.05;
  v_give_up timestamptz;
  v_table regclass;
begin
  loop
    begin
      -- Statements of other tenants queue behind a lock that is waited for, and one that waits for us while we wait for
      -- it would be a deadlock after a second. So the locks come all in this time, or are given back.
      v_give_up := clock_timestamp() + interval '300 milliseconds';
      foreach v_table in array p_tables loop
        execute format('set local lock_timeout = %L',
          greatest(1, 1000 * extract(epoch from v_give_up - clock_timestamp()))::integer || 'ms');
        execute format('lock table only %s in %s mode', v_table, p_mode);
      end loop;
      return;
    exception
      when lock_not_available or deadlock_detected then
        null;
    end;
    if clock_timestamp() > v_deadline then
      raise exception using errcode = 'RH032',
        message = format('%s stayed in use for 60 seconds', array_to_string(p_tables, ', ')),
        hint = 'End the long transactions that use it, then try again.';
    end if;
    perform pg_sleep(v_pause * (0.5 + random()));
    v_pause := least(2, v_pause * 2);
  end loop;
end
$$;

comment on function rowhouse.lock_tables(regclass[], text) is
  'Locks tables without ever holding up other tenants for more than a third of a second while it waits; tries for a minute, then raises RH032.';

revoke execute on function
  rowhouse.lock_tenant(text), rowhouse.work_as(text, boolean), rowhouse.end_work(text[]), rowhouse.lock_tables(regclass[], text)
  from public;
