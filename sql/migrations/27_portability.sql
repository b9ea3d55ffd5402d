-- Where an import keeps rows that refer to each other, until all of them are there.
-- Depends on: 1_tenants.sql. Policies and privileges: sql/functions/tenant_import.sql.

-- Empty whenever no import runs, so nothing is lost in a crash.
create unlogged table rowhouse.import_lines (
  tenant_id text not null,
  relation regclass not null,
  line jsonb not null
);

create index import_lines_by_tenant on rowhouse.import_lines (tenant_id, relation);

comment on table rowhouse.import_lines is
  'Rows of an import that refer to rows of their own table, or of a circle of tables: written by one statement when all are there, in the same transaction. Empty otherwise.';
comment on column rowhouse.import_lines.tenant_id is 'The tenant that is imported.';
comment on column rowhouse.import_lines.relation is 'The table that the row goes to.';
comment on column rowhouse.import_lines.line is 'The values, as an archive has them.';
comment on index rowhouse.import_lines_by_tenant is 'Finds the rows of a table.';
