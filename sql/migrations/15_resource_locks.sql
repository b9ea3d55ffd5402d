-- Locks that a tenant's processes hold on resources of their own, for a lease.
-- Policies and privileges: sql/functions/resource_locks.sql.

create table rowhouse.resource_locks (
  tenant_id text not null,
  name text collate "C" not null constraint resource_locks_name_length check (length(name) between 1 and 512),
  holder uuid not null,
  token bigint not null,
  acquired_at timestamptz not null,
  expires_at timestamptz not null,
  primary key (tenant_id, name)
);

comment on table rowhouse.resource_locks is
  'Locks with a lease. The row of a released lock stays a while, so that tokens of its name keep growing.';
comment on column rowhouse.resource_locks.tenant_id is 'The tenant whose lock it is.';
comment on column rowhouse.resource_locks.name is 'What is locked, as the application names it.';
comment on column rowhouse.resource_locks.holder is 'Random; who knows it holds the lock.';
comment on column rowhouse.resource_locks.token is 'Fencing token: larger each time the lock changes hands.';
comment on column rowhouse.resource_locks.acquired_at is 'When the last holder got it.';
comment on column rowhouse.resource_locks.expires_at is 'When the lease ends, or ended.';
