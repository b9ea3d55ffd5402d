-- Documents: write, read, count and delete the documents of one tenant in a collection.
--
-- Every function runs with the rights of its caller, under row-level security, for the tenant of the transaction, and
-- says so in its own condition as well. Embeddings come as text, '[1,2,3]', because the types of pgvector exist only
-- where the extension is installed.
-- Depends on: collections.sql, context.sql. Proven by: test/documents.

create or replace function rowhouse.locate_collection(
  p_name text,
  out relation regclass, out type text, out operator text, out metric text, out exact_limit integer, out ef_search integer
)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_collection record;
begin
  -- The table may have been dropped by hand.
  select c.*, n.nspname as pgvector_schema into v_collection
    from rowhouse.collections c
    join pg_class t on t.oid = c.relation
    left join pg_extension e on e.extname = 'vector'
    left join pg_namespace n on n.oid = e.extnamespace
    where c.name = p_name;
  if v_collection.name is null then
    raise exception using errcode = 'RH020', message = format('collection "%s" does not exist', p_name);
  end if;
  v_collection.pgvector_schema := coalesce(v_collection.pgvector_schema, rowhouse.pgvector_schema());
  relation := v_collection.relation;
  type := format('%I.%I(%s)', v_collection.pgvector_schema, v_collection.element_type, v_collection.dimensions);
  operator := format('operator(%I.%s)', v_collection.pgvector_schema,
    case v_collection.metric when 'cosine' then '<=>' when 'l2' then '<->' else '<#>' end);
  metric := v_collection.metric;
  exact_limit := v_collection.exact_limit;
  ef_search := v_collection.ef_search;
end
$$;

comment on function rowhouse.locate_collection(text) is
  'What statements on a collection are put together from; raises RH020 when there is none of this name.';

create or replace function rowhouse.embedding_problem(p_collection text, p_embedding text) returns text
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_collection record;
  v_has_direction boolean;
begin
  select * into v_collection from rowhouse.locate_collection(p_collection);
  if p_embedding is null then
    return 'is missing';
  end if;
  execute format('select (s.e %s s.e) < 1 from (select $1::%s as e) s', v_collection.operator, v_collection.type)
    into v_has_direction using p_embedding;
  return case when v_collection.metric = 'cosine' and not v_has_direction then
    'has no direction: it is all zeros, or its length is out of range' end;
exception
  when invalid_text_representation then
    return 'is no list of numbers such as [1,2,3]';
  when data_exception then
    return format('is invalid: %s', sqlerrm);
end
$$;

comment on function rowhouse.embedding_problem(text, text) is
  'What keeps an embedding out of a collection, in words; null when nothing does. Raises RH020.';

create or replace function rowhouse.check_documents(
  p_document_ids text[], p_contents text[], p_embeddings text[], p_metadata jsonb[]
) returns void
  language plpgsql immutable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_count integer := cardinality(p_contents);
  v_problem record;
begin
  if coalesce(v_count, 0) = 0 then
    raise exception using errcode = 'RH024', message = 'there is no document to write';
  elsif cardinality(p_embeddings) is distinct from v_count or cardinality(p_document_ids) <> v_count
      or cardinality(p_metadata) <> v_count then
    raise exception using errcode = 'RH024', message = 'ids, contents, embeddings and metadata are not equally many';
  end if;
  select d.place, d.id, d.problem into v_problem
    from (
      select u.place, u.id, case
          when u.id = '' then 'has an empty id'
          when length(u.id) > 256 then 'has an id of more than 256 characters'
          when u.content is null or u.content = '' then 'has no content'
          when length(u.content) > 1000000 then 'has content of more than 1000000 characters'
          when jsonb_typeof(u.metadata) <> 'object' then 'has metadata that is no JSON object'
          when octet_length(u.metadata::text) > 262144 then 'has metadata of more than 262144 bytes'
        end as problem
        from unnest(p_document_ids, p_contents, p_metadata) with ordinality u (id, content, metadata, place)
      union all
      select max(u.place), u.id, 'has the id of another document of this call'
        from unnest(p_document_ids) with ordinality u (id, place)
        where u.id is not null
        group by u.id having count(*) > 1
    ) d
    where d.problem is not null
    order by d.place
    limit 1;
  if v_problem.place is not null then
    raise exception using errcode = 'RH024',
      message = format('document %s %s',
        coalesce('"' || left(nullif(v_problem.id, ''), 256) || '"', format('%s of %s', v_problem.place, v_count)), v_problem.problem);
  end if;
end
$$;

comment on function rowhouse.check_documents(text[], text[], text[], jsonb[]) is
  'Raises RH024 with the first document that cannot be written; the type checks the embeddings later.';

create or replace function rowhouse.upsert_documents(
  p_collection text,
  p_document_ids text[],
  p_contents text[],
  p_embeddings text[],
  p_metadata jsonb[] default null
) returns text[]
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_collection record;
  v_ids text[];
  v_message text;
  v_problem text;
begin
  select * into v_collection from rowhouse.locate_collection(p_collection);
  perform rowhouse.check_documents(p_document_ids, p_contents, p_embeddings, p_metadata);
  select array_agg(coalesce(u.id, gen_random_uuid()::text) order by u.place) into v_ids
    from unnest(p_document_ids, p_contents) with ordinality u (id, content, place);
  begin
    -- In the order of the ids: two calls that write the same documents wait for each other instead of deadlocking.
    execute format('insert into %s (tenant_id, document_id, content, metadata, embedding) '
      'select $1, u.id, u.content, coalesce(u.metadata, ''{}''), u.embedding::%s '
      'from unnest($2, $3, $4, $5) u (id, content, metadata, embedding) order by u.id collate "C" '
      'on conflict (tenant_id, document_id) do update set content = excluded.content, metadata = excluded.metadata, '
      'embedding = excluded.embedding, updated_at = excluded.updated_at',
      v_collection.relation, v_collection.type)
      using v_tenant, v_ids, p_contents, p_metadata, p_embeddings;
  exception
    when data_exception or check_violation or not_null_violation then
      v_message := sqlerrm;
      for v_place in 1 .. cardinality(p_embeddings) loop
        v_problem := rowhouse.embedding_problem(p_collection, p_embeddings[v_place]);
        if v_problem is not null then
          raise exception using errcode = 'RH023',
            message = format('the embedding of document %s %s',
              coalesce('"' || p_document_ids[v_place] || '"', format('%s of %s', v_place, cardinality(p_embeddings))), v_problem);
        end if;
      end loop;
      raise exception using errcode = 'RH024', message = format('the documents cannot be written: %s', v_message);
  end;
  return v_ids;
end
$$;

comment on function rowhouse.upsert_documents(text, text[], text[], text[], jsonb[]) is
  'Writes documents of the tenant: element n of each array belongs to document n. A document whose id exists is replaced. p_document_ids: null, or null for single documents, generates uuids. p_embeddings: as text, [1,2,3]. p_metadata: JSON objects; null is {}. Returns the ids in the given order. All are written or none: raises RH020 (no such collection), RH023 (an embedding is invalid), RH024 (a document is invalid, or two have one id).';

create or replace function rowhouse.get_documents(p_collection text, p_document_ids text[])
  returns table (
    tenant_id text, document_id text, content text, metadata jsonb, created_at timestamptz, updated_at timestamptz
  )
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_collection record;
begin
  select * into v_collection from rowhouse.locate_collection(p_collection);
  return query execute format(
    'select d.tenant_id, d.document_id, d.content, d.metadata, d.created_at, d.updated_at '
    'from %s d where d.tenant_id = $1 and d.document_id = any ($2)', v_collection.relation)
    using v_tenant, p_document_ids;
end
$$;

comment on function rowhouse.get_documents(text, text[]) is
  'The documents of the tenant with these ids, in no particular order; ids that do not exist are left out. Raises RH020.';

create or replace function rowhouse.delete_documents(p_collection text, p_document_ids text[]) returns bigint
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_collection record;
  v_deleted bigint;
begin
  select * into v_collection from rowhouse.locate_collection(p_collection);
  execute format('delete from %s d where d.tenant_id = $1 and d.document_id = any ($2)', v_collection.relation)
    using v_tenant, p_document_ids;
  get diagnostics v_deleted = row_count;
  return v_deleted;
end
$$;

comment on function rowhouse.delete_documents(text, text[]) is
  'Deletes the documents of the tenant with these ids and returns how many there were. Raises RH020.';

create or replace function rowhouse.count_documents(p_collection text, p_filter jsonb default null) returns bigint
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_collection record;
  v_count bigint;
begin
  select * into v_collection from rowhouse.locate_collection(p_collection);
  if jsonb_typeof(p_filter) <> 'object' then
    raise exception using errcode = 'invalid_parameter_value', message = 'the filter is a JSON object';
  end if;
  execute format('select count(*) from %s d where d.tenant_id = $1 and ($2 is null or d.metadata @> $2)', v_collection.relation)
    into v_count using v_tenant, p_filter;
  return v_count;
end
$$;

comment on function rowhouse.count_documents(text, jsonb) is
  'The number of documents of the tenant, or of those whose metadata contain p_filter. Raises RH020.';

revoke execute on function
  rowhouse.locate_collection(text), rowhouse.embedding_problem(text, text),
  rowhouse.check_documents(text[], text[], text[], jsonb[]),
  rowhouse.upsert_documents(text, text[], text[], text[], jsonb[]),
  rowhouse.get_documents(text, text[]), rowhouse.delete_documents(text, text[]), rowhouse.count_documents(text, jsonb)
  from public;
grant execute on function
  rowhouse.locate_collection(text), rowhouse.embedding_problem(text, text),
  rowhouse.check_documents(text[], text[], text[], jsonb[]),
  rowhouse.upsert_documents(text, text[], text[], text[], jsonb[]),
  rowhouse.get_documents(text, text[]), rowhouse.delete_documents(text, text[]), rowhouse.count_documents(text, jsonb)
  to rowhouse_app;
