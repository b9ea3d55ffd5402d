-- name: view_of_owner
-- level: warning
-- summary: A view reads a tenant table with the rights of its owner.
-- ramification: Row-level security is that of the owner: for a superuser, or a role with BYPASSRLS, the view shows the rows of all tenants (then it is an error).
-- resolution: Let it run with the rights of its caller: alter view ... set (security_invoker = true).

select f.level, f."table", f.object, f.detail, f.mend
  from jsonb_to_recordset(v_protection) f (level text, kind text, "table" text, object text, detail text, mend text)
  where f.kind = 'view_of_owner'
