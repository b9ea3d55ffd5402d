-- name: extended_statistics
-- level: info
-- summary: Extended statistics of a tenant table hold values of all tenants.
-- ramification: They are in one row of a system table, without row-level security, and stay there until the next analyze, also after a tenant was erased. An error where the role of requests can read them.
-- resolution: Drop them, or let them hold no values: kinds ndistinct and dependencies.

select case when h.how is null then 'info' else 'error' end, t.relation_name, format('statistics %I.%I', n.nspname, s.stxname),
    format('hold values of %s', t.relation_name) || coalesce(format('; %s reads them: %s', p_role, h.how), ''),
    format('drop statistics %I.%I', n.nspname, s.stxname)
  from rowhouse.tenant_relations() t
  join pg_statistic_ext s on s.stxrelid = t.relation and s.stxkind && array['m', 'e']::"char"[]
  join pg_namespace n on n.oid = s.stxnamespace
  cross join lateral (
    select case
        when has_any_column_privilege(p_role, 'pg_statistic_ext_data', 'select') then 'in pg_statistic_ext_data'
        when pg_has_role(p_role, s.stxowner, 'usage') then 'as a member of their owner'
        when pg_get_viewdef('pg_stats_ext'::regclass) !~ 'pg_has_role' then 'in pg_stats_ext, which lacks a fix'
      end) h (how)
