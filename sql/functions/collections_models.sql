-- Changing the embedding model of a collection: a second version of it is filled in the background, then takes its place.
--
--   begin_model_change   a table for the new embeddings, and triggers that keep both tables alike
--   unembedded_documents, fill_documents   batch by batch and tenant by tenant; begun again, they go on where they were
--   index_collection(..., p_state => 'next')   the indexes, once the table is full
--   switch_model         the new version is what searches find, from one statement to the next
--   finish_model_change  the old version goes; until then it answers whoever still has embeddings of the old model
--
-- Depends on: collections_tables.sql, collections_index.sql, collections_versions.sql, locks.sql. Proven by: test/documents/model-change*.test.ts.

create or replace function rowhouse.version_of(p_name text, p_state text) returns rowhouse.collections
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_version rowhouse.collections;
begin
  select c.* into v_version from rowhouse.collections c where c.name = p_name and c.state = p_state for update;
  if v_version.name is not null then
    return v_version;
  elsif not exists (select from rowhouse.collections c where c.name = p_name) then
    raise exception using errcode = 'RH020', message = format('collection "%s" does not exist', p_name);
  end if;
  raise exception using errcode = 'RH021', message = case p_state
    when 'next' then format('the embedding model of collection "%s" is not being changed', p_name)
    else format('collection "%s" has no version of a previous model', p_name) end;
end
$$;

comment on function rowhouse.version_of(text, text) is 'A version of a collection, locked; raises RH020, RH021 when there is none.';

create or replace function rowhouse.begin_model_change(
  p_name text,
  p_model text,
  p_dimensions integer default null,
  p_metric text default null,
  p_element_type text default null
) returns jsonb
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_current rowhouse.collections := rowhouse.version_of(p_name, 'current');
  v_other rowhouse.collections;
  v_new rowhouse.collections := v_current;
begin
  v_new.dimensions := coalesce(p_dimensions, v_current.dimensions);
  v_new.metric := coalesce(p_metric, v_current.metric);
  v_new.element_type := coalesce(p_element_type, v_current.element_type);
  perform rowhouse.check_collection_arguments(p_name, v_new.dimensions, v_new.metric, v_new.element_type,
    null, null, null, null, coalesce(p_model, ''));
  select c.* into v_other from rowhouse.collections c where c.name = p_name and c.state <> 'current';
  if v_other.state = 'next' and v_other.model = p_model and (v_other.dimensions, v_other.metric, v_other.element_type)
      = (v_new.dimensions, coalesce(p_metric, v_other.metric), coalesce(p_element_type, v_other.element_type)) then
    return rowhouse.describe_collection(p_name) || '{"begun": false}';
  elsif v_other.state = 'next' then
    raise exception using errcode = 'RH021',
      message = format('collection "%s" is being changed to the model "%s" with %s dimensions', p_name, v_other.model, v_other.dimensions),
      hint = 'Go on with that, or give it up: abandon_model_change.';
  elsif v_other.state = 'previous' then
    raise exception using errcode = 'RH021',
      message = format('the change of collection "%s" to the model "%s" is not finished', p_name, v_current.model),
      hint = 'finish_model_change';
  elsif v_current.model is null then
    raise exception using errcode = 'RH021',
      message = format('collection "%s" does not say which model its embeddings are of', p_name),
      hint = format('select rowhouse.configure_collection(%L, p_model => ''<name>'')', p_name);
  elsif v_current.model = p_model then
    raise exception using errcode = 'RH021', message = format('collection "%s" has the model "%s" already', p_name, p_model);
  end if;

  v_new.version := v_current.version + 1;
  v_new.state := 'next';
  v_new.model := p_model;
  if v_new.dimensions <> v_current.dimensions then
    v_new.exact_limit := rowhouse.default_exact_limit(v_new.dimensions);
  end if;
  v_new.created_at := now();
  v_new.relation := rowhouse.create_documents_table(format('rowhouse.%I', format('documents_%s$%s', p_name, v_new.version)),
    p_name, v_new.dimensions, v_new.metric, v_new.element_type, v_new.language, v_new.parents);
  insert into rowhouse.collections select v_new.*;
  -- Waits for writers that know of no change.
  perform rowhouse.lock_tables(array[v_current.relation], 'share row exclusive');
  perform rowhouse.follow_table(v_current.relation);
  perform rowhouse.follow_table(v_new.relation);
  return rowhouse.describe_collection(p_name) || '{"begun": true}';
end
$$;

comment on function rowhouse.begin_model_change(text, text, integer, text, text) is
  'Begins to change the embedding model of a collection: makes a table for the embeddings of p_model, which searches do not see yet, and keeps it alike from then on. Dimensions, metric and element type stay where they are null. Calling it again with the same arguments changes nothing (begun: false). Raises RH020, RH021, RH032.';

create or replace function rowhouse.enter_for_fill(p_tenant text) returns text[]
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_status text;
begin
  perform rowhouse.check_tenant_id(p_tenant);
  select t.status into v_status from rowhouse.tenants t where t.tenant_id = p_tenant;
  if v_status = 'active' then
    return rowhouse.work_as(p_tenant, false);
  elsif v_status is null or v_status not in ('suspended', 'inactive') then
    perform rowhouse.check_tenant_status(p_tenant, v_status);
  end if;
  -- A suspended tenant writes nothing; its documents are filled all the same, for when it is resumed.
  perform rowhouse.lock_tenant(p_tenant);
  return rowhouse.work_as(p_tenant, true);
end
$$;

comment on function rowhouse.enter_for_fill(text) is
  'Makes the transaction work for a tenant, suspended or not, until end_work is called with what this returns. Raises RH002, RH004, RH006.';

create or replace function rowhouse.unembedded_documents(
  p_name text, p_tenant text, p_after text default null, p_limit integer default 100
) returns table (document_id text, title text, content text)
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_next rowhouse.collections;
  v_current regclass;
  v_before text[];
begin
  select c.* into v_next from rowhouse.collections c where c.name = p_name and c.state = 'next';
  if v_next.name is null then
    v_next := rowhouse.version_of(p_name, 'next');
  end if;
  select c.relation into v_current from rowhouse.collections c where c.name = p_name and c.state = 'current';
  perform rowhouse.hold_rows(p_tenant);
  v_before := rowhouse.work_as(p_tenant, false);
  return query execute format('select d.document_id, d.title, d.content from %s d '
    'where d.tenant_id = $1 and d.document_id > $2 and not exists ('
    'select from %s n where n.tenant_id = $1 and n.document_id = d.document_id) '
    'order by d.document_id limit $3', v_current, v_next.relation)
    using p_tenant, coalesce(p_after, ''), least(greatest(p_limit, 1), 10000);
  perform rowhouse.end_work(v_before);
end
$$;

comment on function rowhouse.unembedded_documents(text, text, text, integer) is
  'Documents of a tenant that have no embedding of the new model yet, in the order of their ids, after p_after. Raises RH020, RH021.';

create or replace function rowhouse.fill_documents(
  p_name text, p_tenant text, p_document_ids text[], p_contents text[], p_embeddings text[]
) returns bigint
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_next rowhouse.collections;
  v_before text[];
  v_written bigint;
begin
  select c.* into v_next from rowhouse.collections c where c.name = p_name and c.state = 'next';
  if v_next.name is null then
    v_next := rowhouse.version_of(p_name, 'next');
  end if;
  if cardinality(p_document_ids) is distinct from cardinality(p_contents)
      or cardinality(p_document_ids) is distinct from cardinality(p_embeddings) then
    raise exception using errcode = 'RH024', message = 'ids, contents and embeddings are not equally many';
  end if;
  v_before := rowhouse.enter_for_fill(p_tenant);
  v_written := rowhouse.write_version(v_next.relation, p_document_ids, p_embeddings, p_contents);
  perform rowhouse.end_work(v_before);
  return v_written;
end
$$;

comment on function rowhouse.fill_documents(text, text, text[], text[], text[]) is
  'Writes embeddings of the new model for documents of a tenant, and returns how many; a document that was deleted, or has another content than p_contents says by now, is left out. Raises RH020, RH021, RH023.';

create or replace function rowhouse.count_unembedded(p_name text) returns bigint
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_current regclass;
  v_next regclass;
  v_tenant text;
  v_before text[];
  v_count bigint;
  v_missing bigint := 0;
begin
  select c.relation, n.relation into v_current, v_next
    from rowhouse.collections c join rowhouse.collections n on n.name = c.name and n.state = 'next'
    where c.name = p_name and c.state = 'current';
  -- One tenant after another, as nobody sees the rows of two.
  v_before := rowhouse.work_as(null, false);
  for v_tenant in select t.tenant_id from rowhouse.tenants t where t.status <> 'erased' order by 1 loop
    perform rowhouse.hold_rows(v_tenant);
    perform rowhouse.work_as(v_tenant, false);
    execute format('select count(*) from %s d where d.tenant_id = $1 and not exists ('
      'select from %s n where n.tenant_id = $1 and n.document_id = d.document_id)', v_current, v_next)
      into v_count using v_tenant;
    v_missing := v_missing + v_count;
  end loop;
  perform rowhouse.end_work(v_before);
  return v_missing;
end
$$;

comment on function rowhouse.count_unembedded(text) is
  'How many documents of all tenants have no embedding of the new model yet; a number, and no tenant''s.';

create or replace function rowhouse.switch_model(p_name text) returns jsonb
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_current rowhouse.collections := rowhouse.version_of(p_name, 'current');
  v_next rowhouse.collections := rowhouse.version_of(p_name, 'next');
  v_missing bigint;
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception using errcode = 'invalid_transaction_state', message = 'a model is switched in isolation level read committed only';
  end if;
  v_missing := rowhouse.count_unembedded(p_name);
  if v_missing = 0 and rowhouse.has_index(v_current.relation, 'hnsw') and not rowhouse.has_index(v_next.relation, 'hnsw') then
    raise exception using errcode = 'RH027', message = format('the new version of collection "%s" has no index yet', p_name),
      hint = format('select rowhouse.index_collection(%L, p_state => ''next'')', p_name);
  elsif v_missing = 0 then
    -- Writers wait from here on, searches never.
    perform rowhouse.lock_tables(array[v_current.relation, v_next.relation], 'share row exclusive');
    v_missing := rowhouse.count_unembedded(p_name);
  end if;
  if v_missing > 0 then
    raise exception using errcode = 'RH027',
      message = format('%s documents of collection "%s" have no embedding of the model "%s" yet', v_missing, p_name, v_next.model),
      hint = 'Fill them in: unembedded_documents, fill_documents.';
  end if;
  update rowhouse.collections c set state = 'previous' where c.name = p_name and c.version = v_current.version;
  update rowhouse.collections c set state = 'current' where c.name = p_name and c.version = v_next.version;
  return rowhouse.describe_collection(p_name);
end
$$;

comment on function rowhouse.switch_model(text) is
  'Makes the version with embeddings of the new model the one that is searched, from one statement to the next. Searches with embeddings of the old model find the old version until finish_model_change. Writers wait while it is looked whether every document of every tenant has its embedding. Raises RH020, RH021 (no change was begun), RH027 (documents or indexes are missing), RH032.';

create or replace function rowhouse.end_model_change(p_name text, p_state text) returns jsonb
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_current rowhouse.collections := rowhouse.version_of(p_name, 'current');
  v_other rowhouse.collections := rowhouse.version_of(p_name, p_state);
  v_event text;
begin
  -- Whoever looked up the collection may be about to read its other version: waits until they have finished.
  perform rowhouse.lock_tables(array['rowhouse.collections'::regclass], 'access exclusive');
  delete from rowhouse.collections c where c.name = p_name and c.version = v_other.version;
  perform rowhouse.drop_registered_tables(array[v_other.relation]);
  foreach v_event in array array['insert', 'update', 'delete'] loop
    execute format('drop trigger rowhouse_follow_%s on %s', v_event, v_current.relation);
  end loop;
  if v_current.relation::text <> format('rowhouse.%I', 'documents_' || p_name) then
    execute format('alter table %s rename to %I', v_current.relation, 'documents_' || p_name);
  end if;
  return rowhouse.describe_collection(p_name);
end
$$;

comment on function rowhouse.end_model_change(text, text) is
  'Drops the other version of a collection and gives the current one the name of the collection. Raises RH020, RH021, RH032.';

create or replace function rowhouse.finish_model_change(p_name text) returns jsonb
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  return rowhouse.end_model_change(p_name, 'previous');
end
$$;

comment on function rowhouse.finish_model_change(text) is
  'After switch_model: drops the version of the old model, whose embeddings are refused (RH026) from then on. Raises RH020, RH021, RH032.';

create or replace function rowhouse.abandon_model_change(p_name text) returns jsonb
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  return rowhouse.end_model_change(p_name, 'next');
end
$$;

comment on function rowhouse.abandon_model_change(text) is
  'Before switch_model: gives up a change of the model and drops what was filled. Raises RH020, RH021, RH032.';

revoke execute on function
  rowhouse.version_of(text, text),
  rowhouse.begin_model_change(text, text, integer, text, text), rowhouse.enter_for_fill(text),
  rowhouse.unembedded_documents(text, text, text, integer), rowhouse.fill_documents(text, text, text[], text[], text[]),
  rowhouse.count_unembedded(text), rowhouse.switch_model(text),
  rowhouse.end_model_change(text, text), rowhouse.finish_model_change(text), rowhouse.abandon_model_change(text)
  from public;
grant execute on function
  rowhouse.begin_model_change(text, text, integer, text, text), rowhouse.unembedded_documents(text, text, text, integer),
  rowhouse.fill_documents(text, text, text[], text[], text[]), rowhouse.switch_model(text),
  rowhouse.finish_model_change(text), rowhouse.abandon_model_change(text)
  to rowhouse_admin;
