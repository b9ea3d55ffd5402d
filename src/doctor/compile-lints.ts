import type { Lint } from './lint.ts'

/**
 * `rowhouse.doctor()`: the queries of all lints, one after the other, in one function. What the findings of
 * `protect_table` say is read once, for all lints that need it.
 */
export function compileLints(lints: readonly Lint[]): string {
  return `-- The lints of sql/doctor in one function; the last file, so what was applied is recorded with it.

create or replace function rowhouse.doctor(p_role name default 'rowhouse_app', p_shared regclass[] default '{}', p_files jsonb default null)
  returns table (name text, level text, title text, "table" text, object text, detail text, mend text, ramification text, resolution text, cache_key text)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
  set jit = off
as $doctor$
#variable_conflict use_column
declare
  v_protection jsonb;
begin
  select coalesce(jsonb_agg(jsonb_build_object('level', f.level, 'kind', f.kind, 'table', rowhouse.qualified_name(p.relation),
      'object', f.object, 'detail', f.detail, 'mend', f.mend)), '[]') into v_protection
    from rowhouse.protected_tables p
    cross join lateral rowhouse.protection_findings(p.relation, p.tenant_column) f;
${lints.map(compileLint).join('\n')}
end
$doctor$;

comment on function rowhouse.doctor(name, regclass[], jsonb) is
  'Lints of the database: one row for each finding. p_role: the role of requests; p_shared: tables that every tenant may read; p_files: checksums of the SQL files that should be applied.';

revoke execute on function rowhouse.doctor(name, regclass[], jsonb) from public;
grant execute on function rowhouse.doctor(name, regclass[], jsonb) to rowhouse_admin;

select rowhouse.record_objects();
`
}

function compileLint({ name, summary, ramification, resolution, query }: Lint): string {
  return `
  return query
    select ${literal(name)}, f.level::text, ${literal(summary)}, f."table"::text, f.object::text, f.detail::text, f.mend::text,
        ${literal(ramification)}, ${literal(resolution)}, format('%s:%s', ${literal(name)}, f.object)
      from (select distinct on (l.object) l.* from (
${query.replaceAll(/^(?=.)/gm, '        ')}
      ) l (level, "table", object, detail, mend) order by l.object, l."table") f;`
}

/** A constant, in a body that is quoted by dollars. */
function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'::text`
}
