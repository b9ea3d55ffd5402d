-- Parents: a document that was cut into parts, each of which is a document of the collection with an embedding of its own.
--
-- The parts carry the title and the source of their parent, and its metadata unless they have entries of their own, so
-- that searches filter by them. They are replaced as a whole and go with it.
-- Depends on: documents.sql. Proven by: test/documents/parents.test.ts.

create or replace function rowhouse.upsert_parent(
  p_collection text,
  p_parent_id text,
  p_contents text[],
  p_embeddings text[],
  p_title text default null,
  p_source text default null,
  p_metadata jsonb default '{}',
  p_document_ids text[] default null,
  p_document_metadata jsonb[] default null,
  p_model text default null,
  p_second_model text default null,
  p_second_embeddings text[] default null
) returns table (parent_id text, document_ids text[])
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_tenant text := rowhouse.require_tenant();
  v_target record;
  v_parent text := coalesce(p_parent_id, gen_random_uuid()::text);
  v_problem text;
  v_ids text[];
  v_metadata jsonb[];
begin
  select * into v_target from rowhouse.locate_for_write(p_collection, array[p_model, p_second_model]);
  v_problem := case
    when length(v_parent) not between 1 and 240 then 'has an id that is empty or longer than 240 characters'
    when jsonb_typeof(p_metadata) is distinct from 'object' then 'has metadata that is no JSON object'
    when octet_length(p_metadata::text) > 262144 then 'has metadata of more than 262144 bytes'
    else rowhouse.description_problem(p_title, p_source)
  end;
  if v_problem is not null then
    raise exception using errcode = 'RH024', message = format('the parent %s', v_problem);
  end if;
  perform rowhouse.check_documents(p_document_ids, p_contents, p_embeddings, p_document_metadata, null, null);
  if p_second_model is not null and cardinality(p_second_embeddings) is distinct from cardinality(p_contents) then
    raise exception using errcode = 'RH024', message = 'contents and embeddings of the second model are not equally many';
  end if;
  select array_agg(coalesce(u.id, format('%s#%s', v_parent, u.place)) order by u.place),
      array_agg(p_metadata || coalesce(u.metadata, '{}') order by u.place)
    into v_ids, v_metadata
    from unnest(p_document_ids, p_contents, p_document_metadata) with ordinality u (id, content, metadata, place);

  -- Two that replace the same parent: the second waits here.
  execute format('insert into %s as p (tenant_id, parent_id, title, source, metadata) values ($1, $2, $3, $4, $5) '
    'on conflict (tenant_id, parent_id) do update set title = excluded.title, source = excluded.source, '
    'metadata = excluded.metadata, updated_at = excluded.updated_at', v_target.parents)
    using v_tenant, v_parent, p_title, p_source, p_metadata;
  execute format('delete from %s d where d.tenant_id = $1 and d.parent_id = $2 and d.document_id <> all ($3)', v_target.relation)
    using v_tenant, v_parent, v_ids;
  perform rowhouse.write_documents(v_target.relation, v_ids, p_contents,
    case v_target.embeddings when 1 then p_embeddings else p_second_embeddings end, v_metadata,
    array_fill(p_title, array[cardinality(v_ids)]), array_fill(p_source, array[cardinality(v_ids)]), v_ids, v_parent);
  if v_target.other is not null then
    perform rowhouse.write_version(v_target.other, v_ids,
      case v_target.other_embeddings when 1 then p_embeddings else p_second_embeddings end);
  end if;
  return query select v_parent, v_ids;
end
$$;

comment on function rowhouse.upsert_parent(text, text, text[], text[], text, text, jsonb, text[], jsonb[], text, text, text[]) is
  'Writes a parent and its parts, which replace those that it had: element n of each array belongs to part n. p_parent_id: null generates a uuid. p_document_ids: by default <parent>#1, #2, ... p_document_metadata: what a part has beside the metadata of the parent. p_model, p_second_model, p_second_embeddings: as of upsert_documents. All is written or nothing: raises RH020, RH023, RH024, RH026.';

create or replace function rowhouse.get_parents(p_collection text, p_parent_ids text[], p_documents boolean default true)
  returns table (
    tenant_id text, parent_id text, title text, source text, metadata jsonb, created_at timestamptz, updated_at timestamptz,
    documents jsonb
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
    'select p.tenant_id, p.parent_id, p.title, p.source, p.metadata, p.created_at, p.updated_at, case when $3 then ('
    'select coalesce(jsonb_agg(jsonb_build_object(''tenantId'', d.tenant_id, ''id'', d.document_id, ''position'', d.place, '
    '''content'', d.content, ''metadata'', d.metadata) order by d.place), ''[]'') '
    'from %s d where d.tenant_id = $1 and d.parent_id = p.parent_id) end '
    'from %s p where p.tenant_id = $1 and p.parent_id = any ($2)', v_collection.relation, v_collection.parents)
    using v_tenant, p_parent_ids, p_documents;
end
$$;

comment on function rowhouse.get_parents(text, text[], boolean) is
  'The parents of the tenant with these ids, in no particular order, each with its parts in their order unless p_documents is false; ids that do not exist are left out. Raises RH020.';

create or replace function rowhouse.update_parent(p_collection text, p_parent_id text, p_changes jsonb) returns boolean
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_target record;
  v_before jsonb;
  v_after record;
begin
  select * into v_target from rowhouse.locate_for_write(p_collection, null);
  perform rowhouse.check_changes(p_changes);
  execute format('select p.metadata from %s p where p.tenant_id = $1 and p.parent_id = $2 for update', v_target.parents)
    into v_before using v_tenant, p_parent_id;
  if v_before is null then
    return false;
  end if;
  execute format('update %s p set updated_at = $4, '
    'metadata = case when $3 ? ''metadata'' then $3 -> ''metadata'' else p.metadata end, '
    'title = case when $3 ? ''title'' then $3 ->> ''title'' else p.title end, '
    'source = case when $3 ? ''source'' then $3 ->> ''source'' else p.source end '
    'where p.tenant_id = $1 and p.parent_id = $2 returning p.metadata, p.title, p.source', v_target.parents)
    into v_after using v_tenant, p_parent_id, p_changes, now();
  -- Entries that a part has of its own stay; those that it had from its parent are the new ones.
  execute format('update %s d set title = $3, source = $4, updated_at = $7, metadata = $5 || coalesce(('
    'select jsonb_object_agg(e.key, e.value) from jsonb_each(d.metadata) e where e.value is distinct from $6 -> e.key), ''{}'') '
    'where d.tenant_id = $1 and d.parent_id = $2', v_target.relation)
    using v_tenant, p_parent_id, v_after.title, v_after.source, v_after.metadata, v_before, now();
  return true;
end
$$;

comment on function rowhouse.update_parent(text, text, jsonb) is
  'Changes metadata, title and source of a parent and of its parts, as far as p_changes names them; no embedding changes. Entries of metadata that a part has of its own stay. Returns whether there is such a parent. Raises RH020, RH024.';

create or replace function rowhouse.delete_parents(p_collection text, p_parent_ids text[]) returns bigint
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_target record;
  v_deleted bigint;
begin
  select * into v_target from rowhouse.locate_for_write(p_collection, null);
  -- The foreign key takes the parts along.
  execute format('delete from %s p where p.tenant_id = $1 and p.parent_id = any ($2)', v_target.parents)
    using v_tenant, p_parent_ids;
  get diagnostics v_deleted = row_count;
  return v_deleted;
end
$$;

comment on function rowhouse.delete_parents(text, text[]) is
  'Deletes the parents of the tenant with these ids, with their parts, and returns how many there were. Raises RH020.';

revoke execute on function
  rowhouse.upsert_parent(text, text, text[], text[], text, text, jsonb, text[], jsonb[], text, text, text[]),
  rowhouse.get_parents(text, text[], boolean), rowhouse.update_parent(text, text, jsonb), rowhouse.delete_parents(text, text[])
  from public;
grant execute on function
  rowhouse.upsert_parent(text, text, text[], text[], text, text, jsonb, text[], jsonb[], text, text, text[]),
  rowhouse.get_parents(text, text[], boolean), rowhouse.update_parent(text, text, jsonb), rowhouse.delete_parents(text, text[])
  to rowhouse_app;
