-- Receipts of erasures: the evidence that a tenant was erased, chained so that a changed or missing one shows.
--
-- Depends on: rowhouse.erasures. Proven by: test/erase/receipts.test.ts.

alter table rowhouse.erasures enable row level security, force row level security;
drop policy if exists operators_see_all on rowhouse.erasures;
create policy operators_see_all on rowhouse.erasures for select to rowhouse_admin using (true);
comment on policy operators_see_all on rowhouse.erasures is 'Receipts are for operators.';
drop policy if exists owner_all on rowhouse.erasures;
create policy owner_all on rowhouse.erasures for all to rowhouse_owner using (true) with check (true);
comment on policy owner_all on rowhouse.erasures is 'The functions of rowhouse write the receipts.';
revoke all on rowhouse.erasures from public, rowhouse_app, rowhouse_admin;
grant select on rowhouse.erasures to rowhouse_admin;

create or replace function rowhouse.add_counts(p_left jsonb, p_right jsonb) returns jsonb
  language sql immutable parallel safe
  return (
    select coalesce(jsonb_object_agg(k.key, k.total), '{}')
      from (
        select e.key, sum(e.value::bigint) as total
          from (select * from jsonb_each_text(p_left) union all select * from jsonb_each_text(p_right)) e
          group by e.key) k);

comment on function rowhouse.add_counts(jsonb, jsonb) is 'Adds two objects of numbers key by key.';

create or replace function rowhouse.sum_counts(p_counts jsonb) returns bigint
  language sql immutable parallel safe
  return (select coalesce(sum(e.value::bigint), 0)::bigint from jsonb_each_text(p_counts) e);

comment on function rowhouse.sum_counts(jsonb) is 'The sum of an object of numbers.';

create or replace function rowhouse.store_receipt(p_tenant text, p_erased_at timestamptz, p_receipt jsonb) returns jsonb
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_previous record;
  v_number bigint;
  v_receipt jsonb;
  v_digest bytea;
begin
  -- One receipt after another: each is chained to the one before it. Held until this transaction ends.
  begin
    lock table rowhouse.erasures in exclusive mode;
  exception when lock_not_available or deadlock_detected then
    raise exception using errcode = 'RH032', message = 'another erasure does not finish', hint = 'Try again.';
  end;
  select e.erasure_number, e.digest into v_previous from rowhouse.erasures e order by e.erasure_number desc limit 1;
  v_number := coalesce(v_previous.erasure_number, 0) + 1;
  v_receipt := p_receipt || jsonb_build_object('erasureNumber', v_number);
  v_digest := sha256(coalesce(v_previous.digest, ''::bytea) || convert_to(v_receipt::text, 'UTF8'));
  v_receipt := v_receipt || jsonb_build_object('auditDigest', encode(v_digest, 'hex'));
  insert into rowhouse.erasures (erasure_number, tenant_id, receipt, digest, erased_at)
    values (v_number, p_tenant, v_receipt, v_digest, p_erased_at);
  return v_receipt;
end
$$;

comment on function rowhouse.store_receipt(text, timestamptz, jsonb) is
  'Stores a receipt as the next of the chain and returns it with its number and digest.';

create or replace function rowhouse.verify_erasures() returns table (erasure_number bigint, tenant_id text, intact boolean)
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_row record;
  v_previous bytea := ''::bytea;
  v_expected bigint := 1;
begin
  for v_row in select e.* from rowhouse.erasures e order by e.erasure_number loop
    erasure_number := v_row.erasure_number;
    tenant_id := v_row.tenant_id;
    intact := jsonb_typeof(v_row.receipt) = 'object' and coalesce(
      v_row.erasure_number = v_expected
      and v_row.digest = sha256(v_previous || convert_to((v_row.receipt - 'auditDigest')::text, 'UTF8'))
      and encode(v_row.digest, 'hex') = v_row.receipt ->> 'auditDigest'
      and v_row.tenant_id = v_row.receipt ->> 'tenantId'
      and v_row.erased_at = (v_row.receipt ->> 'erasedAt')::timestamptz
      -- A tenant that moved may come back, and move again.
      and (v_row.receipt ? 'movedTo' or exists (select from rowhouse.tenants t
        where t.tenant_id = v_row.tenant_id and t.status = 'erased' and t.erased_at = v_row.erased_at)), false);
    return next;
    v_previous := v_row.digest;
    v_expected := v_row.erasure_number + 1;
  end loop;
  -- The last receipts of the chain could be taken away without a gap, were it not for the registry.
  return query
    select null::bigint, t.tenant_id::text, false
      from rowhouse.tenants t
      where t.status = 'erased' and not exists (select from rowhouse.erasures e where e.tenant_id = t.tenant_id)
      order by t.tenant_id;
end
$$;

comment on function rowhouse.verify_erasures() is
  'Recomputes the chain of receipts: intact is false for a receipt that was changed, or before which one is missing, and for an erased tenant without a receipt (no number). Who may rewrite receipts and registry could make up a whole chain: keep the digests of receipts elsewhere.';

revoke execute on function
  rowhouse.add_counts(jsonb, jsonb), rowhouse.sum_counts(jsonb), rowhouse.store_receipt(text, timestamptz, jsonb),
  rowhouse.verify_erasures()
  from public;
grant execute on function rowhouse.verify_erasures() to rowhouse_admin;
