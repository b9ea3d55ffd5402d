-- The audit chain: shows whether an entry was changed, removed, reordered or inserted, also after payloads are gone.
--
-- Each entry has a commitment, SHA-256 over a random salt and its content. Sealing puts the commitments of new entries
-- into a segment, whose digest covers them and the digest of the segment before. Erasure and retention remove entries
-- with their salts and add a segment that says so: what is left cannot be connected with any content, and still proves
-- that nothing was taken out of the trail in any other way.
--
-- Appends never touch the chain, so they never wait for each other; sealing locks the head of one tenant's chain.
-- Depends on: audit.sql, locks.sql, progress.sql. Proven by: test/audit/chain.test.ts, mutations.test.ts, concurrency.test.ts.

do $$
declare
  v_table regclass;
begin
  foreach v_table in array array['rowhouse.audit_pending', 'rowhouse.audit_segments', 'rowhouse.audit_heads',
      'rowhouse.audit_signatures']::regclass[] loop
    execute format('alter table %s enable row level security, force row level security', v_table);
    execute format('drop policy if exists owner_all on %s', v_table);
    execute format('create policy owner_all on %s for all to rowhouse_owner using (true) with check (true)', v_table);
    execute format('comment on policy owner_all on %s is %L', v_table, 'The functions of rowhouse write the chain.');
    execute format('revoke all on %s from public, rowhouse_app, rowhouse_admin', v_table);
  end loop;
  foreach v_table in array array['rowhouse.audit_segments', 'rowhouse.audit_heads', 'rowhouse.audit_signatures']::regclass[] loop
    execute format('drop policy if exists operators_see_all on %s', v_table);
    execute format('create policy operators_see_all on %s for select to rowhouse_admin using (true)', v_table);
    execute format('comment on policy operators_see_all on %s is %L', v_table, 'Digests are for operators; they hold no data of tenants.');
    execute format('grant select on %s to rowhouse_admin', v_table);
  end loop;
end
$$;

create or replace trigger rowhouse_append_only before delete on rowhouse.audit_entries
  for each row when (current_setting('rowhouse.purges_audit', true) is distinct from 'on')
  execute function rowhouse.refuse_change();
create or replace trigger rowhouse_unchanged before update or truncate on rowhouse.audit_entries
  for each statement execute function rowhouse.refuse_change();
create or replace trigger rowhouse_unchanged before update or truncate on rowhouse.audit_pending
  for each statement execute function rowhouse.refuse_change();
create or replace trigger rowhouse_append_only before update or delete or truncate on rowhouse.audit_segments
  for each statement when (current_setting('rowhouse.replaces_audit', true) is distinct from 'on')
  execute function rowhouse.refuse_change();
create or replace trigger rowhouse_append_only before update or delete or truncate on rowhouse.audit_signatures
  for each statement when (current_setting('rowhouse.replaces_audit', true) is distinct from 'on')
  execute function rowhouse.refuse_change();
create or replace trigger rowhouse_append_only before delete or truncate on rowhouse.audit_heads
  for each statement when (current_setting('rowhouse.replaces_audit', true) is distinct from 'on')
  execute function rowhouse.refuse_change();

create or replace function rowhouse.segment_digest(p_previous bytea, p_segment rowhouse.audit_segments) returns bytea
  language plpgsql stable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  return sha256(p_previous
    || convert_to(jsonb_build_array('rowhouse.audit/1', p_segment.tenant_id, p_segment.segment_number, p_segment.first_position,
      cardinality(p_segment.entry_ids), p_segment.purged_through,
      (extract(epoch from p_segment.sealed_at) * 1000000)::bigint)::text, 'UTF8')
    || (select coalesce(string_agg(uuid_send(e.entry_id) || e.commitment, '' order by e.place), '')
      from unnest(p_segment.entry_ids, p_segment.commitments) with ordinality e (entry_id, commitment, place)));
end
$$;

comment on function rowhouse.segment_digest(bytea, rowhouse.audit_segments) is
  'SHA-256 over the digest of the segment before, a JSON array of the numbers of this one, and its entries: 16 bytes of id and 32 of commitment each.';

create or replace function rowhouse.add_segment(p_tenant text, p_entry_ids uuid[], p_commitments bytea[], p_purged_through bigint)
  returns rowhouse.audit_segments
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_head rowhouse.audit_heads;
  v_segment rowhouse.audit_segments;
begin
  select h.* into strict v_head from rowhouse.audit_heads h where h.tenant_id = p_tenant for update;
  v_segment := row(p_tenant, v_head.segment_number + 1, v_head.next_position, p_entry_ids, p_commitments, p_purged_through,
    clock_timestamp(), null);
  v_segment.digest := rowhouse.segment_digest(v_head.digest, v_segment);
  insert into rowhouse.audit_segments select v_segment.*;
  update rowhouse.audit_heads h
    set segment_number = v_segment.segment_number, digest = v_segment.digest,
      next_position = h.next_position + cardinality(p_entry_ids)
    where h.tenant_id = p_tenant;
  return v_segment;
end
$$;

comment on function rowhouse.add_segment(text, uuid[], bytea[], bigint) is 'Adds a segment to the end of the chain.';

create or replace function rowhouse.lock_audit_head(p_tenant text) returns rowhouse.audit_heads
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_head rowhouse.audit_heads;
begin
  insert into rowhouse.audit_heads (tenant_id, segment_number, next_position, digest)
    values (p_tenant, 0, 1, decode(repeat('00', 32), 'hex'))
    on conflict (tenant_id) do nothing;
  select h.* into strict v_head from rowhouse.audit_heads h where h.tenant_id = p_tenant for update;
  return v_head;
end
$$;

comment on function rowhouse.lock_audit_head(text) is
  'Locks the chain of a tenant until the end of the transaction; it begins here when there is none yet.';

create or replace function rowhouse.seal_pending(p_tenant text, p_segment_size integer) returns bigint
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_entry_ids uuid[];
  v_commitments bytea[];
  v_sealed bigint := 0;
  v_last uuid := '00000000-0000-0000-0000-000000000000';
  v_total bigint;
begin
  perform rowhouse.lock_audit_head(p_tenant);
  if current_setting('rowhouse.reports_progress', true) = 'on' then
    select count(*) into v_total from rowhouse.audit_pending p where p.tenant_id = p_tenant;
  end if;
  loop
    -- The head is locked and nobody else deletes here, so what was chosen is still there. From the last one on, so that
    -- deleted rows are not passed again and again.
    with taken as (
      delete from rowhouse.audit_pending p
        where p.tenant_id = p_tenant and p.entry_id in (
          select f.entry_id from rowhouse.audit_pending f
            where f.tenant_id = p_tenant and f.entry_id > v_last order by f.entry_id limit p_segment_size)
        returning p.entry_id, p.commitment
    )
    select array_agg(t.entry_id order by t.entry_id), array_agg(t.commitment order by t.entry_id)
      into v_entry_ids, v_commitments from taken t;
    exit when v_entry_ids is null;
    perform rowhouse.add_segment(p_tenant, v_entry_ids, v_commitments, null);
    v_sealed := v_sealed + cardinality(v_entry_ids);
    perform rowhouse.report_progress('seal', p_tenant, v_sealed, v_total);
    v_last := v_entry_ids[cardinality(v_entry_ids)];
    exit when cardinality(v_entry_ids) < p_segment_size;
  end loop;
  return v_sealed;
end
$$;

comment on function rowhouse.seal_pending(text, integer) is
  'Seals what is committed and in no segment yet, in the order of the entries'' ids; an entry that commits later than a younger one comes into a later segment. Returns how many.';

create or replace function rowhouse.seal_audit(p_tenant text, p_segment_size integer default 1000) returns jsonb
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_status text;
  v_sealed bigint;
begin
  perform rowhouse.check_tenant_id(p_tenant);
  if p_segment_size is null or p_segment_size not between 1 and 10000 then
    raise exception using errcode = 'invalid_parameter_value', message = 'a segment has 1 to 10000 entries';
  elsif current_setting('transaction_isolation') <> 'read committed' then
    raise exception using errcode = 'invalid_transaction_state', message = 'audit trails are sealed in isolation level read committed only';
  end if;
  -- What is sealed while the trail is copied elsewhere would be missing there. A move waits for this lock, as for writers'.
  v_status := rowhouse.lock_tenant_shared(p_tenant, (select t.lock_key from rowhouse.tenants t where t.tenant_id = p_tenant));
  if v_status is null or rowhouse.tenant_is_moving(v_status) then
    perform rowhouse.check_tenant_status(p_tenant, v_status);
  end if;
  v_sealed := rowhouse.seal_pending(p_tenant, p_segment_size);
  return (
    select jsonb_build_object('tenantId', p_tenant, 'sealed', v_sealed, 'segment', h.segment_number,
        'entries', h.next_position - 1, 'digest', encode(h.digest, 'hex'))
      from rowhouse.audit_heads h where h.tenant_id = p_tenant);
end
$$;

comment on function rowhouse.seal_audit(text, integer) is
  'Seals the entries of the tenant that no segment holds yet and returns how many, the number of the last segment, the number of all entries and the digest that stands for the whole trail. Several processes may call it at once. Raises RH002, RH033 and RH034 (its trail is, or will be, in another database).';

create or replace function rowhouse.unsealed_audits() returns table (tenant_id text)
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  -- From tenant to tenant by the key, without reading all that is pending.
  return query
    with recursive found (tenant_id) as (
      (select p.tenant_id from rowhouse.audit_pending p order by p.tenant_id limit 1)
      union all
      select (select p.tenant_id from rowhouse.audit_pending p where p.tenant_id > f.tenant_id order by p.tenant_id limit 1)
        from found f where f.tenant_id is not null
    )
    select f.tenant_id from found f
      where f.tenant_id is not null
        and not exists (select from rowhouse.tenants t where t.tenant_id = f.tenant_id and rowhouse.tenant_is_moving(t.status));
end
$$;

comment on function rowhouse.unsealed_audits() is 'The tenants with entries that no segment holds yet.';

create or replace function rowhouse.sign_audit(p_tenant text, p_segment bigint, p_key_id text, p_signature bytea) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  insert into rowhouse.audit_signatures (tenant_id, segment_number, key_id, signature)
    values (p_tenant, p_segment, p_key_id, p_signature)
    on conflict (tenant_id, segment_number, key_id) do nothing;
end
$$;

comment on function rowhouse.sign_audit(text, bigint, text, bytea) is
  'Stores an Ed25519 signature of the digest of a segment; one for each key.';

create or replace function rowhouse.remove_audit(p_tenant text, p_through bigint) returns bigint
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_before text[];
  v_ids uuid[];
  v_removed bigint := 0;
  v_reported bigint := 0;
  v_count bigint;
begin
  v_before := rowhouse.work_as(p_tenant, false);
  set local rowhouse.audits_lifecycle = on;
  set local rowhouse.purges_audit = on;
  for v_ids in
    select s.entry_ids from rowhouse.audit_segments s where s.tenant_id = p_tenant and s.segment_number <= p_through
  loop
    delete from rowhouse.audit_entries e where e.tenant_id = p_tenant and e.entry_id = any (v_ids);
    get diagnostics v_count = row_count;
    v_removed := v_removed + v_count;
    if v_removed >= v_reported + 1000 then
      v_reported := v_removed;
      perform rowhouse.report_progress('erase', 'rowhouse.audit_entries', v_removed);
    end if;
  end loop;
  perform rowhouse.report_progress('erase', 'rowhouse.audit_entries', v_removed);
  set local rowhouse.purges_audit = off;
  set local rowhouse.audits_lifecycle = off;
  perform rowhouse.end_work(v_before);
  return v_removed;
end
$$;

comment on function rowhouse.remove_audit(text, bigint) is
  'Deletes the entries of all segments up to this one; the segment that says so is added by the caller.';

create or replace function rowhouse.purge_audit(p_tenant text, p_before timestamptz) returns jsonb
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_status text;
  v_through bigint;
  v_removed bigint := 0;
begin
  perform rowhouse.check_tenant_id(p_tenant);
  -- An erasure needs this row, and removes entries itself.
  select t.status into v_status from rowhouse.tenants t where t.tenant_id = p_tenant for no key update;
  if v_status is null or v_status = 'erased' or rowhouse.tenant_is_moving(v_status) then
    perform rowhouse.check_tenant_status(p_tenant, v_status);
  end if;
  perform rowhouse.seal_pending(p_tenant, 1000);
  -- Whole segments from the beginning of the chain: up to the first one that was sealed later.
  select max(s.segment_number) into v_through
    from rowhouse.audit_segments s
    where s.tenant_id = p_tenant and s.sealed_at < p_before and cardinality(s.entry_ids) > 0
      and s.segment_number > coalesce((
        select max(g.purged_through) from rowhouse.audit_segments g where g.tenant_id = p_tenant), 0);
  if v_through is not null then
    v_removed := rowhouse.remove_audit(p_tenant, v_through);
    perform rowhouse.add_segment(p_tenant, '{}', '{}', v_through);
  end if;
  return jsonb_build_object('tenantId', p_tenant, 'removed', v_removed, 'throughSegment', v_through);
end
$$;

comment on function rowhouse.purge_audit(text, timestamptz) is
  'Retention: removes the entries of all segments that were sealed before this time, and adds a segment that says so; the chain stays verifiable. Raises RH002, RH004, RH033, RH034.';

create or replace function rowhouse.close_audit(p_tenant text) returns jsonb
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_head rowhouse.audit_heads;
  v_removed bigint;
  v_last bigint;
begin
  perform rowhouse.seal_pending(p_tenant, 1000);
  v_head := rowhouse.lock_audit_head(p_tenant);
  v_last := v_head.segment_number;
  v_removed := rowhouse.remove_audit(p_tenant, v_last);
  if v_last > 0 then
    perform rowhouse.add_segment(p_tenant, '{}', '{}', v_last);
    v_head := rowhouse.lock_audit_head(p_tenant);
  end if;
  return jsonb_build_object('removed', v_removed, 'segments', v_head.segment_number, 'entries', v_head.next_position - 1,
    'digest', encode(v_head.digest, 'hex'));
end
$$;

comment on function rowhouse.close_audit(text) is
  'Erasure: seals what is pending, removes all entries of the tenant and ends its chain with a segment that says so. Called by erase_tenant while it holds the tenant''s lock.';

revoke execute on function
  rowhouse.segment_digest(bytea, rowhouse.audit_segments), rowhouse.add_segment(text, uuid[], bytea[], bigint),
  rowhouse.lock_audit_head(text), rowhouse.seal_pending(text, integer), rowhouse.seal_audit(text, integer),
  rowhouse.unsealed_audits(), rowhouse.sign_audit(text, bigint, text, bytea), rowhouse.remove_audit(text, bigint),
  rowhouse.purge_audit(text, timestamptz), rowhouse.close_audit(text)
  from public;
grant execute on function
  rowhouse.seal_audit(text, integer), rowhouse.unsealed_audits(), rowhouse.sign_audit(text, bigint, text, bytea),
  rowhouse.purge_audit(text, timestamptz)
  to rowhouse_admin;
