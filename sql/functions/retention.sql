-- Retention: how long data of a tenant is kept after its last use.
--
-- Depends on: rowhouse.tenants, context.sql. Proven by: test/sweep/retention.test.ts.

create or replace function rowhouse.retention_days(p_what text) returns integer
  language plpgsql stable parallel restricted
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_tier text;
  v_days jsonb;
begin
  select t.tier, t.settings -> 'retentionDays' -> p_what into v_tier, v_days
    from rowhouse.tenants t where t.tenant_id = v_tenant;
  if jsonb_typeof(v_days) = 'number' and v_days::numeric between 1 and 36500 then
    return floor(v_days::numeric);
  end if;
  return case v_tier when 'free' then 30 when 'enterprise' then 365 else 90 end;
end
$$;

comment on function rowhouse.retention_days(text) is
  'How many days the tenant keeps this kind of data, for example sessions: what the object retentionDays of its settings says (1 to 36500), else 30 in the tier free, 365 in enterprise, 90 in others.';

revoke execute on function rowhouse.retention_days(text) from public;
grant execute on function rowhouse.retention_days(text) to rowhouse_app;
