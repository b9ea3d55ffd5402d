-- Vector search: the nearest documents of one tenant, exactly or by the index, whichever finds more in the same time.
--
-- Every function runs with the rights of its caller, under row-level security, for the tenant of the transaction, and
-- says so in its own condition as well.
-- Depends on: documents.sql, documents_text.sql. Proven by: test/documents/search.test.ts, npm run bench -- vectors.

create or replace function rowhouse.tenant_extent(
  p_relation regclass, p_limit integer, out leaf regclass, out own boolean, out documents bigint
)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
  -- Only the key answers quickly: a limit makes the planner hope for a row near the start of the partition, which other
  -- tenants may fill, and a bitmap would hold every row of the tenant.
  set enable_seqscan = off
  set enable_bitmapscan = off
  set jit = off
as $$
declare
  v_tenant text := rowhouse.require_tenant();
begin
  -- A tenant with a partition of its own has no neighbours in it, so the statistics of the partition are the tenant's.
  execute format(
    'select s.leaf, c.relnamespace <> ''rowhouse_partitions''::regnamespace, '
    'case when c.relnamespace <> ''rowhouse_partitions''::regnamespace and c.reltuples > $2 then c.reltuples::bigint '
    'else (select count(*) from (select from %1$s d where d.tenant_id = $1 limit $2 + 1) r) end '
    'from (select d.tableoid as leaf from %1$s d where d.tenant_id = $1 limit 1) s join pg_class c on c.oid = s.leaf',
    p_relation)
    into leaf, own, documents using v_tenant, p_limit::bigint;
  documents := coalesce(documents, 0);
end
$$;

comment on function rowhouse.tenant_extent(regclass, integer) is
  'The partition that holds the tenant, whether it is the tenant''s own, and the number of documents, counted up to p_limit + 1.';

create or replace function rowhouse.search_exactly(p_relation regclass, p_embedding text, p_limit integer, p_filter jsonb)
  returns setof rowhouse.document_hit
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
  set jit = off
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_collection record;
begin
  select * into v_collection from rowhouse.locate_collection(null, null, p_relation);
  -- "+ 0": the index orders by the distance alone, so it can't answer this.
  return query execute format(
    'select d.tenant_id, d.document_id, d.content, d.metadata, d.title, d.source, d.parent_id, d.place, '
    '(d.embedding %s $1::%s) + 0 as distance, null::double precision, null::text, null::integer, null::integer, null::double precision, null::text '
    'from %s d where d.tenant_id = $2 and (%s) '
    'order by distance, d.document_id limit $3',
    v_collection.operator, v_collection.type, p_relation, rowhouse.compile_filter(p_filter))
    using p_embedding, v_tenant, p_limit;
end
$$;

comment on function rowhouse.search_exactly(regclass, text, integer, jsonb) is
  'The nearest documents of the tenant, by the distance to every one of them.';

create or replace function rowhouse.search_by_index(
  p_relation regclass, p_embedding text, p_limit integer, p_filter jsonb, p_own_partition boolean, p_documents bigint
) returns setof rowhouse.document_hit
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  -- Leaves the planner no way to order but the index; the penalties would make it compile the statement too.
  set enable_indexscan = on
  set enable_sort = off
  set enable_seqscan = off
  set jit = off
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_collection record;
  v_iterative text := current_setting('hnsw.iterative_scan', true);
  v_ef_search text := coalesce(current_setting('hnsw.ef_search', true), '40');
  v_max_scan_tuples text := current_setting('hnsw.max_scan_tuples', true);
begin
  select * into v_collection from rowhouse.locate_collection(null, null, p_relation);
  if v_iterative is null and not p_own_partition then
    -- Before 0.8.0 the filter is applied to the first candidates only, and most of them belong to other tenants.
    return;
  end if;
  -- In a shared partition other tenants take places among the candidates.
  execute format('set local hnsw.ef_search = %s',
    least(1000, greatest(v_collection.ef_search * case when p_own_partition then 1 else 2 end, 2 * p_limit)));
  if v_iterative is not null then
    -- Where candidates fall away, because they are another tenant's or the filter's, the scan goes on until there are
    -- enough. That costs a fifth, so where all of them count it doesn't. Their order is approximate, so they are sorted.
    execute format('set local hnsw.iterative_scan = %L',
      case when p_own_partition and coalesce(p_filter, '{}') = '{}' then 'off' else 'relaxed_order' end);
    -- A candidate costs about ten times what a row costs the exact search that comes next: give up when it is as dear.
    execute format('set local hnsw.max_scan_tuples = %s', least(100000, greatest(2000, p_documents / 10)));
  end if;
  return query execute format(
    'with nearest as materialized ('
    'select d.tenant_id, d.document_id, d.content, d.metadata, d.title, d.source, d.parent_id, d.place, '
    'd.embedding %1$s $1::%2$s as distance '
    'from %3$s d where d.tenant_id = $2 and (%4$s) '
    'order by d.embedding %1$s $1::%2$s limit $3) '
    'select n.*, null::double precision, null::text, null::integer, null::integer, null::double precision, null::text from nearest n order by n.distance + 0, n.document_id',
    v_collection.operator, v_collection.type, p_relation, rowhouse.compile_filter(p_filter))
    using p_embedding, v_tenant, p_limit;
  -- What these settings were: as "set local" they would otherwise last until the end of the transaction.
  execute format('set local hnsw.ef_search = %L', v_ef_search);
  if v_iterative is not null then
    execute format('set local hnsw.iterative_scan = %L', v_iterative);
    execute format('set local hnsw.max_scan_tuples = %L', v_max_scan_tuples);
  end if;
end
$$;

comment on function rowhouse.search_by_index(regclass, text, integer, jsonb, boolean, bigint) is
  'The nearest documents of the tenant, which has about p_documents, as its partition''s HNSW index finds them; fewer than p_limit when the index gave up.';

create or replace function rowhouse.search_nearest(
  p_relation regclass, p_embedding text, p_limit integer, p_filter jsonb, p_strategy text,
  out hits rowhouse.document_hit[], out strategy text, out leaf regclass, out documents bigint
)
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_own boolean;
  v_exact_limit integer;
begin
  strategy := 'exact';
  if p_strategy <> 'exact' then
    select case p_strategy when 'auto' then l.exact_limit else 0 end into v_exact_limit
      from rowhouse.locate_collection(null, null, p_relation) l;
    select e.leaf, e.own, e.documents into leaf, v_own, documents from rowhouse.tenant_extent(p_relation, v_exact_limit) e;
    if documents > v_exact_limit and rowhouse.has_index(leaf, 'hnsw') then
      select array_agg(h) into hits
        from rowhouse.search_by_index(p_relation, p_embedding, p_limit, p_filter, v_own, documents) h;
      -- An index gives up after a number of candidates. Whether there are more documents, only the exact search knows.
      if cardinality(hits) = p_limit then
        strategy := case when v_own then 'own_index' else 'shared_index' end;
      end if;
    end if;
  end if;
  if strategy = 'exact' then
    select array_agg(h) into hits from rowhouse.search_exactly(p_relation, p_embedding, p_limit, p_filter) h;
  end if;
end
$$;

comment on function rowhouse.search_nearest(regclass, text, integer, jsonb, text) is
  'The nearest documents of the tenant, nearest first, and what found them: exact, shared_index or own_index; and what tenant_extent said, where it was asked.';

create or replace function rowhouse.search_words(
  p_relation regclass, p_text text, p_match text, p_limit integer, p_filter jsonb, p_leaf regclass, p_documents bigint,
  out ids text[], out ranks double precision[], out strategy text
)
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  -- As many are looked at one by one as fast as the index finds some of them.
  v_scan_limit constant integer := 100;
  v_leaf regclass := p_leaf;
  v_documents bigint := p_documents;
begin
  -- The extent may have been counted up to less.
  if v_documents is null or v_documents <= v_scan_limit and v_leaf is not null then
    select e.leaf, e.documents into v_leaf, v_documents from rowhouse.tenant_extent(p_relation, v_scan_limit) e;
  end if;
  if v_documents > v_scan_limit and rowhouse.has_index(v_leaf, 'gin') then
    strategy := 'index';
    select array_agg(w.document_id), array_agg(w.rank) into ids, ranks
      from rowhouse.find_words(p_relation, p_text, p_match, p_limit, p_filter) w;
  else
    strategy := 'scan';
    select array_agg(w.document_id), array_agg(w.rank) into ids, ranks
      from rowhouse.scan_words(p_relation, p_text, p_match, p_limit, p_filter) w;
  end if;
end
$$;

comment on function rowhouse.search_words(regclass, text, text, integer, jsonb, regclass, bigint) is
  'The documents of the tenant, of which tenant_extent has told or will, that match a text best, best first, and what found them: scan (of a tenant with few documents) or index.';

revoke execute on function
  rowhouse.tenant_extent(regclass, integer), rowhouse.search_exactly(regclass, text, integer, jsonb),
  rowhouse.search_by_index(regclass, text, integer, jsonb, boolean, bigint),
  rowhouse.search_nearest(regclass, text, integer, jsonb, text), rowhouse.search_words(regclass, text, text, integer, jsonb, regclass, bigint)
  from public;
grant execute on function
  rowhouse.tenant_extent(regclass, integer), rowhouse.search_exactly(regclass, text, integer, jsonb),
  rowhouse.search_by_index(regclass, text, integer, jsonb, boolean, bigint),
  rowhouse.search_nearest(regclass, text, integer, jsonb, text), rowhouse.search_words(regclass, text, text, integer, jsonb, regclass, bigint)
  to rowhouse_app;
