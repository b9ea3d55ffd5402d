-- What must exist before the first numbered migration: roles, schema, and the two tables that remember what was applied.
--
-- Idempotent; rowhouse migrate runs it in one transaction, as the login that migrates, when something of it is missing
-- or this file changed. By hand: psql --single-transaction --file bootstrap.sql
-- Needs: CREATEROLE while a role is missing, the right to grant CREATE on the database. Never a superuser.
-- Proven by: test/migrate/bootstrap.test.ts, privileges.test.ts, concurrency.test.ts.

-- Roles belong to the whole server and are shared by all its databases, so another database may create them meanwhile:
-- migrate tries again on unique_violation and on "tuple concurrently updated".
do $$
declare
  v_role record;
begin
  for v_role in
    select * from (values
      ('rowhouse_owner', 'Owns the schema rowhouse and everything in it. Internal: nobody logs in as this role.'),
      ('rowhouse_app', 'Every request of the application. Subject to row-level security; owns nothing.'),
      ('rowhouse_admin', 'Operators: may execute the functions of the tenant lifecycle. Never sees two tenants at once.'),
      ('rowhouse_search', 'Full-text search: of each collection it sees the ids of what a search looks for, of the tenant of the transaction. Internal: nobody logs in as this role.')
    ) as r (name, description)
    where not exists (select from pg_catalog.pg_roles p where p.rolname = r.name)
  loop
    execute format('create role %I nologin', v_role.name);
    execute format('comment on role %I is %L', v_role.name, v_role.description);
  end loop;
end
$$;

-- The login that migrates works as rowhouse_owner, usually as the application too, and makes the function that belongs
-- to rowhouse_search. A superuser may do so anyway.
do $$
declare
  v_role text;
  -- From 16 on, a membership says by itself whether it may be inherited and used by set role.
  v_per_grant boolean := current_setting('server_version_num')::integer >= 160000;
begin
  foreach v_role in array array['rowhouse_owner', 'rowhouse_app', 'rowhouse_admin', 'rowhouse_search'] loop
    if not pg_has_role(current_user, v_role, case when v_per_grant then 'SET' else 'MEMBER' end) then
      execute format('grant %I to %I', v_role, current_user)
        -- What rowhouse_search does not see, its members would not see either.
        || case when v_per_grant then format(' with inherit %s, set true',
          case v_role when 'rowhouse_search' then 'false' else 'true' end) else '' end;
    end if;
  end loop;
end
$$;

-- The schemas of promoted tenants are made by functions that run as rowhouse_owner.
do $$
begin
  if not has_database_privilege('rowhouse_owner', current_database(), 'CREATE') then
    execute format('grant create on database %I to rowhouse_owner', current_database());
  end if;
end
$$;

-- Until the end of the transaction.
set local role rowhouse_owner;

create schema if not exists rowhouse;

comment on schema rowhouse is 'Multi-tenancy by row-level security: https://www.npmjs.com/package/rowhouse';

-- Column defaults and policies call functions of this schema as whichever role writes, so everybody may look names up
-- in it. What may be read or executed is granted object by object.
revoke all on schema rowhouse from public;
grant usage on schema rowhouse to public;

-- Functions are executable by everybody unless said otherwise; ours never are.
alter default privileges for role rowhouse_owner revoke execute on functions from public;

-- The table that postgres-migrations would create, made beforehand: it looks for a table of this name in any schema.
create table if not exists rowhouse.migrations (
  id integer primary key,
  name varchar(100) unique not null,
  hash varchar(40) not null,
  executed_at timestamp default current_timestamp
);

comment on table rowhouse.migrations is 'Numbered migrations that were applied; written by postgres-migrations.';
comment on column rowhouse.migrations.id is 'Number at the start of the file name; 0 is the table itself.';
comment on column rowhouse.migrations.name is 'Rest of the file name.';
comment on column rowhouse.migrations.hash is 'SHA-1 of file name and content: an applied migration never changes.';
comment on column rowhouse.migrations.executed_at is 'When it was applied.';

create table if not exists rowhouse.applied_functions (
  file text primary key,
  checksum text not null,
  applied_at timestamptz not null default now(),
  version text not null
);

comment on table rowhouse.applied_functions is
  'Re-creatable files (functions, views, policies, this bootstrap) as last applied; all are applied again when one changed.';
comment on column rowhouse.applied_functions.file is 'Path of the file below the folder sql of the package.';
comment on column rowhouse.applied_functions.checksum is 'SHA-256 of its content.';
comment on column rowhouse.applied_functions.applied_at is 'When it was last applied.';
comment on column rowhouse.applied_functions.version is 'Version of the package that applied it.';
