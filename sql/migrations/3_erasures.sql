-- Receipts of erasures, chained by digest so that a changed or removed receipt shows.
-- Depends on: 1_tenants.sql. Policies and privileges: sql/functions/erase.sql.

create table rowhouse.erasures (
  erasure_number bigint primary key,
  tenant_id rowhouse.tenant_id not null,
  receipt jsonb not null,
  digest bytea not null constraint erasures_digest_length check (octet_length(digest) = 32),
  erased_at timestamptz not null
);

comment on table rowhouse.erasures is 'One receipt for each erased tenant; outlives the tenant as the evidence of its erasure.';
comment on column rowhouse.erasures.erasure_number is 'Position in the chain, from 1 without gaps.';
comment on column rowhouse.erasures.tenant_id is 'The erased tenant.';
comment on column rowhouse.erasures.receipt is 'What erase_tenant returned.';
comment on column rowhouse.erasures.digest is 'SHA-256 over the digest of the receipt before it and this receipt.';
comment on column rowhouse.erasures.erased_at is 'When the erasure was made.';
