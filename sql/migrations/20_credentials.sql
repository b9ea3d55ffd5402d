-- Credentials of tenants: encrypted by the application, so that nothing here can be read without its master key.
-- Depends on: 1_tenants.sql. Policies and privileges: sql/functions/credentials.sql, protected_tables.sql.

create table rowhouse.credential_keys (
  tenant_id text not null,
  key_version bigint not null constraint credential_keys_version_range check (key_version > 0),
  master_key_id text not null constraint credential_keys_master_key_id_length check (length(master_key_id) between 1 and 500),
  wrapped_key bytea not null constraint credential_keys_wrapped_key_length check (octet_length(wrapped_key) between 32 and 10000),
  created_at timestamptz not null default now(),
  primary key (tenant_id, key_version)
);

comment on table rowhouse.credential_keys is
  'The data keys of each tenant, encrypted by a master key that the database never sees. An erasure deletes them: what was encrypted with them is lost, wherever a copy is.';
comment on column rowhouse.credential_keys.tenant_id is 'The tenant.';
comment on column rowhouse.credential_keys.key_version is 'Number of the data key, from 1; the highest one encrypts.';
comment on column rowhouse.credential_keys.master_key_id is 'Which master key encrypted it.';
comment on column rowhouse.credential_keys.wrapped_key is 'The data key, encrypted.';
comment on column rowhouse.credential_keys.created_at is 'When it was made.';

create table rowhouse.credentials (
  tenant_id text not null,
  name text not null constraint credentials_name_format check (name ~ '^[a-zA-Z0-9][a-zA-Z0-9_.:/-]{0,199}$'),
  key_version bigint not null,
  sealed bytea not null constraint credentials_sealed_length check (octet_length(sealed) between 28 and 65564),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (tenant_id, name),
  foreign key (tenant_id, key_version) references rowhouse.credential_keys on delete restrict
);

comment on table rowhouse.credentials is 'Credentials of tenants for other services, encrypted (AES-256-GCM) by the data key of the tenant.';
comment on column rowhouse.credentials.tenant_id is 'The tenant.';
comment on column rowhouse.credentials.name is 'Name within the tenant, for example openai/api-key.';
comment on column rowhouse.credentials.key_version is 'The data key that encrypted it.';
comment on column rowhouse.credentials.sealed is '12 bytes of nonce, the encrypted value, 16 bytes of tag. Bound to tenant, name and key version.';
comment on column rowhouse.credentials.created_at is 'When a credential of this name was first stored.';
comment on column rowhouse.credentials.updated_at is 'When its value was last stored.';
