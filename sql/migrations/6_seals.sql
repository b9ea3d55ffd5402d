-- Seals: whether a tenant is believed only with a proof, and the keys that proofs are checked with.
-- Depends on: sql/bootstrap.sql. Policies, privileges and functions: sql/functions/context_seals.sql.

create table rowhouse.seals (
  singleton boolean primary key default true constraint seals_singleton check (singleton),
  required boolean not null default false,
  -- Each half of the secret is made of 122 random bits of each of two uuids.
  inner_secret bytea not null default sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())),
  outer_secret bytea not null default sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
);

comment on table rowhouse.seals is
  'One row: whether transactions must prove their tenant, and the secret of this database that seals them. Only functions of rowhouse read it.';
comment on column rowhouse.seals.singleton is 'Always true: there is one row.';
comment on column rowhouse.seals.required is 'Whether policies believe app.tenant_id only with a seal.';
comment on column rowhouse.seals.inner_secret is 'First key of the nested digest that seals a transaction; never leaves the database.';
comment on column rowhouse.seals.outer_secret is 'Second key of it.';

insert into rowhouse.seals default values;

create table rowhouse.seal_keys (
  key_id text primary key constraint seal_keys_key_id_format check (key_id ~ '^[0-9a-f]{16}$'),
  inner_pad bytea not null,
  outer_pad bytea not null,
  added_at timestamptz not null default now()
);

comment on table rowhouse.seal_keys is
  'Keys with which applications prove which tenant a transaction works for. Several may be valid, for rotation. Only functions of rowhouse read it.';
comment on column rowhouse.seal_keys.key_id is 'First 16 digits of the SHA-256 of the key, in hexadecimal.';
comment on column rowhouse.seal_keys.inner_pad is 'The key XOR 0x36, as HMAC needs it.';
comment on column rowhouse.seal_keys.outer_pad is 'The key XOR 0x5c, as HMAC needs it.';
comment on column rowhouse.seal_keys.added_at is 'When the key was added.';
