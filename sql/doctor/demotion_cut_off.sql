-- name: demotion_cut_off
-- level: error
-- summary: The demotion of a tenant has not gone on for 10 minutes.
-- ramification: The tenant is closed (status relocating, RH033): its rows are kept, some in detached partitions, some in the shared ones.
-- resolution: npx rowhouse tenant demote <tenant>

select 'error', 'rowhouse.tenants', format('tenant %s', t.tenant_id), 'is closed: whoever demotes it has not been at work since '
      || to_char(t.updated_at at time zone 'utc', 'YYYY-MM-DD HH24:MI "UTC"'),
    format('npx rowhouse tenant demote %s', t.tenant_id)
  from rowhouse.tenants t
  where t.status = 'relocating' and t.updated_at < statement_timestamp() - interval '10 minutes'
