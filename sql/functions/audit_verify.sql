-- Verification of the audit chain: recomputes every commitment and every digest of one tenant, in one snapshot.
--
-- What it cannot see: an entry that was removed, together with its commitment, before it was sealed; and a chain that a
-- superuser wrote anew from some point on, unless a digest from before was kept elsewhere (p_anchor) or signed.
-- Depends on: audit_chain.sql, progress.sql. Proven by: test/audit/mutations.test.ts.

create or replace function rowhouse.audit_finding(p_kind text, p_object text, p_number bigint, p_entry_id uuid default null)
  returns jsonb
  language sql immutable parallel safe
  return jsonb_strip_nulls(jsonb_build_object('kind', p_kind, 'object', p_object,
    case p_object when 'entry' then 'position' else 'segment' end, p_number, 'entryId', p_entry_id));

comment on function rowhouse.audit_finding(text, text, bigint, uuid) is
  'One finding of a verification: what happened to which entry, by its position, or to which segment, by its number.';

create or replace function rowhouse.check_sealed_entries(p_segment rowhouse.audit_segments, out present bigint, out findings jsonb)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
  -- A thousand look-ups by the key, never a scan of the table for each segment.
  set enable_hashjoin = off
  set enable_mergejoin = off
  set jit = off
as $$
begin
  findings := '[]';
  select count(*) into present
    from unnest(p_segment.entry_ids, p_segment.commitments) s (entry_id, commitment)
    join rowhouse.audit_entries e on e.tenant_id = p_segment.tenant_id and e.entry_id = s.entry_id
    where rowhouse.audit_commitment(e) = s.commitment;
  if present = cardinality(p_segment.entry_ids) then
    return;
  end if;
  select count(e.entry_id), jsonb_agg(rowhouse.audit_finding(
        case when e.entry_id is null then 'removed'
          when rowhouse.audit_commitment(e) = any (p_segment.commitments) then 'reordered' else 'changed' end,
        'entry', p_segment.first_position + s.place - 1, s.entry_id) order by s.place)
        filter (where rowhouse.audit_commitment(e) is distinct from s.commitment)
    into present, findings
    from unnest(p_segment.entry_ids, p_segment.commitments) with ordinality s (entry_id, commitment, place)
    left join rowhouse.audit_entries e on e.tenant_id = p_segment.tenant_id and e.entry_id = s.entry_id;
end
$$;

comment on function rowhouse.check_sealed_entries(rowhouse.audit_segments) is
  'How many entries of a segment are there, and what is wrong with them.';

create or replace function rowhouse.check_unsealed_entries(p_tenant text, out present bigint, out findings jsonb)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  select count(e.entry_id), coalesce(jsonb_agg(rowhouse.audit_finding(
        case when e.entry_id is null then 'removed' else 'changed' end, 'entry', null, p.entry_id) order by p.entry_id)
        filter (where rowhouse.audit_commitment(e) is distinct from p.commitment), '[]')
    into present, findings
    from rowhouse.audit_pending p
    left join rowhouse.audit_entries e on e.tenant_id = p.tenant_id and e.entry_id = p.entry_id
    where p.tenant_id = p_tenant;
end
$$;

comment on function rowhouse.check_unsealed_entries(text) is 'The same for entries that no segment holds yet.';

create or replace function rowhouse.unaccounted_entries(p_tenant text, p_purged_through bigint) returns jsonb
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_findings jsonb;
begin
  select coalesce(jsonb_agg(rowhouse.audit_finding('inserted', 'entry', null, i.entry_id) order by i.entry_id), '[]')
    into v_findings
    from (
      select e.entry_id from rowhouse.audit_entries e where e.tenant_id = p_tenant
      except (
        select unnest(s.entry_ids) from rowhouse.audit_segments s
          where s.tenant_id = p_tenant and s.segment_number > p_purged_through
        union all
        select p.entry_id from rowhouse.audit_pending p where p.tenant_id = p_tenant)) i;
  if v_findings = '[]' then
    -- Every entry has its place, so one has two.
    v_findings := jsonb_build_array(rowhouse.audit_finding('inserted', 'pending', null));
  end if;
  return v_findings;
end
$$;

comment on function rowhouse.unaccounted_entries(text, bigint) is
  'Entries that are in no segment and not pending, when the numbers say that there are some.';

create or replace function rowhouse.check_audit(p_tenant text, p_anchor bytea) returns jsonb
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_head rowhouse.audit_heads;
  v_segment rowhouse.audit_segments;
  v_digest bytea := decode(repeat('00', 32), 'hex');
  v_number bigint := 0;
  v_position bigint := 1;
  v_purged_through bigint;
  v_purged_entries bigint := 0;
  v_checked record;
  v_accounted bigint := 0;
  v_unsealed bigint;
  v_total bigint;
  v_reported bigint := 0;
  v_findings jsonb := '[]';
  v_anchored boolean := p_anchor = v_digest;
begin
  -- All statements of a stable function see one snapshot, so appends and sealing go on meanwhile.
  select coalesce(max(s.purged_through), 0) into v_purged_through
    from rowhouse.audit_segments s where s.tenant_id = p_tenant;
  select h.* into v_head from rowhouse.audit_heads h where h.tenant_id = p_tenant;
  for v_segment in
    select s.* from rowhouse.audit_segments s where s.tenant_id = p_tenant order by s.segment_number
  loop
    if v_segment.segment_number <> v_number + 1 then
      v_findings := v_findings || rowhouse.audit_finding(
        case when v_segment.segment_number > v_number + 1 then 'removed' else 'inserted' end, 'segment', v_number + 1);
    elsif v_segment.digest <> rowhouse.segment_digest(v_digest, v_segment) or v_segment.first_position <> v_position then
      v_findings := v_findings || rowhouse.audit_finding('changed', 'segment', v_segment.segment_number);
    end if;
    v_number := v_segment.segment_number;
    v_position := v_segment.first_position + cardinality(v_segment.entry_ids);
    v_digest := v_segment.digest;
    v_anchored := v_anchored or v_digest = p_anchor;
    if v_number > v_purged_through then
      select * into v_checked from rowhouse.check_sealed_entries(v_segment);
      v_accounted := v_accounted + v_checked.present;
      v_findings := v_findings || v_checked.findings;
      if v_accounted >= v_reported + 1000 then
        v_reported := v_accounted;
        perform rowhouse.report_progress('verify', p_tenant, v_accounted, v_head.next_position - 1 - v_purged_entries);
      end if;
    else
      v_purged_entries := v_purged_entries + cardinality(v_segment.entry_ids);
    end if;
  end loop;

  if v_number <> coalesce(v_head.segment_number, 0) or v_position <> coalesce(v_head.next_position, 1)
      or v_digest <> coalesce(v_head.digest, decode(repeat('00', 32), 'hex')) then
    v_findings := v_findings || rowhouse.audit_finding(
      case when v_head.segment_number > v_number then 'removed' when v_head.segment_number < v_number then 'inserted'
        else 'changed' end, 'head', v_head.segment_number);
  end if;
  if not v_anchored then
    v_findings := v_findings || rowhouse.audit_finding('missing', 'anchor', null);
  end if;

  select * into v_checked from rowhouse.check_unsealed_entries(p_tenant);
  v_unsealed := v_checked.present;
  v_accounted := v_accounted + v_unsealed;
  v_findings := v_findings || v_checked.findings;
  select count(*) into v_total from rowhouse.audit_entries e where e.tenant_id = p_tenant;
  if v_total <> v_accounted then
    v_findings := v_findings || rowhouse.unaccounted_entries(p_tenant, v_purged_through);
  end if;

  return jsonb_build_object('tenantId', p_tenant, 'intact', v_findings = '[]', 'segments', v_number,
    'entries', v_position - 1, 'purgedEntries', v_purged_entries, 'unsealed', v_unsealed, 'digest', encode(v_digest, 'hex'),
    'findingCount', jsonb_array_length(v_findings),
    'findings', (select coalesce(jsonb_agg(f.value order by f.place), '[]')
      from jsonb_array_elements(v_findings) with ordinality f (value, place) where f.place <= 100));
end
$$;

comment on function rowhouse.check_audit(text, bytea) is 'What verify_audit returns; reads as the tenant of the transaction.';

create or replace function rowhouse.verify_audit(p_tenant text, p_anchor text default null) returns jsonb
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_before text[];
  v_result jsonb;
begin
  perform rowhouse.check_tenant_id(p_tenant);
  if not exists (select from rowhouse.tenants t where t.tenant_id = p_tenant) then
    perform rowhouse.check_tenant_status(p_tenant, null);
  elsif p_anchor !~ '^[0-9a-f]{64}$' then
    raise exception using errcode = 'invalid_parameter_value', message = 'an anchor is a digest: 64 hexadecimal digits';
  end if;
  v_before := rowhouse.work_as(p_tenant, false);
  v_result := rowhouse.check_audit(p_tenant, decode(p_anchor, 'hex'));
  perform rowhouse.end_work(v_before);
  return v_result;
end
$$;

comment on function rowhouse.verify_audit(text, text) is
  'Checks the whole trail of a tenant and returns intact (boolean) and findings: each changed, removed, reordered or inserted entry (by its position), segment (by its number), or head. p_anchor: a digest that seal_audit returned earlier and that somebody kept; it must be in the chain. Also works after an erasure: then every entry is purged. Raises RH002.';

revoke execute on function
  rowhouse.audit_finding(text, text, bigint, uuid), rowhouse.check_sealed_entries(rowhouse.audit_segments),
  rowhouse.check_unsealed_entries(text), rowhouse.unaccounted_entries(text, bigint), rowhouse.check_audit(text, bytea),
  rowhouse.verify_audit(text, text)
  from public;
grant execute on function rowhouse.verify_audit(text, text) to rowhouse_admin;
