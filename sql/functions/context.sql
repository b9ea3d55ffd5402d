-- Context: which tenant a transaction works for.
--
-- The context is the setting app.tenant_id, set for one transaction only (set local). Policies read the setting itself,
-- not these functions: a plain stable expression is an index condition and prunes partitions.
-- Depends on: rowhouse.tenants. Proven by: test/isolation/p01 to p13.

create or replace function rowhouse.current_tenant() returns text
  language sql stable parallel safe
  return nullif(current_setting('app.tenant_id', true), '');

comment on function rowhouse.current_tenant() is
  'The tenant of the transaction, or null when none is set. It says what is set, not what is proven: where seals are required, functions and policies of your own use require_verified_tenant.';

create or replace function rowhouse.raise_no_tenant() returns text
  language plpgsql stable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception using
    errcode = 'RH001',
    message = 'no tenant is set for this transaction',
    hint = 'Run the statement inside withTenant(id, fn), or: set local app.tenant_id = ''<tenant>''.';
end
$$;

comment on function rowhouse.raise_no_tenant() is 'Raises RH001. Kept apart so that require_tenant can be inlined.';

create or replace function rowhouse.raise_problem(p_code text, p_problem text) returns void
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  if p_problem is not null then
    raise exception using errcode = p_code, message = p_problem;
  end if;
end
$$;

comment on function rowhouse.raise_problem(text, text) is
  'Raises an error with this SQLSTATE and message; nothing happens when the message is null. For checks of what a caller gave.';

create or replace function rowhouse.require_tenant() returns text
  language sql stable parallel safe
  return coalesce(nullif(current_setting('app.tenant_id', true), ''), rowhouse.raise_no_tenant());

comment on function rowhouse.require_tenant() is
  'The tenant of the transaction; raises RH001 when none is set. Default of every tenant column, whose policy checks the value. It says what is set: see require_verified_tenant.';

create or replace function rowhouse.check_tenant_status(p_tenant text, p_status text) returns void
  language plpgsql stable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  if p_status = 'active' then
    return;
  elsif p_status is null then
    raise exception using errcode = 'RH002', message = format('tenant "%s" does not exist', p_tenant);
  elsif p_status = 'suspended' then
    raise exception using errcode = 'RH003', message = format('tenant "%s" is suspended', p_tenant);
  elsif p_status in ('importing', 'moving') then
    raise exception using errcode = 'RH033', message = format('tenant "%s" is being %s', p_tenant,
      case p_status when 'moving' then 'moved to another database' else 'imported' end);
  elsif p_status = 'relocating' then
    raise exception using errcode = 'RH033', message = format('tenant "%s" is being moved to other partitions', p_tenant),
      hint = 'Try again. If it stays so, its demotion was cut off, and calling it again finishes it.';
  elsif p_status = 'moved' then
    raise exception using errcode = 'RH034', message = format('tenant "%s" is in another database', p_tenant),
      detail = (select t.placement from rowhouse.tenants t where t.tenant_id = p_tenant);
  else
    raise exception using errcode = 'RH004',
      message = format('tenant "%s" is %s', p_tenant,
        case p_status when 'erasing' then 'being erased' else p_status end);
  end if;
end
$$;

comment on function rowhouse.check_tenant_status(text, text) is
  'Returns when a tenant of this status may work; otherwise raises RH002 (unknown: null), RH003 (suspended), RH033 (being moved, to another database or other partitions, or imported), RH034 (moved; the detail is the placement) or RH004.';

create or replace function rowhouse.check_tenant_id(p_tenant text) returns void
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  if p_tenant is null or p_tenant !~ '^[a-zA-Z0-9_-]{1,64}$' then
    raise exception using errcode = 'RH006', message = 'not a tenant id',
      hint = 'A tenant id is 1 to 64 letters, digits, underscores or hyphens.';
  end if;
end
$$;

comment on function rowhouse.check_tenant_id(text) is 'Raises RH006 when the text is no valid tenant id.';

create or replace function rowhouse.refuse_tenant(p_tenant text, p_status text) returns void
  language plpgsql stable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  if coalesce(p_tenant, '') = '' then
    perform rowhouse.raise_no_tenant();
  end if;
  perform rowhouse.check_tenant_id(p_tenant);
  if rowhouse.settles(p_status) is not true then
    perform rowhouse.check_tenant_status(p_tenant, p_status);
  end if;
end
$$;

comment on function rowhouse.refuse_tenant(text, text) is
  'Raises why a tenant of this status (null: unknown) may not work: RH001 (none set), RH006 (malformed), RH002, RH003 or RH004.';

-- Part of every transaction, so without a search path of its own, which takes a third of its time: every name, type and
-- operator says its schema instead.
create or replace procedure rowhouse.enter(p_has_user pg_catalog.bool, p_has_request pg_catalog.bool)
  language plpgsql
as $$
declare
  v_tenant pg_catalog.text := pg_catalog.current_setting('app.tenant_id', true);
  v_status pg_catalog.text;
begin
  -- What the transaction does not say must not show through from the session, and must not be unknown either.
  if not (p_has_user or coalesce(pg_catalog.current_setting('app.user_id', true) operator(pg_catalog.=) '', false)) then
    set local app.user_id = '';
  end if;
  if not (p_has_request
      or coalesce(pg_catalog.current_setting('app.request_id', true) operator(pg_catalog.=) '', false)) then
    set local app.request_id = '';
  end if;
  -- Under the row-level security of the registry: a transaction sees the row of its own tenant only.
  -- With timeouts, or while its rows are moved, it is looked at again.
  select case when t.timeouts is null and not t.locks_on_entry then t.status end into v_status
    from rowhouse.tenants t where t.tenant_id operator(pg_catalog.=) v_tenant;
  if v_status operator(pg_catalog.=) 'active' then
    return;
  end if;
  perform rowhouse.enter_with_timeouts(v_tenant);
end
$$;

comment on procedure rowhouse.enter(bool, bool) is
  'Checks that the tenant set in app.tenant_id may work, and empties app.user_id and app.request_id where the transaction did not set them. Raises RH001 (none set), RH006 (malformed), RH002 (unknown), RH003 (suspended) or RH004 (inactive, being erased, erased). The client runs it with the statements that open the transaction.';

create or replace function rowhouse.enter_tenant() returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  call rowhouse.enter(true, true);
end
$$;

comment on function rowhouse.enter_tenant() is
  'The check of rowhouse.enter, which leaves app.user_id and app.request_id as they are. For transactions written by hand.';

create or replace function rowhouse.set_caller(p_user text, p_request text) returns boolean
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  execute format('set local app.user_id = %L', coalesce(p_user, ''));
  execute format('set local app.request_id = %L', coalesce(p_request, ''));
  return true;
end
$$;

comment on function rowhouse.set_caller(text, text) is
  'Sets app.user_id and app.request_id for the rest of the transaction, and returns true: calls of several users and requests of one tenant may share a statement, as in select case when rowhouse.set_caller(''u_1'', ''r_1'') then rowhouse.admit(...) end.';

create or replace function rowhouse.tenant_is_here(p_status text) returns boolean
  language sql immutable parallel safe
  return coalesce(p_status in ('active', 'suspended', 'inactive'), false);

comment on function rowhouse.tenant_is_here(text) is
  'Whether a tenant of this status is in this database, and nobody is about to erase, import or move it.';

create or replace function rowhouse.tenant_is_moving(p_status text) returns boolean
  language sql immutable parallel safe
  return coalesce(p_status in ('importing', 'moving', 'moved'), false);

comment on function rowhouse.tenant_is_moving(text) is
  'Whether rows of a tenant of this status are in another database, or being copied from one to the other.';

create or replace function rowhouse.lock_tenant_shared(p_tenant text, p_lock_key bigint) returns text
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_lock_key bigint := p_lock_key;
  v_current_key bigint;
  v_status text;
begin
  loop
    perform pg_advisory_xact_lock_shared(v_lock_key);
    -- A statement of its own: its snapshot is taken after the lock.
    if current_setting('transaction_isolation') = 'read committed' then
      select t.status, t.lock_key into v_status, v_current_key from rowhouse.tenants t where t.tenant_id = p_tenant;
    elsif exists (select from rowhouse.tenants t where t.tenant_id = p_tenant and t.status = 'relocating') then
      v_status := 'relocating';
    elsif current_setting('transaction_read_only') = 'on' then
      -- It cannot look beyond its snapshot, in which the rows may be where they are no more.
      perform rowhouse.raise_relocated(p_tenant);
    else
      -- The snapshot may be older than an erasure that committed meanwhile. That changed lock_key, a key, so this raises
      -- 40001; changes of anything else are no conflict.
      select t.status, t.lock_key into v_status, v_current_key from rowhouse.tenants t where t.tenant_id = p_tenant for key share;
    end if;
    if v_status = 'relocating' then
      perform rowhouse.await_relocation(p_tenant);
      continue;
    end if;
    -- While this waited the key may have become another one, which others lock since.
    exit when v_current_key is not distinct from v_lock_key;
    v_lock_key := v_current_key;
  end loop;
  return v_status;
end
$$;

comment on function rowhouse.lock_tenant_shared(text, bigint) is
  'Waits for a running erasure, promotion or move of the tenant, makes later ones wait for this transaction, and returns the status that the tenant has then; null: unknown. p_lock_key: its lock_key, as the caller read it.';

create or replace function rowhouse.guard_tenant_write() returns trigger
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := nullif(current_setting('app.tenant_id', true), '');
  v_believed boolean;
  v_lock_key bigint;
  v_holds_lock boolean;
  v_status text;
begin
  -- No tenant: the policies refuse the row, unless they don't apply to the role (a superuser restoring a dump).
  if v_tenant is null then
    return null;
  end if;
  -- As sealed_tenant does: what follows would tell the status of a tenant that injected SQL chose, and hold its lock.
  select rowhouse.has_seal(s.required, s.inner_secret, s.outer_secret, v_tenant),
      t.lock_key,
      -- Anybody may set it, and only work_as can make what it has to be.
      current_setting('rowhouse.holds_tenant_lock', true) = rowhouse.seal_digest(s.inner_secret, s.outer_secret, v_tenant || ':lock')
    into v_believed, v_lock_key, v_holds_lock
    from rowhouse.seals s left join rowhouse.tenants t on t.tenant_id = v_tenant;
  if v_believed is not true then
    perform rowhouse.sealed_tenant();
  end if;
  v_status := rowhouse.lock_tenant_shared(v_tenant, v_lock_key);
  if v_status = 'active' then
    return null;
  end if;
  -- Triggers and foreign keys write while a tenant is erased or moved.
  if v_holds_lock and v_status <> 'erased' then
    return null;
  end if;
  -- Locked like other writes, so that a transaction that deletes first and inserts later is no deadlock for an erasure.
  -- What is deleted while the tenant is copied elsewhere would be there again.
  if tg_op = 'DELETE' and not rowhouse.tenant_is_moving(v_status) then
    return null;
  end if;
  perform rowhouse.check_tenant_status(v_tenant, v_status);
  return null;
end
$$;

comment on function rowhouse.guard_tenant_write() is
  'Statement trigger of every tenant table: a write takes the shared lock of its tenant and checks its status again, so that no row is written while or after the tenant is erased, whatever client wrote it.';

-- Part of every call that limits and budgets admit, so these two are without a search path of their own, which would take
-- a tenth of their time: they have that of their callers, the functions of rowhouse, and nobody else may execute them.
create or replace function rowhouse.begin_tenant_write(p_stands_alone boolean, p_waits boolean default true) returns bigint
  language plpgsql volatile
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_seal_required boolean;
  v_lock_key bigint;
  v_timeouts integer[];
begin
  select s.required, t.lock_key, case when p_stands_alone then t.timeouts end into v_seal_required, v_lock_key, v_timeouts
    from rowhouse.seals s left join rowhouse.tenants t on t.tenant_id = v_tenant;
  -- As in guard_tenant_write.
  if v_seal_required is not false then
    perform rowhouse.sealed_tenant();
  end if;
  -- A timeout of statements does not hold for the one that runs already; all that it waits for is locks.
  if v_timeouts is not null and current_setting('lock_timeout') = '0' then
    execute format('set local lock_timeout = %s', coalesce(least(v_timeouts[1], v_timeouts[2]), 0));
  end if;
  -- An expression, not a query of its own.
  return case
    when not p_waits then case when pg_try_advisory_xact_lock_shared(v_lock_key) then v_lock_key end
    when pg_advisory_xact_lock_shared(v_lock_key) is not null then v_lock_key end;
end
$$;

comment on function rowhouse.begin_tenant_write(boolean, boolean) is
  'The first half of enter_tenant_write: believes the transaction its tenant, takes the shared lock of the tenant, whose status is to be read after that, and returns its lock_key; null: unknown. p_stands_alone: rowhouse.enter may have been left out, so from here on the transaction waits for no lock longer than the timeouts of the tenant say. p_waits: false returns null instead of waiting.';

create or replace function rowhouse.check_tenant_write(p_lock_key bigint, p_statuses text[]) returns text
  language plpgsql volatile
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_status text;
  v_lock_key bigint;
begin
  -- A statement of its own: its snapshot is taken after the lock.
  if current_setting('transaction_isolation') = 'read committed' then
    select t.status, t.lock_key into v_status, v_lock_key
      from rowhouse.tenants t where t.tenant_id = v_tenant;
    if v_lock_key = p_lock_key and v_status = any (p_statuses) then
      return v_tenant;
    end if;
  end if;
  v_status := rowhouse.lock_tenant_shared(v_tenant, p_lock_key);
  if v_status is null or v_status <> all (p_statuses) then
    perform rowhouse.check_tenant_status(v_tenant, v_status);
  end if;
  return v_tenant;
end
$$;

comment on function rowhouse.check_tenant_write(bigint, text[]) is
  'The second half of enter_tenant_write: checks that the tenant may work, whose lock_key is locked, waits until its rows have been relocated, and returns the tenant. Raises what check_tenant_status raises.';

create or replace function rowhouse.enter_tenant_write(p_statuses text[] default '{active}') returns text
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  return rowhouse.check_tenant_write(rowhouse.begin_tenant_write(false), p_statuses);
end
$$;

comment on function rowhouse.enter_tenant_write(text[]) is
  'What guard_tenant_write does for a statement, once for a function that writes several tables which only functions write: waits for an erasure of the tenant, makes later ones wait, and checks that the tenant may work, which tenants of p_statuses may. Returns the tenant.';

create or replace function rowhouse.lock_on_entry() returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  -- What only reads waits for no promotion. In other isolation levels its snapshot would be older than the new
  -- partitions, and the rows of a promoted tenant may be on their way back, between two transactions.
  if current_setting('transaction_read_only') = 'off' or current_setting('transaction_isolation') <> 'read committed'
      or exists (select from rowhouse.tenants t where t.tenant_id = rowhouse.current_tenant() and t.partition_schema is not null) then
    perform rowhouse.enter_tenant_write();
  end if;
end
$$;

comment on function rowhouse.lock_on_entry() is
  'Takes the shared lock of the tenant when its transaction begins, while its rows are about to be moved to other partitions (locks_on_entry): it waits here, before it uses a table that the move wants alone.';

create or replace function rowhouse.roles_beyond_requests() returns name[]
  language plpgsql stable parallel restricted
  set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select coalesce(array_agg(r.rolname order by r.rolname), '{}')
      from pg_roles r
      where pg_has_role(session_user, r.oid, 'member')
        -- Who may create roles may, before PostgreSQL 16, also become any of them.
        and (r.rolsuper or r.rolbypassrls or r.rolcreaterole or r.rolname in ('rowhouse_owner', 'rowhouse_admin')
          or exists (
            select from rowhouse.protected_tables p join pg_class c on c.oid = p.relation where c.relowner = r.oid)));
end
$$;

comment on function rowhouse.roles_beyond_requests() is
  'The roles that the login of this session has or may become, set role or not, which could take the protection away: superusers, those that may create roles, owners of protected tables, rowhouse_owner, rowhouse_admin. SQL injected into a transaction could become them, too.';

-- The default of the parameter is evaluated where the function is called, so it is the caller's search path.
create or replace function rowhouse.startup_check(p_search_path name[] default current_schemas(true)) returns jsonb
  language plpgsql stable parallel restricted
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_result jsonb;
begin
  select jsonb_build_object('role', r.rolname, 'superuser', r.rolsuper, 'bypassrls', r.rolbypassrls)
    into v_result
    from pg_roles r
    where r.rolname = current_user;

  return v_result || (
    select jsonb_build_object(
      'sealed', rowhouse.seals_required(),
      'login', session_user,
      'beyond', rowhouse.roles_beyond_requests(),
      'version', (select max(f.version) from rowhouse.applied_functions f where f.file like 'functions/%'),
      'exposed', coalesce(jsonb_agg(format('%I.%I', n.nspname, c.relname) order by n.nspname, c.relname)
        filter (where not row_security_active(c.oid)), '[]'),
      'tenantTables', coalesce(jsonb_agg(jsonb_build_object(
        'schema', n.nspname,
        'table', c.relname,
        'column', p.tenant_column,
        'type', format_type(p.column_type, null),
        'visible', n.nspname = (
          select found.nspname
            from pg_class other
            join pg_namespace found on found.oid = other.relnamespace
            where other.relname = c.relname and found.nspname = any (p_search_path)
            order by array_position(p_search_path, found.nspname)
            limit 1) is true
        ) order by n.nspname, c.relname), '[]'))
      from rowhouse.protected_tables p
      join pg_class c on c.oid = p.relation
      join pg_namespace n on n.oid = c.relnamespace);
end
$$;

comment on function rowhouse.startup_check(name[]) is
  'What a client asks once for each pool, as the role that its transactions use: whether that role is subject to row-level security on every tenant table, and which tables those are.';

revoke execute on function
  rowhouse.raise_no_tenant(), rowhouse.raise_problem(text, text), rowhouse.check_tenant_status(text, text), rowhouse.check_tenant_id(text),
  rowhouse.tenant_is_here(text), rowhouse.tenant_is_moving(text), rowhouse.lock_tenant_shared(text, bigint),
  rowhouse.guard_tenant_write(), rowhouse.begin_tenant_write(boolean, boolean), rowhouse.check_tenant_write(bigint, text[]),
  rowhouse.enter_tenant_write(text[]), rowhouse.lock_on_entry(), rowhouse.enter_tenant(), rowhouse.refuse_tenant(text, text), rowhouse.set_caller(text, text),
  rowhouse.current_tenant(), rowhouse.require_tenant(), rowhouse.roles_beyond_requests(), rowhouse.startup_check(name[])
  from public;

-- Defaults call these with the rights of whoever runs the statement.
grant execute on function rowhouse.current_tenant(), rowhouse.require_tenant(), rowhouse.raise_no_tenant() to public;

-- Asked for when the trigger is created, not when it fires.
grant execute on function rowhouse.guard_tenant_write() to rowhouse_admin;

grant execute on function
  rowhouse.enter_tenant(), rowhouse.refuse_tenant(text, text), rowhouse.check_tenant_id(text),
  rowhouse.check_tenant_status(text, text), rowhouse.tenant_is_here(text), rowhouse.tenant_is_moving(text),
  rowhouse.lock_on_entry(), rowhouse.roles_beyond_requests(), rowhouse.startup_check(name[])
  to rowhouse_app, rowhouse_admin;
grant execute on function rowhouse.raise_problem(text, text), rowhouse.set_caller(text, text) to rowhouse_app;

revoke execute on procedure rowhouse.enter(bool, bool) from public;
grant execute on procedure rowhouse.enter(bool, bool) to rowhouse_app, rowhouse_admin;

grant select on rowhouse.protected_tables, rowhouse.applied_functions to rowhouse_app, rowhouse_admin;
