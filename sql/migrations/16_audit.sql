-- The audit trail: entries that are only ever added, and the chain that proves it.
-- Depends on: 1_tenants.sql. Policies and privileges: sql/functions/audit.sql, audit_chain.sql, protected_tables.sql.

create table rowhouse.audit_entries (
  tenant_id text not null,
  entry_id uuid not null,
  recorded_at timestamptz not null default clock_timestamp(),
  occurred_at timestamptz not null default clock_timestamp(),
  login name not null default session_user,
  user_id text constraint audit_entries_user_id_length check (length(user_id) <= 200),
  request_id text constraint audit_entries_request_id_length check (length(request_id) <= 200),
  action text not null constraint audit_entries_action_format check (action ~ '^[a-z][a-z0-9_.:-]{0,99}$'),
  model text constraint audit_entries_model_length check (length(model) <= 200),
  input_tokens bigint constraint audit_entries_input_tokens_range check (input_tokens >= 0),
  output_tokens bigint constraint audit_entries_output_tokens_range check (output_tokens >= 0),
  cost numeric constraint audit_entries_cost_finite check (cost < 'infinity' and cost > '-infinity'),
  documents text[] constraint audit_entries_documents_count check (cardinality(documents) <= 1000),
  latency_ms bigint constraint audit_entries_latency_range check (latency_ms >= 0),
  error text constraint audit_entries_error_length check (length(error) <= 4000),
  detail jsonb not null default '{}'
    constraint audit_entries_detail_object check (jsonb_typeof(detail) = 'object' and octet_length(detail::text) <= 262144),
  salt uuid not null default gen_random_uuid(),
  -- Ids are ordered by time, so this index is also the order in which a tenant reads its trail.
  primary key (tenant_id, entry_id)
);

comment on table rowhouse.audit_entries is
  'What happened to a tenant: one row for each entry, never changed. Not partitioned: suspending a tenant writes here while a promotion moves its partitions.';
comment on column rowhouse.audit_entries.tenant_id is 'The tenant.';
comment on column rowhouse.audit_entries.entry_id is 'Id, ordered by time (UUID version 7).';
comment on column rowhouse.audit_entries.recorded_at is 'When the database wrote the entry.';
comment on column rowhouse.audit_entries.occurred_at is 'When it happened, as the application says.';
comment on column rowhouse.audit_entries.login is 'The login that wrote it.';
comment on column rowhouse.audit_entries.user_id is 'Who acted: app.user_id, unless the entry says otherwise.';
comment on column rowhouse.audit_entries.request_id is 'In which request: app.request_id, unless the entry says otherwise.';
comment on column rowhouse.audit_entries.action is 'What was done, for example chat.respond. Names that begin with rowhouse. are those of rowhouse itself.';
comment on column rowhouse.audit_entries.model is 'The model that answered.';
comment on column rowhouse.audit_entries.input_tokens is 'Tokens that the model read.';
comment on column rowhouse.audit_entries.output_tokens is 'Tokens that the model wrote.';
comment on column rowhouse.audit_entries.cost is 'What it cost, in the currency of the application''s prices.';
comment on column rowhouse.audit_entries.documents is 'Ids of the documents that were read for it.';
comment on column rowhouse.audit_entries.latency_ms is 'How long it took, in milliseconds.';
comment on column rowhouse.audit_entries.error is 'Why it failed; null when it did not.';
comment on column rowhouse.audit_entries.detail is 'Everything else, a JSON object of up to 256 KB.';
comment on column rowhouse.audit_entries.salt is
  'Random, part of the commitment: when the row is gone, nobody can find its content by trying.';

create table rowhouse.audit_pending (
  tenant_id text not null,
  entry_id uuid not null,
  commitment bytea not null constraint audit_pending_commitment_length check (octet_length(commitment) = 32),
  primary key (tenant_id, entry_id)
);

comment on table rowhouse.audit_pending is 'Entries that no segment holds yet. Appends write here, so that none waits for another; seal_audit empties it.';
comment on column rowhouse.audit_pending.tenant_id is 'The tenant.';
comment on column rowhouse.audit_pending.entry_id is 'The entry.';
comment on column rowhouse.audit_pending.commitment is 'SHA-256 over salt and content of the entry.';

create table rowhouse.audit_segments (
  tenant_id text not null,
  segment_number bigint not null,
  first_position bigint not null,
  entry_ids uuid[] not null,
  commitments bytea[] not null,
  purged_through bigint,
  sealed_at timestamptz not null,
  digest bytea not null constraint audit_segments_digest_length check (octet_length(digest) = 32),
  primary key (tenant_id, segment_number),
  constraint audit_segments_purge_is_past check (purged_through < segment_number),
  constraint audit_segments_commitment_each check (cardinality(entry_ids) = cardinality(commitments))
);

comment on table rowhouse.audit_segments is
  'The chain of each tenant: commitments to a number of entries, and the digest over them and the segment before. Holds nothing of the entries themselves, and outlives them.';
comment on column rowhouse.audit_segments.tenant_id is 'The tenant, possibly erased.';
comment on column rowhouse.audit_segments.segment_number is 'Position in the chain, from 1 without gaps.';
comment on column rowhouse.audit_segments.first_position is 'Position of its first entry in the trail of the tenant, from 1 without gaps.';
comment on column rowhouse.audit_segments.entry_ids is 'The entries, in their order. Empty when the segment says what was purged.';
comment on column rowhouse.audit_segments.commitments is 'The commitment to each entry.';
comment on column rowhouse.audit_segments.purged_through is
  'The entries of all segments up to this number were removed, by retention or erasure; null in a segment of entries.';
comment on column rowhouse.audit_segments.sealed_at is 'When the segment was sealed.';
comment on column rowhouse.audit_segments.digest is 'SHA-256 over the digest of the segment before and everything in this one.';

create table rowhouse.audit_heads (
  tenant_id text primary key,
  segment_number bigint not null,
  next_position bigint not null,
  digest bytea not null constraint audit_heads_digest_length check (octet_length(digest) = 32)
);

comment on table rowhouse.audit_heads is 'The end of each chain. Sealing locks this row, so one process at a time seals the trail of a tenant.';
comment on column rowhouse.audit_heads.tenant_id is 'The tenant.';
comment on column rowhouse.audit_heads.segment_number is 'Number of the last segment; 0 before the first.';
comment on column rowhouse.audit_heads.next_position is 'Position that the next entry will have.';
comment on column rowhouse.audit_heads.digest is 'Digest of the last segment; zeros before the first.';

create table rowhouse.audit_signatures (
  tenant_id text not null,
  segment_number bigint not null,
  key_id text not null constraint audit_signatures_key_id_length check (length(key_id) between 1 and 200),
  signature bytea not null constraint audit_signatures_signature_length check (octet_length(signature) = 64),
  signed_at timestamptz not null default now(),
  primary key (tenant_id, segment_number, key_id),
  foreign key (tenant_id, segment_number) references rowhouse.audit_segments
);

comment on table rowhouse.audit_signatures is
  'Signatures of digests by keys that the database does not have: who can change every row here still cannot make another chain with them.';
comment on column rowhouse.audit_signatures.tenant_id is 'The tenant.';
comment on column rowhouse.audit_signatures.segment_number is 'The segment whose digest is signed, and with it all before.';
comment on column rowhouse.audit_signatures.key_id is 'SHA-256 of the public key, in hexadecimal.';
comment on column rowhouse.audit_signatures.signature is 'Ed25519 signature of the digest.';
comment on column rowhouse.audit_signatures.signed_at is 'When it was signed.';

create table rowhouse.denials (
  tenant_id text not null,
  kind text not null,
  name text not null constraint denials_name_length check (length(name) <= 200),
  recorded_at timestamptz not null,
  reason text not null,
  detail jsonb not null,
  primary key (tenant_id, kind, name)
) with (fillfactor = 50);

comment on table rowhouse.denials is
  'When it was last recorded in the audit trail of a tenant that a call was refused: bounds how often. Not partitioned: it has a few rows for each tenant.';
comment on column rowhouse.denials.tenant_id is 'The tenant.';
comment on column rowhouse.denials.kind is 'What refused, for example rate_limited.';
comment on column rowhouse.denials.name is
  'Its name: that of the limit, quota, circuit or model, the key and its address. Empty when it has none, or when the tenant has too many.';
comment on column rowhouse.denials.recorded_at is 'Time of the last entry.';
comment on column rowhouse.denials.reason is 'The error of that entry.';
comment on column rowhouse.denials.detail is 'The detail of that entry.';
