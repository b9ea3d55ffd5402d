-- name: key_without_tenant
-- level: error
-- summary: A primary key, unique key or exclusion of a tenant table does not contain the tenant.
-- ramification: A tenant sees, by a conflict or by waiting, that another one has the same value.
-- resolution: Begin the key with the tenant column.

select f.level, f."table", f.object, f.detail, f.mend
  from jsonb_to_recordset(v_protection) f (level text, kind text, "table" text, object text, detail text, mend text)
  where f.kind = 'key_without_tenant'
