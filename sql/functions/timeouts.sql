-- Timeouts: how long statements, waits for locks and idle transactions of a tenant last, by its tier.
--
-- They ride in the row that enter_tenant reads anyway, so they cost a transaction nothing where there are none, and no
-- round trip where there are. A limit for well-behaved code, no wall: a transaction may set its own to anything.
-- Depends on: tenants.sql, rowhouse.tier_timeouts. Proven by: test/tenants/timeouts.test.ts.

alter table rowhouse.tier_timeouts enable row level security, force row level security;
drop policy if exists owner_all on rowhouse.tier_timeouts;
create policy owner_all on rowhouse.tier_timeouts for all to rowhouse_owner using (true) with check (true);
comment on policy owner_all on rowhouse.tier_timeouts is 'Only the functions of rowhouse read and write it.';
revoke all on rowhouse.tier_timeouts from public, rowhouse_app, rowhouse_admin;

grant select (timeouts, locks_on_entry) on rowhouse.tenants to rowhouse_app;
grant select (own_timeouts, timeouts) on rowhouse.tenants to rowhouse_admin;

-- By set local: hardened servers revoke set_config.
create or replace function rowhouse.apply_timeouts(p_timeouts integer[]) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  if p_timeouts[1] is not null then
    execute format('set local statement_timeout = %s', p_timeouts[1]);
  end if;
  if p_timeouts[2] is not null then
    execute format('set local lock_timeout = %s', p_timeouts[2]);
  end if;
  if p_timeouts[3] is not null then
    execute format('set local idle_in_transaction_session_timeout = %s', p_timeouts[3]);
  end if;
end
$$;

comment on function rowhouse.apply_timeouts(integer[]) is
  'Sets the timeouts of the transaction, of a statement, of a lock and idle, in milliseconds; null leaves what the server has.';

create or replace function rowhouse.enter_with_timeouts(p_tenant text) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_status text;
  v_timeouts integer[];
  v_locks_on_entry boolean;
begin
  select t.status, t.timeouts, t.locks_on_entry into v_status, v_timeouts, v_locks_on_entry
    from rowhouse.tenants t where t.tenant_id = p_tenant;
  if v_status in ('active', 'relocating') then
    if v_timeouts is not null then
      perform rowhouse.apply_timeouts(v_timeouts);
    end if;
    if v_locks_on_entry or v_status = 'relocating' then
      perform rowhouse.lock_on_entry();
    end if;
  else
    perform rowhouse.refuse_tenant(p_tenant, v_status);
  end if;
end
$$;

comment on function rowhouse.enter_with_timeouts(text) is
  'The part of rowhouse.enter for tenants that have timeouts, which it sets, for those whose rows are moved, which it waits for, and for those that may not work, which it refuses.';

create or replace function rowhouse.effective_timeouts(p_tier text, p_own integer[]) returns integer[]
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tier integer[];
  v_timeouts integer[];
begin
  select t.timeouts into v_tier from rowhouse.tier_timeouts t where t.tier in (p_tier, '*') order by t.tier = '*' limit 1;
  v_timeouts := array[coalesce(p_own[1], v_tier[1]), coalesce(p_own[2], v_tier[2]), coalesce(p_own[3], v_tier[3])];
  return nullif(v_timeouts, array[null, null, null]::integer[]);
end
$$;

comment on function rowhouse.effective_timeouts(text, integer[]) is
  'The timeouts of a tenant: each its own, else that of its tier, else that of tier *. Null when there is none.';

create or replace function rowhouse.note_timeouts() returns trigger
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  -- Waits for set_tier_timeouts, which would not see this tenant yet.
  lock table rowhouse.tier_timeouts in share mode;
  new.timeouts := rowhouse.effective_timeouts(new.tier, new.own_timeouts);
  return new;
end
$$;

comment on function rowhouse.note_timeouts() is 'Trigger of the registry: writes down which timeouts hold for a tenant.';

create or replace trigger rowhouse_timeouts before insert or update of tier, own_timeouts on rowhouse.tenants
  for each row execute function rowhouse.note_timeouts();

create or replace function rowhouse.check_timeouts(p_timeouts integer[]) returns void
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (select from unnest(p_timeouts) t (ms) where t.ms not between 1 and 86400000) then
    raise exception using errcode = 'invalid_parameter_value', message = 'a timeout is 1 to 86400000 ms, or null for that of the server';
  end if;
end
$$;

comment on function rowhouse.check_timeouts(integer[]) is 'Raises 22023 for what is no timeout.';

create or replace function rowhouse.set_tier_timeouts(
  p_tier text, p_statement_ms integer default null, p_lock_ms integer default null, p_idle_in_transaction_ms integer default null
) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform rowhouse.check_timeouts(array[p_statement_ms, p_lock_ms, p_idle_in_transaction_ms]);
  lock table rowhouse.tier_timeouts in share row exclusive mode;
  if p_statement_ms is null and p_lock_ms is null and p_idle_in_transaction_ms is null then
    delete from rowhouse.tier_timeouts t where t.tier = p_tier;
  else
    insert into rowhouse.tier_timeouts (tier, timeouts) values (p_tier, array[p_statement_ms, p_lock_ms, p_idle_in_transaction_ms])
      on conflict (tier) do update set timeouts = excluded.timeouts;
  end if;
  update rowhouse.tenants t
    set timeouts = rowhouse.effective_timeouts(t.tier, t.own_timeouts)
    where p_tier in (t.tier, '*') and t.timeouts is distinct from rowhouse.effective_timeouts(t.tier, t.own_timeouts);
exception
  when check_violation or not_null_violation then
    raise exception using errcode = 'invalid_parameter_value', message = 'not a tier',
      hint = 'A tier is 1 to 32 lower-case letters, digits, underscores or hyphens; * stands for all tiers.';
end
$$;

comment on function rowhouse.set_tier_timeouts(text, integer, integer, integer) is
  'Sets the timeouts of the transactions of tenants of a tier (* for tiers that have none), in milliseconds; null: that of the server, all null: none. Holds from the next transaction on.';

create or replace function rowhouse.set_tenant_timeouts(
  p_tenant text, p_statement_ms integer default null, p_lock_ms integer default null, p_idle_in_transaction_ms integer default null
) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform rowhouse.check_tenant_id(p_tenant);
  perform rowhouse.check_timeouts(array[p_statement_ms, p_lock_ms, p_idle_in_transaction_ms]);
  update rowhouse.tenants t
    set own_timeouts = nullif(array[p_statement_ms, p_lock_ms, p_idle_in_transaction_ms], array[null, null, null]::integer[])
    where t.tenant_id = p_tenant and rowhouse.tenant_is_here(t.status);
  if not found then
    perform rowhouse.check_tenant_status(p_tenant, (select t.status from rowhouse.tenants t where t.tenant_id = p_tenant));
  end if;
end
$$;

comment on function rowhouse.set_tenant_timeouts(text, integer, integer, integer) is
  'Sets timeouts of one tenant in place of those of its tier, in milliseconds; null: that of the tier. Raises RH002, RH004, RH006 for the tenant.';

revoke execute on function
  rowhouse.apply_timeouts(integer[]), rowhouse.enter_with_timeouts(text), rowhouse.effective_timeouts(text, integer[]), rowhouse.note_timeouts(),
  rowhouse.check_timeouts(integer[]), rowhouse.set_tier_timeouts(text, integer, integer, integer),
  rowhouse.set_tenant_timeouts(text, integer, integer, integer)
  from public;
grant execute on function rowhouse.apply_timeouts(integer[]), rowhouse.enter_with_timeouts(text) to rowhouse_app, rowhouse_admin;
grant execute on function
  rowhouse.set_tier_timeouts(text, integer, integer, integer), rowhouse.set_tenant_timeouts(text, integer, integer, integer)
  to rowhouse_admin;
