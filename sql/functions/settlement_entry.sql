-- Who may settle: also a tenant that was suspended while a call was at work, because the money is spent.
--
-- Functions that settle let such a tenant in. Where the transaction is entered before them, with a proof or in one of
-- several databases, it says that it only settles or gives back (rowhouse.settles), and enter_tenant lets it in all the
-- same; that opens nothing, for what it may write is decided by the functions. A tenant can only settle what was admitted before,
-- and add to its audit trail what happened before (append_late_audit).
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

revoke execute on function rowhouse.settles(text) from public;
grant execute on function rowhouse.settles(text) to rowhouse_app, rowhouse_admin;
