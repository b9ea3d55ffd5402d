-- name: permissive_policy
-- level: warning
-- summary: A tenant table has a permissive policy of somebody else.
-- ramification: Permissive policies are joined by OR: without rowhouse_isolation this one would open the table to other tenants.
-- resolution: Drop it, or make it restrictive.

select f.level, f."table", f.object, f.detail, f.mend
  from jsonb_to_recordset(v_protection) f (level text, kind text, "table" text, object text, detail text, mend text)
  where f.kind = 'permissive_policy'
