-- Search of documents: the nearest of one tenant, exactly or by the index, whichever finds more in the same time.
--
-- Every function runs with the rights of its caller, under row-level security, for the tenant of the transaction, and
-- says so in its own condition as well.
-- Depends on: documents.sql. Proven by: test/documents/search.test.ts, npm run bench -- vectors.

create or replace function rowhouse.tenant_extent(
  p_collection text, p_limit integer, out leaf regclass, out own boolean, out documents bigint
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
  v_collection record;
begin
  select * into v_collection from rowhouse.locate_collection(p_collection);
  -- A tenant with a partition of its own has no neighbours in it, so the statistics of the partition are the tenant's.
  execute format(
    'select s.leaf, c.relnamespace <> ''rowhouse_partitions''::regnamespace, '
    'case when c.relnamespace <> ''rowhouse_partitions''::regnamespace and c.reltuples > $2 then c.reltuples::bigint '
    'else (select count(*) from (select from %1$s d where d.tenant_id = $1 limit $2 + 1) r) end '
    'from (select d.tableoid as leaf from %1$s d where d.tenant_id = $1 limit 1) s join pg_class c on c.oid = s.leaf',
    v_collection.relation)
    into leaf, own, documents using v_tenant, p_limit::bigint;
  documents := coalesce(documents, 0);
end
$$;

comment on function rowhouse.tenant_extent(text, integer) is
  'The partition that holds the tenant, whether it is the tenant''s own, and the number of documents, counted up to p_limit + 1.';

create or replace function rowhouse.search_exactly(p_collection text, p_embedding text, p_limit integer, p_filter jsonb)
  returns table (tenant_id text, document_id text, content text, metadata jsonb, distance double precision)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
  set jit = off
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_collection record;
begin
  select * into v_collection from rowhouse.locate_collection(p_collection);
  -- "+ 0": the index orders by the distance alone, so it can't answer this.
  return query execute format(
    'select d.tenant_id, d.document_id, d.content, d.metadata, (d.embedding %s $1::%s) + 0 as distance '
    'from %s d where d.tenant_id = $2 and ($3 is null or d.metadata @> $3) '
    'order by distance, d.document_id limit $4', v_collection.operator, v_collection.type, v_collection.relation)
    using p_embedding, v_tenant, p_filter, p_limit;
end
$$;

comment on function rowhouse.search_exactly(text, text, integer, jsonb) is
  'The nearest documents of the tenant, by the distance to every one of them.';

create or replace function rowhouse.search_by_index(
  p_collection text, p_embedding text, p_limit integer, p_filter jsonb, p_own_partition boolean, p_documents bigint
) returns table (tenant_id text, document_id text, content text, metadata jsonb, distance double precision)
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
  select * into v_collection from rowhouse.locate_collection(p_collection);
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
      case when p_own_partition and p_filter is null then 'off' else 'relaxed_order' end);
    -- A candidate costs about ten times what a row costs the exact search that comes next: give up when it is as dear.
    execute format('set local hnsw.max_scan_tuples = %s', least(100000, greatest(2000, p_documents / 10)));
  end if;
  return query execute format(
    'with nearest as materialized ('
    'select d.tenant_id, d.document_id, d.content, d.metadata, d.embedding %1$s $1::%2$s as distance '
    'from %3$s d where d.tenant_id = $2 and ($3 is null or d.metadata @> $3) '
    'order by d.embedding %1$s $1::%2$s limit $4) '
    'select n.* from nearest n order by n.distance + 0, n.document_id',
    v_collection.operator, v_collection.type, v_collection.relation)
    using p_embedding, v_tenant, p_filter, p_limit;
  -- What these settings were: as "set local" they would otherwise last until the end of the transaction.
  execute format('set local hnsw.ef_search = %L', v_ef_search);
  if v_iterative is not null then
    execute format('set local hnsw.iterative_scan = %L', v_iterative);
    execute format('set local hnsw.max_scan_tuples = %L', v_max_scan_tuples);
  end if;
end
$$;

comment on function rowhouse.search_by_index(text, text, integer, jsonb, boolean, bigint) is
  'The nearest documents of the tenant, which has about p_documents, as its partition''s HNSW index finds them; fewer than p_limit when the index gave up.';

create or replace function rowhouse.search_documents(
  p_collection text,
  p_embedding text,
  p_limit integer default 10,
  p_filter jsonb default null,
  p_min_score double precision default null,
  p_strategy text default 'auto'
) returns table (
  tenant_id text, document_id text, content text, metadata jsonb,
  distance double precision, score double precision, strategy text
)
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_collection record;
  v_extent record;
  v_problem text;
  v_exact_limit integer;
  v_strategy text := 'exact';
  v_tenants text[];
  v_ids text[];
  v_contents text[];
  v_metadata jsonb[];
  v_distances double precision[];
begin
  perform rowhouse.require_tenant();
  select * into v_collection from rowhouse.locate_collection(p_collection);
  if p_limit is null or p_limit not between 1 and 1000 then
    raise exception using errcode = 'invalid_parameter_value', message = 'the limit of a search is 1 to 1000 documents';
  elsif p_strategy is null or p_strategy not in ('auto', 'exact', 'index') then
    raise exception using errcode = 'invalid_parameter_value', message = 'the strategy of a search is auto, exact or index';
  elsif jsonb_typeof(p_filter) <> 'object' then
    raise exception using errcode = 'invalid_parameter_value', message = 'the filter of a search is a JSON object';
  end if;
  -- Using the type also loads the library, which defines the settings of the index.
  v_problem := rowhouse.embedding_problem(p_collection, p_embedding);
  if v_problem is not null then
    raise exception using errcode = 'RH023', message = format('the embedding %s', v_problem);
  end if;

  if p_strategy <> 'exact' then
    v_exact_limit := case p_strategy when 'auto' then v_collection.exact_limit else 0 end;
    select * into v_extent from rowhouse.tenant_extent(p_collection, v_exact_limit);
    if v_extent.documents > v_exact_limit and rowhouse.has_vector_index(v_extent.leaf) then
      select array_agg(h.tenant_id), array_agg(h.document_id), array_agg(h.content), array_agg(h.metadata), array_agg(h.distance)
        into v_tenants, v_ids, v_contents, v_metadata, v_distances
        from rowhouse.search_by_index(
          p_collection, p_embedding, p_limit, p_filter, v_extent.own, v_extent.documents) h;
      -- An index gives up after a number of candidates. Whether there are more documents, only the exact search knows.
      if cardinality(v_ids) = p_limit then
        v_strategy := case when v_extent.own then 'own_index' else 'shared_index' end;
      end if;
    end if;
  end if;

  if v_strategy = 'exact' then
    select array_agg(h.tenant_id), array_agg(h.document_id), array_agg(h.content), array_agg(h.metadata), array_agg(h.distance)
      into v_tenants, v_ids, v_contents, v_metadata, v_distances
      from rowhouse.search_exactly(p_collection, p_embedding, p_limit, p_filter) h;
  end if;
  return query
    select s.* from (
      select h.*,
          case v_collection.metric
            when 'cosine' then 1 - h.distance
            when 'l2' then 1 / (1 + h.distance)
            else - h.distance
          end as score,
          v_strategy
        from unnest(v_tenants, v_ids, v_contents, v_metadata, v_distances) h (tenant_id, document_id, content, metadata, distance)
    ) s
    where p_min_score is null or s.score >= p_min_score
    order by s.distance, s.document_id;
end
$$;

comment on function rowhouse.search_documents(text, text, integer, jsonb, double precision, text) is
  'The nearest documents of the tenant, nearest first. p_embedding: as text, [1,2,3]. p_filter: only documents whose metadata contain this object. p_min_score: only documents at least this close. score: cosine 1 - distance, l2 1 / (1 + distance), inner_product the product itself; more is closer. p_strategy: auto searches a tenant with up to exact_limit documents exactly, which finds every neighbour, and a larger one by the HNSW index of its partition; exact and index insist. Fewer documents than p_limit come back only when there are no more: when the index finds too few, the search is repeated exactly. strategy says what found them: exact, shared_index (in a partition shared with other tenants) or own_index (of a promoted tenant). Raises RH020 (no such collection), RH023 (the embedding is invalid).';

revoke execute on function
  rowhouse.tenant_extent(text, integer), rowhouse.search_exactly(text, text, integer, jsonb),
  rowhouse.search_by_index(text, text, integer, jsonb, boolean, bigint),
  rowhouse.search_documents(text, text, integer, jsonb, double precision, text)
  from public;
grant execute on function
  rowhouse.tenant_extent(text, integer), rowhouse.search_exactly(text, text, integer, jsonb),
  rowhouse.search_by_index(text, text, integer, jsonb, boolean, bigint),
  rowhouse.search_documents(text, text, integer, jsonb, double precision, text)
  to rowhouse_app;
