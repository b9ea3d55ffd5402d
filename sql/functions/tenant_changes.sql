-- Tenant changes: tells processes that remember which tenants may work when one of them may not any more.
--
-- Only a hint: every transaction asks the registry itself. Notifications reach whoever listens and may be sent by anybody,
-- so the payload is a digest of the id, and hearing it does nothing but look again.
-- Depends on: rowhouse.tenants. Proven by: test/http/tenant-changes.test.ts.

create or replace function rowhouse.announce_tenant_change() returns trigger
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform pg_notify('rowhouse_tenants', left(encode(sha256(convert_to(new.tenant_id, 'UTF8')), 'hex'), 32));
  return null;
end
$$;

comment on function rowhouse.announce_tenant_change() is
  'Trigger of the registry: notifies the channel rowhouse_tenants that the status of a tenant changed, by a digest of its id.';

create or replace trigger rowhouse_announce after update on rowhouse.tenants
  for each row when (new.status <> old.status) execute function rowhouse.announce_tenant_change();

revoke execute on function rowhouse.announce_tenant_change() from public;
