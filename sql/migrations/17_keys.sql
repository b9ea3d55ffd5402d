-- API keys of tenants.
-- Depends on: 1_tenants.sql. Policies and privileges: sql/functions/keys.sql, protected_tables.sql.

create table rowhouse.api_keys (
  tenant_id text not null,
  key_id text not null constraint api_keys_key_id_format check (key_id ~ '^[0-9a-f]{16}$'),
  name text not null constraint api_keys_name_length check (length(name) between 1 and 200),
  secret_digest bytea not null constraint api_keys_secret_digest_length check (octet_length(secret_digest) = 32),
  environment text not null constraint api_keys_environment_known check (environment in ('live', 'test')),
  scopes text[] not null constraint api_keys_scopes_count check (cardinality(scopes) <= 100),
  allowed_ips cidr[] constraint api_keys_allowed_ips_count check (cardinality(allowed_ips) between 1 and 100),
  created_at timestamptz not null default now(),
  expires_at timestamptz,
  last_used_at timestamptz,
  revoked_at timestamptz,
  replaced_by text,
  primary key (tenant_id, key_id),
  foreign key (tenant_id, replaced_by) references rowhouse.api_keys on delete cascade
);

comment on table rowhouse.api_keys is
  'One row for each API key. The secret is not here: only its digest, of 256 random bits, which nobody finds by trying.';
comment on column rowhouse.api_keys.tenant_id is 'The tenant that the key belongs to.';
comment on column rowhouse.api_keys.key_id is 'The public part of the key: 16 hexadecimal digits.';
comment on column rowhouse.api_keys.name is 'Name for people.';
comment on column rowhouse.api_keys.secret_digest is 'SHA-256 of the secret part of the key.';
comment on column rowhouse.api_keys.environment is 'live or test.';
comment on column rowhouse.api_keys.scopes is 'What the key may do, for example documents:read, documents:* or *.';
comment on column rowhouse.api_keys.allowed_ips is 'Networks from which the key may be used; null: from everywhere.';
comment on column rowhouse.api_keys.created_at is 'When the key was issued.';
comment on column rowhouse.api_keys.expires_at is 'From when on the key is refused; null: never.';
comment on column rowhouse.api_keys.last_used_at is 'When the key was last used, to the minute.';
comment on column rowhouse.api_keys.revoked_at is 'When the key was revoked; null while it is not.';
comment on column rowhouse.api_keys.replaced_by is 'The key that took its place in a rotation.';

-- Unlogged: after a crash of the server, guessers begin anew.
create unlogged table rowhouse.key_guesses (
  source bytea primary key constraint key_guesses_source_length check (octet_length(source) = 32),
  attempts integer not null,
  ends_at timestamptz not null
);

create index key_guesses_ends_at on rowhouse.key_guesses (ends_at);

alter table rowhouse.key_guesses enable row level security;
alter table rowhouse.key_guesses force row level security;

comment on table rowhouse.key_guesses is
  'Guessed API keys of the last minute, by where they came from and the tenant that they claimed, whether it exists or not.';
comment on column rowhouse.key_guesses.source is 'SHA-256 of the claimed tenant and the address, or the key where no address is known.';
comment on column rowhouse.key_guesses.attempts is 'Refusals since the first one of this minute.';
comment on column rowhouse.key_guesses.ends_at is 'A minute after the first of them.';
