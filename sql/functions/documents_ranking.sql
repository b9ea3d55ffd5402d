-- Search: by vectors, by words or by both, ranked as one list, diverse where asked for, a page of it.
--
-- Both ranked lists are merged by reciprocal rank fusion: only places count, so distances and ranks need no common
-- scale. Every function runs with the rights of its caller; find_words alone does not.
-- Depends on: documents_search.sql, documents_text.sql. Proven by: test/documents/hybrid.test.ts, diversity.test.ts,
-- npm run bench -- search.

create or replace function rowhouse.check_search(
  p_mode text, p_embedding text, p_text text, p_limit integer, p_offset integer, p_strategy text, p_vector_weight double precision,
  p_text_weight double precision, p_rank_constant integer, p_candidates integer, p_diversity double precision
) returns void
  language plpgsql immutable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_problem text;
begin
  v_problem := case
    when p_mode is null or p_mode not in ('vector', 'text', 'hybrid') then 'the mode of a search is vector, text or hybrid'
    when p_mode in ('text', 'hybrid') and p_text is null then format('a search in mode %s needs a text', p_mode)
    when p_limit is null or p_limit not between 1 and 1000 then 'the limit of a search is 1 to 1000 documents'
    when p_offset is null or p_offset < 0 or p_offset + p_limit > 1000 then 'limit and offset of a search are together at most 1000'
    when p_strategy is null or p_strategy not in ('auto', 'exact', 'index') then 'the strategy of a search is auto, exact or index'
    when p_candidates not between 1 and 1000 then 'the candidates of a search are 1 to 1000'
    when p_vector_weight is null or p_text_weight is null or not (p_vector_weight >= 0 and p_text_weight >= 0
      and p_vector_weight + p_text_weight > 0 and p_vector_weight + p_text_weight < 1e6) then 'the weights of a search are 0 to 1000000, and not both 0'
    when p_rank_constant is null or p_rank_constant not between 1 and 10000 then 'the rank constant of a search is 1 to 10000'
    when not (p_diversity between 0 and 1) then 'the diversity of a search is 0 to 1'
    when p_diversity > 0 and p_limit + p_offset > 200 then 'a diverse search finds at most 200 documents'
  end;
  if v_problem is not null then
    raise exception using errcode = 'invalid_parameter_value', message = v_problem;
  elsif p_mode in ('vector', 'hybrid') and p_embedding is null then
    raise exception using errcode = 'RH023', message = 'the embedding is missing';
  end if;
end
$$;

comment on function rowhouse.check_search(text, text, text, integer, integer, text, double precision, double precision, integer, integer, double precision) is
  'Raises 22023 or RH023 with the first argument that no search can have.';

create or replace function rowhouse.diversify(
  p_relation regclass, p_ids text[], p_scores double precision[], p_count integer, p_diversity double precision
) returns integer[]
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
  set jit = off
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_schema name := rowhouse.pgvector_schema();
  v_size integer := cardinality(p_ids);
  v_lowest double precision := p_scores[cardinality(p_scores)];
  v_range double precision := p_scores[1] - p_scores[cardinality(p_scores)];
  v_similarities double precision[];
  v_nearest double precision[] := array_fill(-1::double precision, array[v_size]);
  v_chosen integer[] := '{}';
  v_best integer;
  v_value double precision;
  v_best_value double precision;
begin
  -- All pairs at once, in the order of the ids; the embeddings stay where they are.
  execute format('with c as materialized ('
    'select u.place, d.embedding from unnest($2) with ordinality u (id, place) join %s d on d.tenant_id = $1 and d.document_id = u.id) '
    'select array_agg(case when s.similarity = ''NaN'' then 0 else s.similarity end order by s.one, s.other) from ('
    'select a.place as one, b.place as other, 1 - (a.embedding operator(%I.<=>) b.embedding) as similarity from c a cross join c b) s',
    p_relation, v_schema) into v_similarities using v_tenant, p_ids;
  if cardinality(v_similarities) is distinct from v_size * v_size then
    -- One was deleted since it was found.
    return array(select generate_series(1, least(v_size, p_count)));
  end if;
  while cardinality(v_chosen) < least(v_size, p_count) loop
    v_best := null;
    for v_place in 1 .. v_size loop
      continue when v_place = any (v_chosen);
      v_value := (1 - p_diversity) * case when v_range > 0 then (p_scores[v_place] - v_lowest) / v_range else 1 end
        - p_diversity * v_nearest[v_place];
      if v_best is null or v_value > v_best_value then
        v_best := v_place;
        v_best_value := v_value;
      end if;
    end loop;
    v_chosen := v_chosen || v_best;
    for v_place in 1 .. v_size loop
      v_nearest[v_place] := greatest(v_nearest[v_place], v_similarities[(v_best - 1) * v_size + v_place]);
    end loop;
  end loop;
  return v_chosen;
end
$$;

comment on function rowhouse.diversify(regclass, text[], double precision[], integer, double precision) is
  'Maximal marginal relevance: places of the documents to take, one after another, each the best by score and by how little it resembles (cosine) those before it. Scores, highest first, count from 0 to 1 within the candidates.';

create or replace function rowhouse.read_hits(p_relation regclass, p_ids text[], p_embedding text)
  returns setof rowhouse.document_hit
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_collection record;
begin
  select * into v_collection from rowhouse.locate_collection(null, null, p_relation);
  return query execute format('select d.tenant_id, d.document_id, d.content, d.metadata, d.title, d.source, d.parent_id, d.place, '
    'd.embedding %s $3::%s, null::double precision, null::text, null::integer, null::integer, null::double precision, null::text '
    'from %s d where d.tenant_id = $1 and d.document_id = any ($2)', v_collection.operator, v_collection.type, p_relation)
    using v_tenant, p_ids, p_embedding;
end
$$;

comment on function rowhouse.read_hits(regclass, text[], text) is
  'The documents of the tenant with these ids, with the rights of the caller, and their distances to an embedding where one is given.';

create or replace function rowhouse.search_documents(
  p_collection text,
  p_embedding text default null,
  p_limit integer default 10,
  p_filter jsonb default null,
  p_min_score double precision default null,
  p_strategy text default 'auto',
  p_text text default null,
  p_mode text default null,
  p_match text default 'all',
  p_vector_weight double precision default 1,
  p_text_weight double precision default 1,
  p_rank_constant integer default 60,
  p_candidates integer default null,
  p_diversity double precision default null,
  p_offset integer default 0,
  p_model text default null
) returns setof rowhouse.document_hit
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  -- Its own statements work on arrays: a plan for each call takes longer than to run it.
  set plan_cache_mode = force_generic_plan
  set jit = off
as $$
declare
  v_mode text := coalesce(p_mode, case when p_text is null then 'vector' when p_embedding is null then 'text' else 'hybrid' end);
  v_collection record;
  v_window integer;
  v_problem text;
  v_nearest record;
  v_words record;
  v_ids text[];
  v_scores double precision[];
  v_places integer[];
begin
  perform rowhouse.require_tenant();
  perform rowhouse.check_search(v_mode, p_embedding, p_text, p_limit, p_offset, p_strategy, p_vector_weight, p_text_weight,
    p_rank_constant, p_candidates, p_diversity);
  -- Once: whatever happens to the collection meanwhile, this is the version that is searched. Under the lock, and with a
  -- snapshot taken after it, because the end of a change of the model drops one.
  lock table rowhouse.collections in access share mode;
  select * into v_collection from rowhouse.locate_collection(p_collection, p_model);
  if p_model is null and v_mode <> 'text' then
    perform rowhouse.refuse_unnamed_model(p_collection);
  end if;
  v_window := coalesce(p_candidates, case
    when v_mode = 'hybrid' or p_diversity > 0 then least(1000, greatest(50, 4 * (p_limit + p_offset)))
    else p_limit + p_offset end);
  if p_diversity > 0 then
    v_window := least(v_window, 200);
  end if;
  select null::rowhouse.document_hit[] as hits, null::text as strategy, null::regclass as leaf, null::bigint as documents into v_nearest;
  select null::text[] as ids, null::double precision[] as ranks, null::text as strategy into v_words;
  if v_mode <> 'text' then
    -- Using the type also loads the library, which defines the settings of the index.
    v_problem := rowhouse.embedding_problem(v_collection.relation, p_embedding);
    if v_problem is not null then
      raise exception using errcode = 'RH023', message = format('the embedding %s', v_problem);
    end if;
  end if;
  if v_mode <> 'vector' then
    perform rowhouse.check_text_search(v_collection.language, p_text, p_match);
  end if;
  if v_mode <> 'text' then
    select * into v_nearest from rowhouse.search_nearest(v_collection.relation, p_embedding, v_window, p_filter, p_strategy);
  end if;
  if v_mode <> 'vector' then
    select * into v_words from rowhouse.search_words(
      v_collection.relation, p_text, p_match, v_window, p_filter, v_nearest.leaf, v_nearest.documents);
  end if;

  select array_agg(c.id order by c.score desc, c.distance, c.id), array_agg(c.score order by c.score desc, c.distance, c.id)
    into v_ids, v_scores
    from (
      select coalesce(v.document_id, t.id) as id, v.distance, case
          when v_mode = 'text' then t.rank
          when v_mode = 'hybrid' then (coalesce(p_vector_weight / (p_rank_constant + v.ordinality), 0)
            + coalesce(p_text_weight / (p_rank_constant + t.place), 0)) * (p_rank_constant + 1) / (p_vector_weight + p_text_weight)
          when v_collection.metric = 'cosine' then 1 - v.distance
          when v_collection.metric = 'l2' then 1 / (1 + v.distance)
          else - v.distance
        end as score
        from (select n.document_id, n.distance, n.ordinality from unnest(v_nearest.hits) with ordinality n) v
        full join unnest(v_words.ids, v_words.ranks) with ordinality t (id, rank, place) on t.id = v.document_id
    ) c
    where p_min_score is null or c.score >= p_min_score;
  v_places := case when p_diversity > 0 and cardinality(v_ids) > 1
    then rowhouse.diversify(v_collection.relation, v_ids[:200], v_scores[:200], p_limit + p_offset, p_diversity)
    else array(select generate_series(1, cardinality(v_ids))) end;
  v_places := v_places[p_offset + 1 : p_offset + p_limit];
  v_ids := array(select v_ids[p.place] from unnest(v_places) with ordinality p (place, number) order by p.number);
  v_scores := array(select v_scores[p.place] from unnest(v_places) with ordinality p (place, number) order by p.number);

  return query
    with hits as materialized (
      select h.* from unnest(v_nearest.hits) h where v_mode = 'vector'
      union all
      select h.* from rowhouse.read_hits(v_collection.relation, v_ids, p_embedding) h where v_mode <> 'vector'
    )
    select h.tenant_id, h.document_id, h.content, h.metadata, h.title, h.source, h.parent_id, h.place, h.distance, f.score,
        v_nearest.strategy, v.place::integer, t.place::integer, t.rank, v_words.strategy
      from unnest(v_ids, v_scores) with ordinality f (id, score, number)
      join hits h on h.document_id = f.id
      left join (select n.document_id, n.ordinality as place from unnest(v_nearest.hits) with ordinality n) v on v.document_id = f.id
      left join unnest(v_words.ids, v_words.ranks) with ordinality t (id, rank, place) on t.id = f.id
      order by f.number;
end
$$;

comment on function rowhouse.search_documents(text, text, integer, jsonb, double precision, text, text, text, text, double precision, double precision, integer, integer, double precision, integer, text) is
  'Searches the documents of the tenant, best first. p_embedding: as text, [1,2,3]. p_text: words as people type them (all of them, "a phrase", or, -not; p_match any: one of them is enough). p_mode: vector, text or hybrid; by default by what is given. p_filter: compile_filter. score: of vectors cosine 1 - distance, l2 1 / (1 + distance), inner_product the product; of words ts_rank; of both the reciprocal rank fusion of the two lists, weight / (p_rank_constant + rank), as a part of the highest one there can be, 1. p_min_score: only documents with at least this score. p_strategy: auto searches the vectors of a tenant with up to exact_limit documents exactly, which finds every neighbour, and of a larger one by the HNSW index of its partition; exact and index insist. p_candidates: how many of each list are looked at, by default the limit, in mode hybrid and with p_diversity four times as many and at least 50. p_diversity: 0 to 1, how much a document that resembles a better one loses (maximal marginal relevance), at most 200 candidates. p_offset: where a page begins; the pages of one list have the same p_candidates. p_model: what made the embedding. strategy and text_strategy say what found the documents: exact, shared_index (of a partition shared with other tenants) or own_index (of a promoted tenant), and scan or index; vector_rank, text_rank: the places in the two lists. Fewer documents than p_limit come back only when there are no more among the candidates. Raises RH020 (no such collection), RH021 (it has no full-text search), RH023 (the embedding is invalid), RH025 (the filter is invalid), RH026 (another model).';

revoke execute on function
  rowhouse.check_search(text, text, text, integer, integer, text, double precision, double precision, integer, integer, double precision),
  rowhouse.diversify(regclass, text[], double precision[], integer, double precision), rowhouse.read_hits(regclass, text[], text),
  rowhouse.search_documents(text, text, integer, jsonb, double precision, text, text, text, text, double precision, double precision, integer, integer, double precision, integer, text)
  from public;
grant execute on function
  rowhouse.check_search(text, text, text, integer, integer, text, double precision, double precision, integer, integer, double precision),
  rowhouse.diversify(regclass, text[], double precision[], integer, double precision), rowhouse.read_hits(regclass, text[], text),
  rowhouse.search_documents(text, text, integer, jsonb, double precision, text, text, text, text, double precision, double precision, integer, integer, double precision, integer, text)
  to rowhouse_app;
