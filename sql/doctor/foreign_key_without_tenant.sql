-- name: foreign_key_without_tenant
-- level: error
-- summary: A foreign key between tenant tables does not contain the tenant.
-- ramification: Foreign keys are checked without policies: they tell whether a row of another tenant exists, and a cascade changes it.
-- resolution: Let the foreign key contain the tenant column, on both sides.

select f.level, f."table", f.object, f.detail, f.mend
  from jsonb_to_recordset(v_protection) f (level text, kind text, "table" text, object text, detail text, mend text)
  where f.kind = 'foreign_key_without_tenant'
