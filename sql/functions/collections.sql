-- Collections: tables of documents with embeddings, one table for each collection, partitioned by tenant.
--
-- The table is made by the same functions as any tenant table (protect.sql, layout.sql), so policies, erasure and
-- promotion hold for it. The types and operators of pgvector are named with the schema that the extension lives in.
-- Depends on: rowhouse.collections, protect.sql, layout.sql, collections_index.sql. Proven by: test/documents/collections.test.ts.

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
      'dimensions', c.dimensions,
      'metric', c.metric,
      'elementType', c.element_type,
      'exactLimit', c.exact_limit,
      'efSearch', c.ef_search,
      'm', c.m,
      'efConstruction', c.ef_construction,
      'indexed', rowhouse.has_vector_index(c.relation),
      'createdAt', c.created_at)
    into v_result
    from rowhouse.collections c where c.name = p_name;
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
  p_exact_limit integer, p_ef_search integer, p_m integer, p_ef_construction integer
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
  end;
  if v_problem is not null then
    raise exception using errcode = 'RH021', message = v_problem;
  end if;
end
$$;

comment on function rowhouse.check_collection_arguments(text, integer, text, text, integer, integer, integer, integer) is
  'Raises RH021 with the first argument that no collection can have; null leaves a setting to its default.';

create or replace function rowhouse.create_documents_table(
  p_name text, p_dimensions integer, p_metric text, p_element_type text
) returns regclass
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_schema name := rowhouse.check_pgvector(p_element_type);
  v_table text := format('rowhouse.%I', 'documents_' || p_name);
  v_column record;
begin
  if to_regclass(v_table) is not null then
    raise exception using errcode = 'RH021',
      message = format('there is a table %s already, and it is not a collection', v_table),
      hint = 'Choose another name for the collection, or rename the table.';
  end if;
  execute format('create table %s ('
    'tenant_id text not null default rowhouse.require_tenant(), '
    'document_id text not null default gen_random_uuid()::text '
      'constraint document_id_length check (length(document_id) between 1 and 256), '
    'content text not null constraint content_length check (length(content) between 1 and 1000000), '
    'metadata jsonb not null default ''{}'' '
      'constraint metadata_object check (jsonb_typeof(metadata) = ''object'' and octet_length(metadata::text) <= 262144), '
    'embedding %I.%I(%s) not null, '
    'created_at timestamptz not null default now(), '
    'updated_at timestamptz not null default now(), '
    'primary key (tenant_id, document_id))', v_table, v_schema, p_element_type, p_dimensions);
  if p_metric = 'cosine' then
    -- Without a direction the distance is NaN: the index leaves such a vector out. So does one too long for its square.
    execute format('alter table %s add constraint embedding_direction check ((embedding operator(%I.<=>) embedding) < 1)',
      v_table, v_schema);
  end if;
  -- An exact search reads every embedding of the tenant. Kept in the row, that is one page instead of several reads of
  -- another table; then everything else but the content must stay in the row too, or it would be moved out instead.
  execute format('alter table %s alter column embedding set storage main, alter column metadata set storage main, '
    'alter column tenant_id set storage main, alter column document_id set storage main', v_table);

  execute format('comment on table %s is %L', v_table,
    format('Documents of the collection %s: %s(%s), %s distance.', p_name, p_element_type, p_dimensions, p_metric));
  for v_column in
    select * from (values
      ('tenant_id', 'The tenant that owns the document.'),
      ('document_id', 'Id within the tenant, chosen by the application or generated.'),
      ('content', 'The text that the embedding stands for.'),
      ('metadata', 'A JSON object; searches filter by what it contains.'),
      ('embedding', 'The position of the content in the space of the embedding model.'),
      ('created_at', 'When the document was first written.'),
      ('updated_at', 'When the document was last written.')
    ) c (name, description)
  loop
    execute format('comment on column %s.%I is %L', v_table, v_column.name, v_column.description);
  end loop;

  perform rowhouse.protect_table(v_table::regclass, 'tenant_id', p_partition => true);
  return v_table::regclass;
end
$$;

comment on function rowhouse.create_documents_table(text, integer, text, text) is
  'Makes the table of a collection, protected and partitioned by tenant, without its vector index.';

create or replace function rowhouse.create_collection(
  p_name text,
  p_dimensions integer,
  p_metric text default 'cosine',
  p_element_type text default 'vector',
  p_exact_limit integer default null,
  p_ef_search integer default null,
  p_m integer default null,
  p_ef_construction integer default null,
  p_index boolean default true
) returns jsonb
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_existing rowhouse.collections;
  v_conflict text;
begin
  perform rowhouse.check_collection_arguments(
    p_name, p_dimensions, p_metric, p_element_type, p_exact_limit, p_ef_search, p_m, p_ef_construction);
  -- Services create their collections whenever they start, so one that is there is found without waiting for anybody.
  select c.* into v_existing from rowhouse.collections c join pg_class t on t.oid = c.relation where c.name = p_name;
  if v_existing.name is null then
    -- One after another: the second of two identical calls finds the collection of the first.
    lock table rowhouse.collections in share row exclusive mode;
    delete from rowhouse.collections c where not exists (select from pg_class t where t.oid = c.relation);
    select c.* into v_existing from rowhouse.collections c where c.name = p_name;
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
    end;
    if v_conflict is not null then
      raise exception using errcode = 'RH021',
        message = format('collection "%s" exists already, with %s', p_name, v_conflict),
        hint = 'Dimensions, metric and element type never change: create another collection. The rest: configure_collection, index_collection.';
    end if;
    return rowhouse.describe_collection(p_name) || '{"created": false}';
  end if;

  insert into rowhouse.collections (name, relation, dimensions, metric, element_type, exact_limit, ef_search, m, ef_construction)
    values (p_name, rowhouse.create_documents_table(p_name, p_dimensions, p_metric, p_element_type),
      p_dimensions, p_metric, p_element_type,
      coalesce(p_exact_limit, rowhouse.default_exact_limit(p_dimensions)),
      coalesce(p_ef_search, 120), coalesce(p_m, 16), coalesce(p_ef_construction, 128));
  if p_index then
    perform rowhouse.index_collection(p_name);
  end if;
  return rowhouse.describe_collection(p_name) || '{"created": true}';
end
$$;

comment on function rowhouse.create_collection(text, integer, text, text, integer, integer, integer, integer, boolean) is
  'Creates a vector collection as the tenant-partitioned table rowhouse.documents_<name>, or returns the one that exists with these arguments (created: false). p_metric: cosine, inner_product or l2. p_element_type: vector (up to 2000 dimensions) or halfvec (up to 4000, half the memory). p_exact_limit: tenants with at most this many documents are searched exactly; by default as many as that takes no longer for than the index, 8600 of 128 dimensions, 3900 of 1536. p_ef_search, p_m, p_ef_construction: the HNSW settings of pgvector, by default 120 (twice as many candidates in a shared partition), 16, 128. p_index => false leaves the index to index_collection, for a bulk load before it. Raises RH021 (invalid or conflicting arguments), RH022 (pgvector is missing).';

create or replace function rowhouse.configure_collection(
  p_name text,
  p_exact_limit integer default null,
  p_ef_search integer default null
) returns jsonb
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform rowhouse.check_collection_arguments(p_name, 1, 'cosine', 'vector', p_exact_limit, p_ef_search, null, null);
  update rowhouse.collections c
    set exact_limit = coalesce(p_exact_limit, c.exact_limit), ef_search = coalesce(p_ef_search, c.ef_search)
    where c.name = p_name;
  return rowhouse.describe_collection(p_name);
end
$$;

comment on function rowhouse.configure_collection(text, integer, integer) is
  'Changes how a collection is searched: up to which number of documents exactly, and how thoroughly by the index. Null leaves a setting as it is. Raises RH020, RH021.';

create or replace function rowhouse.drop_collection(p_name text) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_relation regclass;
begin
  delete from rowhouse.collections c where c.name = p_name returning c.relation into v_relation;
  if v_relation is null then
    raise exception using errcode = 'RH020', message = format('collection "%s" does not exist', p_name);
  end if;
  delete from rowhouse.protected_tables t where t.relation = v_relation;
  -- By its identity, whatever it is called now; dropped by hand, it is gone already.
  if exists (select from pg_class t where t.oid = v_relation) then
    execute format('drop table %s', v_relation);
  end if;
end
$$;

comment on function rowhouse.drop_collection(text) is
  'Drops a collection with the documents of all tenants. Raises RH020 when there is none of this name.';

revoke execute on function
  rowhouse.describe_collection(text),
  rowhouse.check_collection_arguments(text, integer, text, text, integer, integer, integer, integer),
  rowhouse.create_documents_table(text, integer, text, text),
  rowhouse.create_collection(text, integer, text, text, integer, integer, integer, integer, boolean),
  rowhouse.configure_collection(text, integer, integer), rowhouse.drop_collection(text)
  from public;
grant execute on function
  rowhouse.create_collection(text, integer, text, text, integer, integer, integer, integer, boolean),
  rowhouse.configure_collection(text, integer, integer), rowhouse.drop_collection(text)
  to rowhouse_admin;
grant execute on function rowhouse.describe_collection(text) to rowhouse_app, rowhouse_admin;
