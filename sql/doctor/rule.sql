-- name: rule
-- level: warning
-- summary: A tenant table has a rewrite rule.
-- ramification: It rewrites statements before policies are applied.
-- resolution: Use a trigger in its place.

select f.level, f."table", f.object, f.detail, f.mend
  from jsonb_to_recordset(v_protection) f (level text, kind text, "table" text, object text, detail text, mend text)
  where f.kind = 'rule'
