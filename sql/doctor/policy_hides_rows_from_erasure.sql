-- name: policy_hides_rows_from_erasure
-- level: error
-- summary: A policy hides rows of a tenant from its erasure.
-- ramification: The tenant can't be erased: the erasure is refused, so that nothing stays behind unseen.
-- resolution: Let the policy hold for the role of requests only.

select f.level, f."table", f.object, f.detail, f.mend
  from jsonb_to_recordset(v_protection) f (level text, kind text, "table" text, object text, detail text, mend text)
  where f.kind = 'policy_hides_rows_from_erasure'
