-- The registry of tenants.
-- Depends on: sql/bootstrap.sql (roles, schema). Policies and privileges: sql/functions/tenants.sql.

create domain rowhouse.tenant_id as text
  constraint tenant_id_format check (value ~ '^[a-zA-Z0-9_-]{1,64}$');

comment on domain rowhouse.tenant_id is
  'Id of a tenant: 1 to 64 letters, digits, underscores or hyphens.';

create table rowhouse.tenants (
  tenant_id rowhouse.tenant_id primary key,
  name text not null constraint tenants_name_length check (length(name) between 1 and 200),
  status text not null default 'active'
    constraint tenants_status_known check (status in ('active', 'suspended', 'inactive', 'relocating', 'importing', 'moving', 'moved', 'erasing', 'erased')),
  tier text not null default 'free' constraint tenants_tier_format check (tier ~ '^[a-z][a-z0-9_-]{0,31}$'),
  settings jsonb not null default '{}' constraint tenants_settings_object check (jsonb_typeof(settings) = 'object'),
  -- Writers of a tenant share this advisory lock, erasure and promotion take it alone. It is random, so that nobody can
  -- compute the key of another tenant and hold it.
  lock_key bigint not null default ('x' || substr(replace(gen_random_uuid()::text, '-', ''), 1, 16))::bit(64)::bigint
    constraint tenants_lock_key_unique unique,
  partition_schema name constraint tenants_partition_schema_unique unique,
  own_timeouts integer[] constraint tenants_own_timeouts_three check (array_length(own_timeouts, 1) = 3),
  timeouts integer[],
  locks_on_entry boolean not null default false,
  placement text constraint tenants_placement_format check (placement ~ '^[a-z][a-z0-9_-]{0,62}$'),
  status_before text,
  status_reason text constraint tenants_status_reason_length check (length(status_reason) <= 500),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  erased_at timestamptz,
  constraint tenants_erased_at_matches check ((status = 'erased') = (erased_at is not null)),
  constraint tenants_placement_present check (placement is not null or status not in ('moving', 'moved'))
);

comment on table rowhouse.tenants is
  'One row for each tenant. A tenant sees its own row; operators see all. The row of an erased tenant stays, emptied, so that its id is never used again.';
comment on column rowhouse.tenants.tenant_id is 'Id, chosen by the application; never changes, never used twice.';
comment on column rowhouse.tenants.name is 'Name for people.';
comment on column rowhouse.tenants.status is
  'active: may work. suspended, inactive: may not enter. relocating: its rows are on their way back to the shared partitions. importing: its rows are not all here yet. moving: its rows are being copied to another database. moved: they are there. erasing: an erasure has begun. erased: nothing is left but this row.';
comment on column rowhouse.tenants.locks_on_entry is
  'Whether transactions take the lock of the tenant when they begin, because its rows are about to be moved to other partitions: then none of them waits for it later, with a table in hand.';
comment on column rowhouse.tenants.placement is
  'The database that the tenant moves or moved to, as the applications name it; null: it is here.';
comment on column rowhouse.tenants.tier is 'Price tier, chooses defaults such as limits.';
comment on column rowhouse.tenants.settings is 'Configuration of the tenant, a JSON object.';
comment on column rowhouse.tenants.lock_key is
  'Random key of the advisory lock that makes writers wait for erasure and promotion, and the other way around.';
comment on column rowhouse.tenants.partition_schema is
  'Schema that holds the partitions of a promoted tenant; null while the tenant shares the hash partitions.';
comment on column rowhouse.tenants.own_timeouts is
  'Timeouts in place of those of the tier, in milliseconds: of a statement, of a lock, idle in a transaction; null: those of the tier.';
comment on column rowhouse.tenants.timeouts is
  'The timeouts that hold, for enter_tenant; null: none of its own or of its tier. Kept up to date by sql/functions/timeouts.sql.';
comment on column rowhouse.tenants.status_before is
  'While the tenant moves, and until its rows are erased here: the status that it had before. While it is relocating: the one that it has afterwards.';
comment on column rowhouse.tenants.status_reason is 'Why the tenant has its status, for operators.';
comment on column rowhouse.tenants.created_at is 'When the tenant was provisioned.';
comment on column rowhouse.tenants.updated_at is 'When this row last changed.';
comment on column rowhouse.tenants.erased_at is 'When the erasure was committed.';

create table rowhouse.tier_timeouts (
  tier text primary key constraint tier_timeouts_tier_format check (tier ~ '^([a-z][a-z0-9_-]{0,31}|\*)$'),
  timeouts integer[] not null constraint tier_timeouts_three check (array_length(timeouts, 1) = 3)
);

comment on table rowhouse.tier_timeouts is 'Timeouts of the transactions of tenants of a tier. Holds no data of tenants.';
comment on column rowhouse.tier_timeouts.tier is 'The tier; * stands for tiers that have no row.';
comment on column rowhouse.tier_timeouts.timeouts is
  'In milliseconds: of a statement, of waiting for a lock, of being idle in a transaction; null: that of the server.';

-- The tenant of a deployment that has only one.
insert into rowhouse.tenants (tenant_id, name) values ('default', 'default');
