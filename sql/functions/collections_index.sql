-- The vector index of a collection: pgvector's HNSW, on every partition, so that no tenant is a detour for another.
--
-- The types and operators of pgvector are named with the schema that the extension lives in.
-- Depends on: rowhouse.collections, locks.sql. Proven by: test/documents/collections.test.ts, missing-pgvector.test.ts.

create or replace function rowhouse.pgvector_schema() returns name
  language plpgsql stable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_schema name;
  v_offered record;
begin
  select n.nspname into v_schema
    from pg_extension e join pg_namespace n on n.oid = e.extnamespace
    where e.extname = 'vector';
  if v_schema is not null then
    return v_schema;
  end if;
  select v.version, v.trusted into v_offered
    from pg_available_extension_versions v where v.name = 'vector' order by v.trusted desc limit 1;
  raise exception using
    errcode = 'RH022',
    message = 'collections need the extension pgvector, which is not installed in this database',
    hint = case
      when v_offered.version is null then
        'It is not on the server either. Whoever runs the server installs the package (postgresql-<version>-pgvector); then a superuser, or the administration console of a managed service, runs in this database: create extension vector.'
      when v_offered.trusted then
        'The owner of the database runs in it: create extension vector.'
      else
        'A superuser, or the administration console of a managed service, runs in this database: create extension vector.'
    end;
end
$$;

comment on function rowhouse.pgvector_schema() is
  'The schema of the extension pgvector; raises RH022, with who can add it, when it is missing.';

create or replace function rowhouse.check_pgvector(p_element_type text) returns name
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_schema name := rowhouse.pgvector_schema();
  v_role name;
  v_missing text;
begin
  foreach v_role in array array['rowhouse_owner', 'rowhouse_app'] loop
    if not has_schema_privilege(v_role, v_schema, 'usage') then
      raise exception using errcode = 'RH022',
        message = format('%s may not use pgvector, which is installed in schema %I', v_role, v_schema),
        hint = format('The owner of the schema runs: grant usage on schema %I to rowhouse_owner, rowhouse_app', v_schema);
    end if;
  end loop;
  v_missing := case
    when to_regtype(format('%I.%I', v_schema, p_element_type)) is null then format('type %s', p_element_type)
    when not exists (select from pg_am a where a.amname = 'hnsw') then 'index type hnsw'
  end;
  if v_missing is not null then
    raise exception using errcode = 'RH022',
      message = format('the installed version of pgvector has no %s', v_missing),
      hint = 'Install pgvector 0.8.0 or later; then its owner runs: alter extension vector update.';
  end if;
  return v_schema;
end
$$;

comment on function rowhouse.check_pgvector(text) is
  'The schema of pgvector when it has this element type and its roles may use it; raises RH022 with the mend otherwise.';

create or replace function rowhouse.has_index(p_relation regclass, p_method name) returns boolean
  language plpgsql stable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  return exists (
    select from pg_index i
      join pg_class c on c.oid = i.indexrelid
      join pg_am a on a.oid = c.relam
      where i.indrelid = p_relation and i.indisvalid and a.amname = p_method);
end
$$;

comment on function rowhouse.has_index(regclass, name) is
  'Whether the table or partition has a usable index of this method: hnsw of vectors, gin of words.';

create or replace function rowhouse.vector_index(p_relation regclass, p_except regclass default null) returns regclass
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select i.indexrelid
      from pg_index i
      join pg_class c on c.oid = i.indexrelid
      join pg_am a on a.oid = c.relam
      where i.indrelid = p_relation and a.amname = 'hnsw' and i.indexrelid is distinct from p_except
      limit 1);
end
$$;

comment on function rowhouse.vector_index(regclass, regclass) is
  'The HNSW index of the table, or the other one while it is replaced; also when it is not valid.';

create or replace function rowhouse.default_exact_limit(p_dimensions integer) returns integer
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  -- A curve through what was measured: both take equally long for 8700 documents of 128 dimensions, 6700 of 768 and
  -- 4000 of 1536 (npm run bench -- vectors crossover); up to there the exact search is faster and finds more.
  return floor(104000 / (1070 + p_dimensions)) * 100;
end
$$;

comment on function rowhouse.default_exact_limit(integer) is
  'Up to how many documents of a tenant an exact search is no slower than one by the index of a shared partition.';

create or replace function rowhouse.index_words(p_relation regclass) returns boolean
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  if rowhouse.has_index(p_relation, 'gin') or not exists (
      select from pg_attribute a where a.attrelid = p_relation and a.attname = 'words' and not a.attisdropped) then
    return false;
  end if;
  -- Without the list of pending entries, which every search would read.
  execute format('create index on %s using gin (words) with (fastupdate = off)', p_relation);
  execute format('comment on index %s is %L', (
    select i.indexrelid::regclass from pg_index i join pg_class c on c.oid = i.indexrelid join pg_am a on a.oid = c.relam
      where i.indrelid = p_relation and a.amname = 'gin'), 'Words, for full-text search.');
  return true;
end
$$;

comment on function rowhouse.index_words(regclass) is
  'Builds the index for full-text search on every partition; false when it is there, or the collection has no such search.';

create or replace function rowhouse.index_collection(
  p_name text,
  p_m integer default null,
  p_ef_construction integer default null,
  p_maintenance_work_mem text default null,
  p_state text default 'current'
) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_collection rowhouse.collections;
  v_previous_memory text := current_setting('maintenance_work_mem');
  v_m integer;
  v_ef_construction integer;
  v_old regclass;
  v_new regclass;
  v_operators name;
begin
  -- Keeps the collection as it is meanwhile; others may be created.
  select c.* into v_collection
    from rowhouse.collections c join pg_class t on t.oid = c.relation
    where c.name = p_name and c.state = p_state for update of c;
  if v_collection.name is null then
    raise exception using errcode = 'RH020', message = case p_state
      when 'current' then format('collection "%s" does not exist', p_name)
      else format('the embedding model of collection "%s" is not being changed', p_name) end;
  end if;
  v_m := coalesce(p_m, v_collection.m);
  v_ef_construction := coalesce(p_ef_construction, v_collection.ef_construction);
  perform rowhouse.check_collection_arguments(p_name, v_collection.dimensions, v_collection.metric, v_collection.element_type,
    null, null, v_m, v_ef_construction);
  v_old := rowhouse.vector_index(v_collection.relation);
  if v_old is not null and v_collection.m = v_m and v_collection.ef_construction = v_ef_construction
      and rowhouse.has_index(v_collection.relation, 'hnsw') then
    return rowhouse.index_words(v_collection.relation);
  end if;

  if p_maintenance_work_mem is not null then
    execute format('set local maintenance_work_mem = %L', p_maintenance_work_mem);
  end if;
  perform rowhouse.index_words(v_collection.relation);
  v_operators := format('%s_%s_ops', v_collection.element_type,
    case v_collection.metric when 'inner_product' then 'ip' else v_collection.metric end);
  execute format('create index on %s using hnsw (embedding %I.%I) with (m = %s, ef_construction = %s)',
    v_collection.relation, rowhouse.check_pgvector(v_collection.element_type), v_operators, v_m, v_ef_construction);
  execute format('set local maintenance_work_mem = %L', v_previous_memory);
  v_new := rowhouse.vector_index(v_collection.relation, v_old);
  execute format('comment on index %s is %L', v_new, 'Nearest neighbours, for tenants too large for an exact search.');

  -- Only now, so that searches go on while the new one is built.
  if v_old is not null then
    perform rowhouse.lock_tables(array(select t.relid from pg_partition_tree(v_collection.relation) t), 'access exclusive');
    execute format('drop index %s', v_old);
  end if;
  update rowhouse.collections c set m = v_m, ef_construction = v_ef_construction where c.name = p_name and c.state = p_state;
  return true;
end
$$;

comment on function rowhouse.index_collection(text, integer, integer, text, text) is
  'Builds the HNSW index of a collection on every partition, or builds it anew with other settings, and the index for full-text search where it is missing; writers wait meanwhile, searches only while the old index is dropped. p_maintenance_work_mem: memory for the build, for example 1GB; a build that fits in it is many times faster. p_state => ''next'': of the version that a change of the model fills. Returns false when the indexes are there already. Raises RH020, RH021, RH032 (transactions that use the collection did not finish in time; nothing changed).';

revoke execute on function
  rowhouse.pgvector_schema(), rowhouse.check_pgvector(text), rowhouse.has_index(regclass, name),
  rowhouse.vector_index(regclass, regclass), rowhouse.default_exact_limit(integer),
  rowhouse.index_words(regclass),
  rowhouse.index_collection(text, integer, integer, text, text)
  from public;
grant execute on function rowhouse.index_collection(text, integer, integer, text, text) to rowhouse_admin;
grant execute on function rowhouse.pgvector_schema(), rowhouse.has_index(regclass, name) to rowhouse_app, rowhouse_admin;
