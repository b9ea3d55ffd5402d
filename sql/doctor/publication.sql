-- name: publication
-- level: warning
-- summary: A publication carries a tenant table.
-- ramification: Subscribers receive the rows of every tenant: row-level security does not hold for the stream of changes.
-- resolution: Take the table out of the publication, or filter its rows.

select f.level, f."table", f.object, f.detail, f.mend
  from jsonb_to_recordset(v_protection) f (level text, kind text, "table" text, object text, detail text, mend text)
  where f.kind = 'publication'
