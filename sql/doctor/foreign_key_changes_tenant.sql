-- name: foreign_key_changes_tenant
-- level: warning
-- summary: The action of a foreign key would empty or change the tenant of a row.
-- ramification: It fails whenever it has something to do.
-- resolution: Let it restrict or cascade, or name the columns: on delete set null (column).

select f.level, f."table", f.object, f.detail, f.mend
  from jsonb_to_recordset(v_protection) f (level text, kind text, "table" text, object text, detail text, mend text)
  where f.kind = 'foreign_key_changes_tenant'
