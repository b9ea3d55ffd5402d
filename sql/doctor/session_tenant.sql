-- name: session_tenant
-- level: warning
-- summary: A function sets app.tenant_id for longer than its transaction, or always to the same tenant.
-- ramification: The next request on a pooled connection works as the tenant of the one before.
-- resolution: set local app.tenant_id = ..., or set_config('app.tenant_id', ..., true).

select 'warning', format('%I.%I', n.nspname, p.proname), p.oid::regprocedure::text,
    case when f.is_fixed then 'its options set app.tenant_id, whoever calls it' else 'sets app.tenant_id for the whole session' end,
    case when f.is_fixed then format('alter function %s reset "app.tenant_id"', p.oid::regprocedure)
      else format('change %s: set local, or true as the last argument of set_config', p.oid::regprocedure) end
  from pg_proc p
  join pg_namespace n on n.oid = p.pronamespace
  cross join lateral (
    select exists (select from unnest(p.proconfig) s (setting) where s.setting like 'app.tenant\_id=%') as is_fixed,
      coalesce(pg_get_function_sqlbody(p.oid), p.prosrc) as source) f
  where n.nspname not in ('pg_catalog', 'information_schema', 'rowhouse')
    and (f.is_fixed
      or f.source ~* 'set_config\s*\(\s*''app\.tenant_id''[^;]*,\s*(false|''f(alse)?''(::boolean)?)\s*\)'
      or f.source ~* '\mset\s+(session\s+)?app\.tenant_id\M')
