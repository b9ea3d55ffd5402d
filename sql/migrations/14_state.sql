-- State: values of a tenant under keys, some of which expire.
-- Policies and privileges: sql/functions/state.sql.

create table rowhouse.state (
  tenant_id text not null,
  key text collate "C" not null constraint state_key_length check (length(key) between 1 and 512),
  value jsonb not null constraint state_value_size check (octet_length(value::text) <= 1048576),
  expires_at timestamptz,
  updated_at timestamptz not null default now(),
  primary key (tenant_id, key)
);

create index state_by_expiry on rowhouse.state (tenant_id, expires_at) where expires_at is not null;

comment on table rowhouse.state is 'Values of tenants under keys. Expired ones are out of sight until they are swept.';
comment on column rowhouse.state.tenant_id is 'The tenant that owns the value.';
comment on column rowhouse.state.key is 'Key within the tenant; compared byte by byte.';
comment on column rowhouse.state.value is 'Any JSON value.';
comment on column rowhouse.state.expires_at is 'From when on it does not exist any more; null is never.';
comment on column rowhouse.state.updated_at is 'When it was last set.';
comment on index rowhouse.state_by_expiry is 'Finds values that expired.';
