-- Documents: write those of one tenant into a collection.
--
-- Every function runs with the rights of its caller, under row-level security, for the tenant of the transaction, and
-- says so in its own condition as well.
-- Depends on: documents.sql, collections_models.sql. Proven by: test/documents.

create or replace function rowhouse.description_problem(p_title text, p_source text) returns text
  language plpgsql immutable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return case
    when length(p_title) not between 1 and 1000 then 'has a title that is empty or longer than 1000 characters'
    when length(p_source) not between 1 and 2000 then 'has a source that is empty or longer than 2000 characters'
  end;
end
$$;

comment on function rowhouse.description_problem(text, text) is
  'What is wrong with a title or a source, in words; null when nothing is.';

create or replace function rowhouse.check_documents(
  p_document_ids text[], p_contents text[], p_embeddings text[], p_metadata jsonb[], p_titles text[], p_sources text[]
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
      or cardinality(p_metadata) <> v_count or cardinality(p_titles) <> v_count or cardinality(p_sources) <> v_count then
    raise exception using errcode = 'RH024', message = 'ids, contents, embeddings, metadata, titles and sources are not equally many';
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
          else rowhouse.description_problem(u.title, u.source)
        end as problem
        from unnest(p_document_ids, p_contents, p_metadata, p_titles, p_sources) with ordinality u (id, content, metadata, title, source, place)
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

comment on function rowhouse.check_documents(text[], text[], text[], jsonb[], text[], text[]) is
  'Raises RH024 with the first document that cannot be written; the type checks the embeddings later.';

create or replace function rowhouse.locate_for_write(
  p_name text, p_models text[], out relation regclass, out parents regclass, out embeddings integer, out other regclass,
  out other_embeddings integer, out other_state text
)
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_version record;
  v_locked regclass;
begin
  -- A change of the model waits for writers of the table, so what is current under the lock stays current. Its end waits
  -- for whoever looked the collection up.
  lock table rowhouse.collections in access share mode;
  loop
    select l.relation, l.parents into relation, parents from rowhouse.locate_collection(p_name) l;
    exit when relation = v_locked;
    execute format('lock table only %s in row exclusive mode', relation);
    v_locked := relation;
  end loop;
  for v_version in
    select c.relation, c.model, c.state from rowhouse.collections c where c.name = p_name order by c.state
  loop
    if v_version.state = 'current' then
      -- One that was never named: what the caller sends first.
      embeddings := case when v_version.model is null or p_models[1] is null then 1
        else array_position(p_models, v_version.model) end;
      if embeddings is null then
        raise exception using errcode = 'RH026',
          message = format('collection "%s" has embeddings of the model "%s", not of "%s"', p_name, v_version.model,
            left(array_to_string(p_models, '" and "'), 200));
      end if;
    elsif v_version.state = 'previous' and p_models is not null and p_models[1] is null then
      perform rowhouse.refuse_unnamed_model(p_name);
    else
      other_embeddings := array_position(p_models, v_version.model);
      if other_embeddings is not null then
        other := v_version.relation;
        other_state := v_version.state;
      end if;
    end if;
  end loop;
end
$$;

comment on function rowhouse.locate_for_write(text, text[]) is
  'The tables that a write to a collection concerns, and which of the embeddings (1 or 2) belong into each: the current version, and while the model is changed the other one, when the caller has embeddings for it. Holds the current version until the transaction ends. Raises RH020, RH026.';

create or replace function rowhouse.write_documents(
  p_relation regclass, p_document_ids text[], p_contents text[], p_embeddings text[], p_metadata jsonb[],
  p_titles text[], p_sources text[], p_given_ids text[], p_parent_id text default null
) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_collection record;
  v_rows bigint;
  v_message text;
  v_problem text;
begin
  select * into v_collection from rowhouse.locate_collection(null, null, p_relation);
  begin
    -- In the order of the ids: two calls that write the same documents wait for each other instead of deadlocking.
    execute format('insert into %s as d (tenant_id, document_id, content, metadata, title, source, embedding, parent_id, place) '
      'select $1, u.id, u.content, coalesce(u.metadata, ''{}''), u.title, u.source, u.embedding::%s, $8, '
      'case when $8 is not null then u.number - 1 end '
      'from unnest($2, $3, $4, $5, $6, $7) with ordinality u (id, content, metadata, title, source, embedding, number) '
      'order by u.id collate "C" '
      'on conflict (tenant_id, document_id) do update set content = excluded.content, metadata = excluded.metadata, '
      'title = excluded.title, source = excluded.source, embedding = excluded.embedding, updated_at = excluded.updated_at, '
      'place = coalesce(excluded.place, d.place) where excluded.parent_id is null or d.parent_id = excluded.parent_id',
      p_relation, v_collection.type)
      using v_tenant, p_document_ids, p_contents, p_metadata, p_titles, p_sources, p_embeddings, p_parent_id;
    get diagnostics v_rows = row_count;
  exception
    when data_exception or check_violation or not_null_violation or program_limit_exceeded then
      v_message := sqlerrm;
      for v_place in 1 .. cardinality(p_embeddings) loop
        v_problem := rowhouse.embedding_problem(p_relation, p_embeddings[v_place]);
        if v_problem is not null then
          raise exception using errcode = 'RH023',
            message = format('the embedding of document %s %s',
              coalesce('"' || p_given_ids[v_place] || '"', format('%s of %s', v_place, cardinality(p_embeddings))), v_problem);
        end if;
      end loop;
      raise exception using errcode = 'RH024', message = format('the documents cannot be written: %s', v_message);
  end;
  if v_rows < cardinality(p_document_ids) then
    raise exception using errcode = 'RH024', message = 'a part has the id of a document that is no part of this parent';
  end if;
end
$$;

comment on function rowhouse.write_documents(regclass, text[], text[], text[], jsonb[], text[], text[], text[], text) is
  'Writes documents of the tenant into one version of a collection, as parts of a parent in the given order or for themselves. Raises RH023, RH024.';

create or replace function rowhouse.upsert_documents(
  p_collection text,
  p_document_ids text[],
  p_contents text[],
  p_embeddings text[],
  p_metadata jsonb[] default null,
  p_titles text[] default null,
  p_sources text[] default null,
  p_model text default null,
  p_second_model text default null,
  p_second_embeddings text[] default null
) returns text[]
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_target record;
  v_ids text[];
begin
  perform rowhouse.require_tenant();
  select * into v_target from rowhouse.locate_for_write(p_collection, array[p_model, p_second_model]);
  perform rowhouse.check_documents(p_document_ids, p_contents, p_embeddings, p_metadata, p_titles, p_sources);
  if p_second_model is not null and cardinality(p_second_embeddings) is distinct from cardinality(p_contents) then
    raise exception using errcode = 'RH024', message = 'contents and embeddings of the second model are not equally many';
  end if;
  select array_agg(coalesce(u.id, gen_random_uuid()::text) order by u.place) into v_ids
    from unnest(p_document_ids, p_contents) with ordinality u (id, content, place);
  perform rowhouse.write_documents(v_target.relation, v_ids, p_contents,
    case v_target.embeddings when 1 then p_embeddings else p_second_embeddings end, p_metadata, p_titles, p_sources, p_document_ids);
  if v_target.other is not null then
    perform rowhouse.write_version(v_target.other, v_ids,
      case v_target.other_embeddings when 1 then p_embeddings else p_second_embeddings end);
  end if;
  return v_ids;
end
$$;

comment on function rowhouse.upsert_documents(text, text[], text[], text[], jsonb[], text[], text[], text, text, text[]) is
  'Writes documents of the tenant: element n of each array belongs to document n. A document whose id exists is replaced. p_document_ids: null, or null for single documents, generates uuids. p_embeddings: as text, [1,2,3]. p_metadata: JSON objects; null is {}. p_titles, p_sources: null where there is none. p_model: what made the embeddings; p_second_model and p_second_embeddings: those of another one, while the collection changes from one to the other. Returns the ids in the given order. All are written or none: raises RH020 (no such collection), RH023 (an embedding is invalid), RH024 (a document is invalid, or two have one id), RH026 (the collection has embeddings of another model).';

create or replace function rowhouse.check_changes(p_changes jsonb) returns void
  language plpgsql immutable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_problem text;
begin
  v_problem := case
    when jsonb_typeof(p_changes) is distinct from 'object' or p_changes = '{}' then 'are no JSON object with metadata, title or source'
    when p_changes - '{metadata,title,source}'::text[] <> '{}' then 'have another key than metadata, title and source'
    when jsonb_typeof(p_changes -> 'metadata') <> 'object' then 'have metadata that is no JSON object'
    when octet_length((p_changes -> 'metadata')::text) > 262144 then 'have metadata of more than 262144 bytes'
    when jsonb_typeof(p_changes -> 'title') not in ('string', 'null') then 'have a title that is no text'
    when jsonb_typeof(p_changes -> 'source') not in ('string', 'null') then 'have a source that is no text'
    else replace(rowhouse.description_problem(p_changes ->> 'title', p_changes ->> 'source'), 'has a', 'have a')
  end;
  if v_problem is not null then
    raise exception using errcode = 'RH024', message = format('the changes %s', v_problem);
  end if;
end
$$;

comment on function rowhouse.check_changes(jsonb) is 'Raises RH024 when these are no changes of a document.';

create or replace function rowhouse.update_document(p_collection text, p_document_id text, p_changes jsonb) returns boolean
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_target record;
  v_rows bigint;
begin
  -- No embedding changes, so those of any model do.
  select * into v_target from rowhouse.locate_for_write(p_collection, null);
  perform rowhouse.check_changes(p_changes);
  execute format('update %s d set updated_at = $4, '
    'metadata = case when $3 ? ''metadata'' then $3 -> ''metadata'' else d.metadata end, '
    'title = case when $3 ? ''title'' then $3 ->> ''title'' else d.title end, '
    'source = case when $3 ? ''source'' then $3 ->> ''source'' else d.source end '
    'where d.tenant_id = $1 and d.document_id = $2', v_target.relation)
    using v_tenant, p_document_id, p_changes, now();
  get diagnostics v_rows = row_count;
  return v_rows > 0;
end
$$;

comment on function rowhouse.update_document(text, text, jsonb) is
  'Changes metadata, title and source of a document of the tenant, as far as p_changes names them (null: there is none any more); its embedding stays. Returns whether there is such a document. Raises RH020, RH024.';

revoke execute on function
  rowhouse.description_problem(text, text), rowhouse.check_documents(text[], text[], text[], jsonb[], text[], text[]),
  rowhouse.locate_for_write(text, text[]),
  rowhouse.write_documents(regclass, text[], text[], text[], jsonb[], text[], text[], text[], text),
  rowhouse.upsert_documents(text, text[], text[], text[], jsonb[], text[], text[], text, text, text[]),
  rowhouse.check_changes(jsonb), rowhouse.update_document(text, text, jsonb)
  from public;
grant execute on function
  rowhouse.description_problem(text, text), rowhouse.check_documents(text[], text[], text[], jsonb[], text[], text[]),
  rowhouse.locate_for_write(text, text[]),
  rowhouse.write_documents(regclass, text[], text[], text[], jsonb[], text[], text[], text[], text),
  rowhouse.upsert_documents(text, text[], text[], text[], jsonb[], text[], text[], text, text, text[]),
  rowhouse.check_changes(jsonb), rowhouse.update_document(text, text, jsonb)
  to rowhouse_app;
