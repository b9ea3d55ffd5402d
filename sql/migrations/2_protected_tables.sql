-- The registry of tables that hold rows of tenants, and of those that were looked at and don't.
-- Depends on: 1_tenants.sql. Policies and privileges: sql/functions/protect.sql.

create table rowhouse.protected_tables (
  relation regclass primary key,
  tenant_column name not null,
  column_type regtype not null,
  layout text not null default 'plain' constraint protected_tables_layout_known check (layout in ('plain', 'partitioned')),
  protected_at timestamptz not null default now()
);

comment on table rowhouse.protected_tables is
  'Tables whose rows belong to tenants: what policies, erasure, promotion and the automatic predicate work on. Written by protect_table.';
comment on column rowhouse.protected_tables.relation is 'The table, or the root of a partitioned table.';
comment on column rowhouse.protected_tables.tenant_column is 'Column that holds the tenant id.';
comment on column rowhouse.protected_tables.column_type is 'Type of that column: text, character varying, uuid, integer or bigint.';
comment on column rowhouse.protected_tables.layout is
  'plain: as its owner made it. partitioned: list partitions by tenant over hash partitions, laid out by rowhouse.';
comment on column rowhouse.protected_tables.protected_at is 'When the table was first protected.';

create table rowhouse.exempt_tables (
  relation regclass primary key,
  reason text not null constraint exempt_tables_reason_length check (length(reason) between 1 and 500),
  exempted_at timestamptz not null default now()
);

comment on table rowhouse.exempt_tables is
  'Tables that look as if they held rows of tenants (they have a tenant column) and that an operator declared not to. Erasure skips them and says so in its receipt.';
comment on column rowhouse.exempt_tables.relation is 'The table.';
comment on column rowhouse.exempt_tables.reason is 'Why its rows outlive a tenant.';
comment on column rowhouse.exempt_tables.exempted_at is 'When it was exempted.';
