-- Documents: read, count and delete the documents of one tenant in a collection.
--
-- Every function runs with the rights of its caller, under row-level security, for the tenant of the transaction, and
-- says so in its own condition as well. Embeddings come as text, '[1,2,3]', because the types of pgvector exist only
-- where the extension is installed.
-- Depends on: collections.sql, documents_write.sql, documents_filter.sql, context.sql. Proven by: test/documents.

create or replace function rowhouse.locate_collection(
  p_name text,
  p_model text default null,
  p_relation regclass default null,
  out relation regclass, out parents regclass, out state text, out model text, out type text, out operator text,
  out metric text, out exact_limit integer, out ef_search integer, out language text
)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_collection rowhouse.collections;
  v_schema name;
  v_current text;
begin
  -- Three statements, each with a plan that is kept; one for all would be planned for each call, which takes longer than
  -- to run it. The table may have been dropped by hand.
  if p_relation is not null then
    select c.* into v_collection from rowhouse.collections c where c.relation = p_relation;
  elsif p_model is null then
    select c.* into v_collection from rowhouse.collections c join pg_class t on t.oid = c.relation
      where c.name = p_name and c.state = 'current';
  else
    -- A model that nobody named yet is the one of the caller.
    select c.* into v_collection from rowhouse.collections c join pg_class t on t.oid = c.relation
      where c.name = p_name
        and (c.state = 'current' and coalesce(c.model, p_model) = p_model or c.state = 'previous' and c.model = p_model)
      order by c.state limit 1;
  end if;
  if v_collection.name is null then
    select coalesce(c.model, '') into v_current from rowhouse.collections c where c.name = p_name and c.state = 'current';
    if v_current is null or p_model is null then
      raise exception using errcode = 'RH020', message = format('collection "%s" does not exist', p_name);
    end if;
    raise exception using errcode = 'RH026',
      message = format('collection "%s" has embeddings of the model "%s", not of "%s"', p_name, v_current, left(p_model, 200));
  end if;
  v_schema := rowhouse.pgvector_schema();
  relation := v_collection.relation;
  parents := v_collection.parents;
  state := v_collection.state;
  model := v_collection.model;
  type := format('%I.%I(%s)', v_schema, v_collection.element_type, v_collection.dimensions);
  operator := format('operator(%I.%s)', v_schema,
    case v_collection.metric when 'cosine' then '<=>' when 'l2' then '<->' else '<#>' end);
  metric := v_collection.metric;
  exact_limit := v_collection.exact_limit;
  ef_search := v_collection.ef_search;
  language := v_collection.language;
end
$$;

comment on function rowhouse.locate_collection(text, text, regclass) is
  'What statements on a collection are put together from: on its current version, on the one that has embeddings of p_model (the current one, or until a change of the model is finished the previous one), or on the one whose table is p_relation. Raises RH020 when there is none of this name, RH026 when it has another model.';

create or replace function rowhouse.refuse_unnamed_model(p_name text) returns void
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (select from rowhouse.collections c where c.name = p_name and c.state = 'previous') then
    raise exception using errcode = 'RH026',
      message = format('collection "%s" has two models until their change is finished, and the embedding is of none that was named', p_name);
  end if;
end
$$;

comment on function rowhouse.refuse_unnamed_model(text) is
  'Raises RH026 while a change of the model is not finished: nobody could tell which model an embedding without a name is of.';

create or replace function rowhouse.embedding_problem(p_relation regclass, p_embedding text) returns text
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_collection record;
  v_has_direction boolean;
begin
  select * into v_collection from rowhouse.locate_collection(null, null, p_relation);
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

comment on function rowhouse.embedding_problem(regclass, text) is
  'What keeps an embedding out of a version of a collection, in words; null when nothing does.';

create or replace function rowhouse.get_documents(p_collection text, p_document_ids text[])
  returns table (
    tenant_id text, document_id text, content text, metadata jsonb, title text, source text, parent_id text, place integer,
    created_at timestamptz, updated_at timestamptz
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
    'select d.tenant_id, d.document_id, d.content, d.metadata, d.title, d.source, d.parent_id, d.place, d.created_at, d.updated_at '
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
  v_target record;
  v_deleted bigint;
begin
  select * into v_target from rowhouse.locate_for_write(p_collection, null);
  execute format('delete from %s d where d.tenant_id = $1 and d.document_id = any ($2)', v_target.relation)
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
  execute format('select count(*) from %s d where d.tenant_id = $1 and (%s)', v_collection.relation, rowhouse.compile_filter(p_filter))
    into v_count using v_tenant;
  return v_count;
end
$$;

comment on function rowhouse.count_documents(text, jsonb) is
  'The number of documents of the tenant, or of those that p_filter means (compile_filter). Raises RH020, RH025.';

create or replace function rowhouse.delete_documents_where(p_collection text, p_filter jsonb) returns bigint
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_target record;
  v_deleted bigint;
begin
  select * into v_target from rowhouse.locate_for_write(p_collection, null);
  if coalesce(p_filter, '{}') = '{}' then
    perform rowhouse.refuse_filter('of a delete is empty, which would mean every document');
  end if;
  execute format('delete from %s d where d.tenant_id = $1 and (%s)', v_target.relation, rowhouse.compile_filter(p_filter))
    using v_tenant;
  get diagnostics v_deleted = row_count;
  return v_deleted;
end
$$;

comment on function rowhouse.delete_documents_where(text, jsonb) is
  'Deletes the documents of the tenant that p_filter means (compile_filter) and returns how many there were. Raises RH020, RH025 (also for an empty filter).';

revoke execute on function
  rowhouse.locate_collection(text, text, regclass), rowhouse.refuse_unnamed_model(text), rowhouse.embedding_problem(regclass, text),
  rowhouse.get_documents(text, text[]), rowhouse.delete_documents(text, text[]), rowhouse.count_documents(text, jsonb),
  rowhouse.delete_documents_where(text, jsonb)
  from public;
grant execute on function
  rowhouse.locate_collection(text, text, regclass), rowhouse.refuse_unnamed_model(text), rowhouse.embedding_problem(regclass, text),
  rowhouse.get_documents(text, text[]), rowhouse.delete_documents(text, text[]), rowhouse.count_documents(text, jsonb),
  rowhouse.delete_documents_where(text, jsonb)
  to rowhouse_app;
