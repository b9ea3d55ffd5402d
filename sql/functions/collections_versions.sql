-- Two versions of a collection, while its embedding model is changed: what happens to documents of the current one happens
-- to the other as well.
--
-- What holds at every commit: the other version has no document that the current one has not, and each with the same
-- content and metadata. So a document is either missing there, or right.
-- Depends on: documents.sql. Proven by: test/documents/model-change.test.ts.

create or replace function rowhouse.follow_documents() returns trigger
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_version record;
  v_tenant text;
begin
  select c.name, c.state, o.relation as other into v_version
    from rowhouse.collections c
    left join rowhouse.collections o on o.name = c.name and o.state in ('next', 'previous') and c.state = 'current'
    where c.relation = tg_relid;
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception using errcode = 'RH026',
      message = format('the embedding model of collection "%s" is being changed', v_version.name),
      hint = 'Meanwhile its documents are written in isolation level read committed.';
  elsif v_version.state = 'previous' and pg_trigger_depth() = 1
      and current_setting('rowhouse.writes_versions', true) is distinct from 'on' then
    -- Found before the switch and written after it: the current version would miss it.
    raise exception using errcode = 'RH026', message = format('the embedding model of collection "%s" was changed just now', v_version.name),
      hint = 'Try again.';
  elsif v_version.other is null or tg_op = 'INSERT' then
    return null;
  end if;
  v_tenant := rowhouse.require_tenant();
  if tg_op = 'DELETE' then
    execute format('delete from %s o using old_rows r where o.tenant_id = $1 and r.tenant_id = $1 and o.document_id = r.document_id',
      v_version.other) using v_tenant;
    return null;
  end if;
  execute format('delete from %s o using old_rows r where o.tenant_id = $1 and r.tenant_id = $1 and o.document_id = r.document_id '
    'and not exists (select from new_rows n where n.tenant_id = $1 and n.document_id = r.document_id and n.content = r.content)',
    v_version.other) using v_tenant;
  execute format('update %s o set metadata = n.metadata, title = n.title, source = n.source, parent_id = n.parent_id, '
    'place = n.place, updated_at = n.updated_at '
    'from new_rows n where o.tenant_id = $1 and n.tenant_id = $1 and o.document_id = n.document_id', v_version.other)
    using v_tenant;
  return null;
end
$$;

comment on function rowhouse.follow_documents() is
  'Statement trigger of both versions of a collection whose model is changed: what happens to documents of the current one happens to the other; one whose content changed is taken out of it until it has a new embedding. Raises RH026.';

create or replace function rowhouse.follow_table(p_table regclass) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_event record;
begin
  for v_event in
    select * from (values
      ('insert', ''), ('update', 'referencing old table as old_rows new table as new_rows'), ('delete', 'referencing old table as old_rows')
    ) e (name, tables)
  loop
    execute format('create trigger rowhouse_follow_%s after %1$s on %s %s for each statement execute function rowhouse.follow_documents()',
      v_event.name, p_table, v_event.tables);
    execute format('comment on trigger rowhouse_follow_%s on %s is %L', v_event.name, p_table,
      'While the embedding model is changed: keeps both versions alike.');
  end loop;
end
$$;

comment on function rowhouse.follow_table(regclass) is 'Gives one of two versions of a collection its triggers follow_documents.';

create or replace function rowhouse.write_version(
  p_relation regclass, p_document_ids text[], p_embeddings text[], p_contents text[] default null
) returns bigint
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_version record;
  v_current regclass;
  v_written bigint;
  v_problem text;
  v_writes text := current_setting('rowhouse.writes_versions', true);
begin
  select * into v_version from rowhouse.locate_collection(null, null, p_relation);
  select o.relation into v_current from rowhouse.collections c
    join rowhouse.collections o on o.name = c.name and o.state = 'current' where c.relation = p_relation;
  execute 'set local rowhouse.writes_versions = ''on''';
  begin
    -- Locked, so that a document which changes meanwhile is seen either here or by the trigger of that change.
    execute format('insert into %s as o (tenant_id, document_id, parent_id, place, title, source, content, metadata, embedding, created_at, updated_at) '
      'select d.tenant_id, d.document_id, d.parent_id, d.place, d.title, d.source, d.content, d.metadata, u.embedding::%s, d.created_at, d.updated_at '
      'from unnest($2, $3, $4) u (id, embedding, content) join %s d on d.tenant_id = $1 and d.document_id = u.id '
      'where u.content is null or d.content = u.content order by u.id collate "C" for share of d '
      'on conflict (tenant_id, document_id) do update set parent_id = excluded.parent_id, place = excluded.place, '
      'title = excluded.title, source = excluded.source, content = excluded.content, metadata = excluded.metadata, '
      'embedding = excluded.embedding, updated_at = excluded.updated_at', p_relation, v_version.type, v_current)
      using v_tenant, p_document_ids, p_embeddings, p_contents;
    get diagnostics v_written = row_count;
  exception
    when data_exception or check_violation or not_null_violation then
      for v_place in 1 .. cardinality(p_embeddings) loop
        v_problem := rowhouse.embedding_problem(p_relation, p_embeddings[v_place]);
        if v_problem is not null then
          raise exception using errcode = 'RH023',
            message = format('the embedding by "%s" of document "%s" %s', v_version.model, p_document_ids[v_place], v_problem);
        end if;
      end loop;
      raise;
  end;
  execute format('set local rowhouse.writes_versions = %L', coalesce(v_writes, ''));
  return v_written;
end
$$;

comment on function rowhouse.write_version(regclass, text[], text[], text[]) is
  'Writes documents of the current version, with embeddings of the other model, into the other version; with p_contents only those that still have this content. Returns how many. Raises RH023.';

revoke execute on function
  rowhouse.follow_documents(), rowhouse.follow_table(regclass), rowhouse.write_version(regclass, text[], text[], text[])
  from public;
grant execute on function rowhouse.write_version(regclass, text[], text[], text[]) to rowhouse_app;
