-- name: outdated_schema
-- level: warning
-- summary: The database was migrated by another version of rowhouse than this one.
-- ramification: What this version relies on may not be there yet.
-- resolution: npx rowhouse migrate

select 'warning', null, coalesce(a.file, p.key), case when a.file is null then 'has not been applied' when p.key is null then 'is no part of this version' else 'was applied in another version' end,
    'npx rowhouse migrate'
  from jsonb_each_text(p_files) p
  full join rowhouse.applied_functions a on a.file = p.key
  where p_files is not null and p.value is distinct from a.checksum
