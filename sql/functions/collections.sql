-- Collections: tables of documents with embeddings, one table for each collection, partitioned by tenant.
--
-- The table is made by the same functions as any tenant table (protect.sql, layout.sql), so policies, erasure and
-- promotion hold for it. The types and operators of pgvector are named with the schema that the extension lives in.
-- Depends on: rowhouse.collections, collections_tables.sql, collections_index.sql. Proven by: test/documents/collections.test.ts.

alter table rowhouse.collections enable row level security, force row level security;
drop policy if exists everybody_reads on rowhouse.collections;
create policy everybody_reads on rowhouse.collections for select to public using (true);
comment on policy everybody_reads on rowhouse.collections is 'Names and settings of collections; no data of tenants.';
drop policy if exists owner_all on rowhouse.collections;
create policy owner_all on rowhouse.collections for all to rowhouse_owner using (true) with check (true);
comment on policy owner_all on rowhouse.collections is 'The functions of rowhouse write the registry.';
revoke all on rowhouse.collections from public, rowhouse_app, rowhouse_admin;
grant select on rowhouse.collections to rowhouse_app, rowhouse_admin;

create or replace function rowhouse.describe_collection(p_name text) returns jsonb
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_result jsonb;
begin
  select jsonb_build_object(
      'name', c.name,
      'table', c.relation::text,
      'parentsTable', c.parents::text,
      'version', c.version,
      'model', c.model,
      'language', c.language,
      'dimensions', c.dimensions,
      'metric', c.metric,
      'elementType', c.element_type,
      'exactLimit', c.exact_limit,
      'efSearch', c.ef_search,
      'm', c.m,
      'efConstruction', c.ef_construction,
      'indexed', rowhouse.has_index(c.relation, 'hnsw'),
      'createdAt', c.created_at,
      'change', (
        select jsonb_build_object('state', o.state, 'model', o.model, 'dimensions', o.dimensions, 'table', o.relation::text,
            'indexed', rowhouse.has_index(o.relation, 'hnsw'))
          from rowhouse.collections o where o.name = c.name and o.state <> 'current'))
    into v_result
    from rowhouse.collections c where c.name = p_name and c.state = 'current';
  if v_result is null then
    raise exception using errcode = 'RH020', message = format('collection "%s" does not exist', p_name);
  end if;
  return v_result;
end
$$;

comment on function rowhouse.describe_collection(text) is
  'Everything about a collection as one object; raises RH020 when there is none of this name.';

create or replace function rowhouse.check_collection_arguments(
  p_name text, p_dimensions integer, p_metric text, p_element_type text,
  p_exact_limit integer, p_ef_search integer, p_m integer, p_ef_construction integer, p_model text default null
) returns void
  language plpgsql immutable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_problem text;
begin
  v_problem := case
    when p_name is null or p_name !~ '^[a-z][a-z0-9_]{0,47}$' then
      'the name of a collection is 1 to 48 small letters, digits or underscores and begins with a letter'
    when p_metric is null or p_metric not in ('cosine', 'inner_product', 'l2') then
      'the metric of a collection is cosine, inner_product or l2'
    when p_element_type is null or p_element_type not in ('vector', 'halfvec') then
      'the element type of a collection is vector or halfvec'
    when p_dimensions is null or p_dimensions < 1 then
      'a collection has at least 1 dimension'
    when p_element_type = 'vector' and p_dimensions between 2001 and 4000 then
      format('an index over the element type vector has at most 2000 dimensions, not %s; the element type halfvec goes up to 4000', p_dimensions)
    when p_dimensions > 4000 then
      format('a collection has at most 2000 dimensions (vector) or 4000 (halfvec), not %s', p_dimensions)
    when p_exact_limit not between 0 and 1000000 then 'exact_limit is 0 to 1000000 documents'
    when p_ef_search not between 1 and 1000 then 'ef_search is 1 to 1000'
    when p_m not between 2 and 100 then 'm is 2 to 100'
    when p_ef_construction not between 4 and 1000 then 'ef_construction is 4 to 1000'
    when coalesce(p_ef_construction, 128) < 2 * coalesce(p_m, 16) then 'ef_construction is at least twice m'
    when length(p_model) not between 1 and 200 then 'the name of a model is 1 to 200 characters'
  end;
  if v_problem is not null then
    raise exception using errcode = 'RH021', message = v_problem;
  end if;
end
$$;

comment on function rowhouse.check_collection_arguments(text, integer, text, text, integer, integer, integer, integer, text) is
  'Raises RH021 with the first argument that no collection can have; null leaves a setting to its default.';

create or replace function rowhouse.forget_dropped_collections() returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_parents regclass[];
begin
  with gone as (
    delete from rowhouse.collections c where not exists (select from pg_class t where t.oid = c.relation)
      returning c.name, c.version, c.parents)
    select array_agg(distinct g.parents) into v_parents from gone g
      where not exists (select from rowhouse.collections o where o.name = g.name and (o.name, o.version) not in (select n.name, n.version from gone n));
  if v_parents is not null then
    perform rowhouse.drop_registered_tables(v_parents);
  end if;
end
$$;

comment on function rowhouse.forget_dropped_collections() is
  'Takes collections whose tables somebody dropped out of the registry, and drops what is left of them.';

create or replace function rowhouse.create_collection(
  p_name text,
  p_dimensions integer,
  p_metric text default 'cosine',
  p_element_type text default 'vector',
  p_exact_limit integer default null,
  p_ef_search integer default null,
  p_m integer default null,
  p_ef_construction integer default null,
  p_index boolean default true,
  p_language text default null,
  p_model text default null
) returns jsonb
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_existing rowhouse.collections;
  v_conflict text;
  v_language text;
  v_parents regclass;
begin
  perform rowhouse.check_collection_arguments(
    p_name, p_dimensions, p_metric, p_element_type, p_exact_limit, p_ef_search, p_m, p_ef_construction, p_model);
  v_language := rowhouse.check_language(p_language);
  -- Services create their collections whenever they start, so one that is there is found without waiting for anybody.
  select c.* into v_existing from rowhouse.collections c join pg_class t on t.oid = c.relation where c.name = p_name and c.state = 'current';
  if v_existing.name is null then
    -- One after another: the second of two identical calls finds the collection of the first.
    lock table rowhouse.collections in share row exclusive mode;
    perform rowhouse.forget_dropped_collections();
    select c.* into v_existing from rowhouse.collections c where c.name = p_name and c.state = 'current';
  end if;
  if v_existing.name is not null then
    v_conflict := case
      when v_existing.dimensions <> p_dimensions then format('%s dimensions', v_existing.dimensions)
      when v_existing.metric <> p_metric then format('the metric %s', v_existing.metric)
      when v_existing.element_type <> p_element_type then format('the element type %s', v_existing.element_type)
      when v_existing.exact_limit <> p_exact_limit then format('exact_limit %s', v_existing.exact_limit)
      when v_existing.ef_search <> p_ef_search then format('ef_search %s', v_existing.ef_search)
      when v_existing.m <> p_m then format('m %s', v_existing.m)
      when v_existing.ef_construction <> p_ef_construction then format('ef_construction %s', v_existing.ef_construction)
      when p_language is not null and v_existing.language <> v_language then format('the language %s', v_existing.language)
      when v_existing.model <> p_model then format('the model "%s"', v_existing.model)
    end;
    if v_conflict is not null then
      raise exception using errcode = 'RH021',
        message = format('collection "%s" exists already, with %s', p_name, v_conflict),
        hint = 'The language never changes: create another collection. Model, dimensions, metric and element type: begin_model_change. The rest: configure_collection, index_collection.';
    end if;
    return rowhouse.describe_collection(p_name) || '{"created": false}';
  end if;

  -- First what may be missing.
  perform rowhouse.check_pgvector(p_element_type);
  v_parents := rowhouse.create_parents_table(p_name);
  insert into rowhouse.collections (name, relation, parents, model, language, dimensions, metric, element_type,
      exact_limit, ef_search, m, ef_construction)
    values (p_name, rowhouse.create_documents_table(format('rowhouse.%I', 'documents_' || p_name), p_name, p_dimensions, p_metric,
        p_element_type, v_language, v_parents), v_parents, p_model, v_language, p_dimensions, p_metric, p_element_type,
      coalesce(p_exact_limit, rowhouse.default_exact_limit(p_dimensions)),
      coalesce(p_ef_search, 120), coalesce(p_m, 16), coalesce(p_ef_construction, 128));
  if p_index then
    perform rowhouse.index_collection(p_name);
  end if;
  return rowhouse.describe_collection(p_name) || '{"created": true}';
end
$$;

comment on function rowhouse.create_collection(text, integer, text, text, integer, integer, integer, integer, boolean, text, text) is
  'Creates a vector collection as the tenant-partitioned table rowhouse.documents_<name>, or returns the one that exists with these arguments (created: false). p_metric: cosine, inner_product or l2. p_element_type: vector (up to 2000 dimensions) or halfvec (up to 4000, half the memory). p_exact_limit: tenants with at most this many documents are searched exactly; by default as many as that takes no longer for than the index, 8600 of 128 dimensions, 3900 of 1536. p_ef_search, p_m, p_ef_construction: the HNSW settings of pgvector, by default 120 (twice as many candidates in a shared partition), 16, 128. p_index => false leaves the indexes to index_collection, for a bulk load before it. p_language: the text search configuration of full-text search, english by default; none leaves it out. p_model: the name of the embedding model, so that embeddings of another are refused. Raises RH021 (invalid or conflicting arguments), RH022 (pgvector is missing).';

create or replace function rowhouse.configure_collection(
  p_name text,
  p_exact_limit integer default null,
  p_ef_search integer default null,
  p_model text default null
) returns jsonb
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform rowhouse.check_collection_arguments(p_name, 1, 'cosine', 'vector', p_exact_limit, p_ef_search, null, null, p_model);
  if exists (select from rowhouse.collections c where c.name = p_name and c.state = 'current' and c.model <> p_model) then
    raise exception using errcode = 'RH021', message = format('collection "%s" has another model than "%s"', p_name, p_model),
      hint = 'Another model: begin_model_change.';
  end if;
  update rowhouse.collections c
    set exact_limit = coalesce(p_exact_limit, c.exact_limit), ef_search = coalesce(p_ef_search, c.ef_search),
      model = coalesce(c.model, p_model)
    where c.name = p_name and c.state = 'current';
  return rowhouse.describe_collection(p_name);
end
$$;

comment on function rowhouse.configure_collection(text, integer, integer, text) is
  'Changes how a collection is searched: up to which number of documents exactly, and how thoroughly by the index. p_model names the embedding model of a collection that has no name of it yet. Null leaves a setting as it is. Raises RH020, RH021.';

create or replace function rowhouse.drop_registered_tables(p_relations regclass[]) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_relation regclass;
begin
  foreach v_relation in array p_relations loop
    delete from rowhouse.protected_tables t where t.relation = v_relation;
    -- By its identity, whatever it is called now; dropped by hand, it is gone already.
    if exists (select from pg_class t where t.oid = v_relation) then
      execute format('drop table %s', v_relation);
    end if;
  end loop;
end
$$;

comment on function rowhouse.drop_registered_tables(regclass[]) is
  'Drops tables of a collection, in this order, with the rows of all tenants.';

create or replace function rowhouse.drop_collection(p_name text) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_relations regclass[];
begin
  with gone as (delete from rowhouse.collections c where c.name = p_name returning c.relation, c.parents)
    select array_agg(g.relation) || array_agg(distinct g.parents) into v_relations from gone g;
  if v_relations is null then
    raise exception using errcode = 'RH020', message = format('collection "%s" does not exist', p_name);
  end if;
  perform rowhouse.drop_registered_tables(v_relations);
end
$$;

comment on function rowhouse.drop_collection(text) is
  'Drops a collection with the documents of all tenants. Raises RH020 when there is none of this name.';

revoke execute on function
  rowhouse.describe_collection(text),
  rowhouse.check_collection_arguments(text, integer, text, text, integer, integer, integer, integer, text),
    rowhouse.create_collection(text, integer, text, text, integer, integer, integer, integer, boolean, text, text),
  rowhouse.configure_collection(text, integer, integer, text), rowhouse.drop_registered_tables(regclass[]), rowhouse.forget_dropped_collections(),
  rowhouse.drop_collection(text)
  from public;
grant execute on function
  rowhouse.create_collection(text, integer, text, text, integer, integer, integer, integer, boolean, text, text),
  rowhouse.configure_collection(text, integer, integer, text), rowhouse.drop_collection(text)
  to rowhouse_admin;
grant execute on function rowhouse.describe_collection(text) to rowhouse_app, rowhouse_admin;
