-- The tenant tables of rowhouse itself: under the same protection as those of the application.
--
-- After protect_table, which grants the application the rows of its tenant, each table keeps only what its module allows.
-- Depends on: protect.sql (files are applied in the order of their names). Proven by: test/isolation/coverage.test.ts.

-- Written by append_audit alone.
select rowhouse.protect_table('rowhouse.audit_entries');
revoke insert, update, delete on rowhouse.audit_entries from rowhouse_app;

-- What happens to a tenant is recorded whatever its status is (record_audit).
create or replace trigger rowhouse_guard before insert or update or delete on rowhouse.audit_entries
  for each statement when (current_setting('rowhouse.audits_lifecycle', true) is distinct from 'on')
  execute function rowhouse.guard_tenant_write();

-- Written by record_denial alone, which does the work of the write guard itself.
select rowhouse.protect_table('rowhouse.denials');
revoke insert, update, delete on rowhouse.denials from rowhouse_app;
drop trigger rowhouse_guard on rowhouse.denials;

-- Digests are for authenticate_api_key alone. Operators issue and revoke keys of tenants that may not work, so its
-- functions hold the tenant (hold_tenant) instead of passing the guard.
select rowhouse.protect_table('rowhouse.api_keys');
revoke select, insert, update, delete on rowhouse.api_keys from rowhouse_app;
drop trigger rowhouse_guard on rowhouse.api_keys;

-- Read as they are, which is encrypted; written by functions that record it.
select rowhouse.protect_table('rowhouse.credential_keys');
select rowhouse.protect_table('rowhouse.credentials');
revoke insert, update, delete on rowhouse.credential_keys, rowhouse.credentials from rowhouse_app;

-- Updated when a master key is rotated only: by operators, for suspended tenants too (hold_tenant).
create or replace trigger rowhouse_guard before insert or delete on rowhouse.credential_keys
  for each statement execute function rowhouse.guard_tenant_write();

-- Recorded once and never changed.
select rowhouse.protect_table('rowhouse.analytics_events');
revoke update on rowhouse.analytics_events from rowhouse_app;

-- Read and written under the policies.
select rowhouse.protect_table('rowhouse.jobs');
select rowhouse.protect_table('rowhouse.job_steps');
