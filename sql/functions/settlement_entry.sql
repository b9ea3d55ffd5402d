-- Who may settle: also a tenant that was suspended while a call was at work, because the money is spent.
--
-- The same holds for what a provider bills late (record_usage), for rollups, and for reading the books: what a suspended
-- tenant used is billed. Operators change its limits, so that a runaway tenant is not resumed with those that it had.
-- Functions that settle let such a tenant in. Where the transaction is entered before them, with a proof or in one of
-- several databases, it says that it only settles or gives back (rowhouse.settles), and enter_tenant lets it in all the
-- same; that opens nothing, for what it may write is decided by the functions. A tenant can only settle
-- what was admitted before, record what it used, and add to its audit trail what happened before (append_late_audit).
-- Depends on: context.sql. Proven by: test/budgets/suspended.test.ts, test/audit/buffer.test.ts.

create or replace function rowhouse.settles(p_status text) returns boolean
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return p_status in ('suspended', 'inactive') and current_setting('rowhouse.settles', true) = 'on';
end
$$;

comment on function rowhouse.settles(text) is
  'Whether the transaction said that it only settles calls or records what happened, and a tenant of this status may.';

create or replace function rowhouse.work_for_operator(p_tenant text) returns text[]
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_before text[];
begin
  perform rowhouse.check_tenant_id(p_tenant);
  v_before := rowhouse.work_as(p_tenant, false);
  -- Waits for an erasure or a move of the tenant, and keeps others from beginning one before the transaction ends, so the
  -- write guard needs not ask again.
  perform rowhouse.enter_tenant_write('{active,suspended,inactive}');
  perform rowhouse.work_as(p_tenant, true);
  return v_before;
end
$$;

comment on function rowhouse.work_for_operator(text) is
  'Makes the transaction work for this tenant, suspended or not, until end_work is called with what this returns: for the limits that operators set. Raises RH002, RH004, RH006, RH033, RH034.';

revoke execute on function rowhouse.settles(text), rowhouse.work_for_operator(text) from public;
grant execute on function rowhouse.settles(text) to rowhouse_app, rowhouse_admin;
