-- The tables of a collection: one of documents, which are searched, and one of the parents that documents are parts of.
--
-- Full-text search and row-level security: the operator @@ is not leakproof, so beside a policy it is no index condition,
-- unless it belongs to the first policy itself. The restrictive policy rowhouse_find, for the role rowhouse_search alone,
-- says that this role sees what matches the search of the transaction. Its name sorts before rowhouse_isolation, which
-- holds for this role as for any other: the role sees less than others, not more, and its searches use the index.
-- Depends on: rowhouse.collections, protect.sql, layout.sql, collections_index.sql. Proven by:
-- test/documents/collections.test.ts, test/isolation/search-role.test.ts.

create or replace function rowhouse.check_language(p_language text) returns text
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  if p_language is null then
    return 'english';
  elsif p_language = 'none' then
    return 'none';
  end if;
  return p_language::regconfig::text;
exception
  when others then
    raise exception using errcode = 'RH021',
      message = format('there is no text search configuration "%s"', left(p_language, 100)),
      hint = 'select cfgname from pg_ts_config lists them; those outside of pg_catalog are written with their schema. none leaves full-text search out.';
end
$$;

comment on function rowhouse.check_language(text) is
  'The text search configuration by the name that Postgres prints; english for null, none as it is. Raises RH021.';

create or replace function rowhouse.comment_columns(p_table regclass, p_comments jsonb) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_column record;
begin
  for v_column in select e.key, e.value from jsonb_each_text(p_comments) e loop
    execute format('comment on column %s.%I is %L', p_table, v_column.key, v_column.value);
  end loop;
end
$$;

comment on function rowhouse.comment_columns(regclass, jsonb) is 'Sets the comments of columns.';

create or replace function rowhouse.create_collection_table(p_table text, p_columns text) returns regclass
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  if to_regclass(p_table) is not null then
    raise exception using errcode = 'RH021',
      message = format('there is a table %s already, and it is not a collection', p_table),
      hint = 'Choose another name for the collection, or rename the table.';
  end if;
  execute format('create table %s (%s)', p_table, p_columns);
  return p_table::regclass;
end
$$;

comment on function rowhouse.create_collection_table(text, text) is
  'Creates a table of a collection; raises RH021 when there is a table of this name.';

create or replace function rowhouse.create_parents_table(p_name text) returns regclass
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_name text := format('rowhouse.%I', 'parents_' || p_name);
  v_table regclass;
begin
  v_table := rowhouse.create_collection_table(v_name,
    'tenant_id text not null default rowhouse.require_tenant(), '
    'parent_id text not null default gen_random_uuid()::text '
      'constraint parent_id_length check (length(parent_id) between 1 and 240), '
    'title text constraint title_length check (length(title) between 1 and 1000), '
    'source text constraint source_length check (length(source) between 1 and 2000), '
    'metadata jsonb not null default ''{}'' '
      'constraint metadata_object check (jsonb_typeof(metadata) = ''object'' and octet_length(metadata::text) <= 262144), '
    'created_at timestamptz not null default now(), '
    'updated_at timestamptz not null default now(), '
    'primary key (tenant_id, parent_id)');
  execute format('comment on table %s is %L', v_table, format('Parents of the documents of the collection %s.', p_name));
  perform rowhouse.comment_columns(v_table, jsonb_build_object(
    'tenant_id', 'The tenant that owns the parent.',
    'parent_id', 'Id within the tenant, chosen by the application or generated.',
    'title', 'Title, which its documents carry too.',
    'source', 'Where it comes from, which its documents carry too.',
    'metadata', 'A JSON object; its documents carry its entries unless they have their own.',
    'created_at', 'When it was first written.',
    'updated_at', 'When it was last written.'));
  perform rowhouse.protect_table(v_table, 'tenant_id', p_partition => true);
  return v_name::regclass;
end
$$;

comment on function rowhouse.create_parents_table(text) is
  'Makes the table of the parents of a collection, protected and partitioned by tenant.';

create or replace function rowhouse.create_documents_table(
  p_table text, p_name text, p_dimensions integer, p_metric text, p_element_type text, p_language text, p_parents regclass
) returns regclass
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_schema name := rowhouse.check_pgvector(p_element_type);
  v_table regclass;
begin
  v_table := rowhouse.create_collection_table(p_table, format(
    'tenant_id text not null default rowhouse.require_tenant(), '
    'document_id text not null default gen_random_uuid()::text '
      'constraint document_id_length check (length(document_id) between 1 and 256), '
    'parent_id text, '
    'place integer constraint place_from_0 check (place >= 0), '
    'title text constraint title_length check (length(title) between 1 and 1000), '
    'source text constraint source_length check (length(source) between 1 and 2000), '
    'content text not null constraint content_length check (length(content) between 1 and 1000000), '
    'metadata jsonb not null default ''{}'' '
      'constraint metadata_object check (jsonb_typeof(metadata) = ''object'' and octet_length(metadata::text) <= 262144), '
    'embedding %I.%I(%s) not null, '
    'created_at timestamptz not null default now(), '
    'updated_at timestamptz not null default now(), '
    'primary key (tenant_id, document_id), '
    'constraint place_in_parent check ((parent_id is null) = (place is null))',
    v_schema, p_element_type, p_dimensions));
  if p_language <> 'none' then
    -- The tenant is a word of each document, so the index finds a word of one tenant without a look at its neighbours.
    execute format('alter table %s add column words tsvector generated always as ('
      'array_to_tsvector(array[''tenant '' || tenant_id]) || setweight(to_tsvector(%2$L::regconfig, coalesce(title, '''')), ''A'') '
      '|| to_tsvector(%2$L::regconfig, content)) stored', v_table, p_language);
  end if;
  if p_metric = 'cosine' then
    -- Without a direction the distance is NaN: the index leaves such a vector out. So does one too long for its square.
    execute format('alter table %s add constraint embedding_direction check ((embedding operator(%I.<=>) embedding) < 1)',
      v_table, v_schema);
  end if;
  -- An exact search reads every embedding of the tenant. Kept in the row, that is one page instead of several reads of
  -- another table; then everything else but the long texts must stay in the row too, or it would be moved out instead.
  execute format('alter table %s alter column embedding set storage main, alter column metadata set storage main, '
    'alter column tenant_id set storage main, alter column document_id set storage main, '
    'alter column parent_id set storage main, alter column title set storage main, alter column source set storage main', v_table);

  execute format('comment on table %s is %L', v_table,
    format('Documents of the collection %s: %s(%s), %s distance.', p_name, p_element_type, p_dimensions, p_metric));
  perform rowhouse.comment_columns(v_table, jsonb_build_object(
    'tenant_id', 'The tenant that owns the document.',
    'document_id', 'Id within the tenant, chosen by the application or generated.',
    'parent_id', 'What the document is a part of; null when it stands for itself.',
    'place', 'Its place among the documents of its parent, from 0.',
    'title', 'Title; full-text search finds its words first.',
    'source', 'Where it comes from: a name, a path, an address.',
    'content', 'The text that the embedding stands for.',
    'metadata', 'A JSON object that searches filter by.',
    'embedding', 'The position of the content in the space of the embedding model.',
    'created_at', 'When the document was first written.',
    'updated_at', 'When the document was last written.'));
  if p_language <> 'none' then
    execute format('comment on column %s.words is %L', v_table, 'The words of title and content for full-text search, and the tenant.');
  end if;

  execute format('create index on %s (tenant_id, parent_id, place) where parent_id is not null', v_table);
  execute format('comment on index %s is %L', (
    select i.indexrelid::regclass from pg_index i where i.indrelid = v_table and i.indpred is not null), 'The documents of a parent.');
  perform rowhouse.protect_table(v_table, 'tenant_id', p_partition => true);
  v_table := p_table::regclass;
  execute format('alter table %s add constraint parent_exists foreign key (tenant_id, parent_id) references %s on delete cascade',
    v_table, p_parents);
  perform rowhouse.let_search(v_table);
  return v_table;
end
$$;

comment on function rowhouse.create_documents_table(text, text, integer, text, text, text, regclass) is
  'Makes a table of documents of a collection, protected and partitioned by tenant, without its indexes for searches.';

create or replace function rowhouse.let_search(p_table regclass) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (select from pg_attribute a where a.attrelid = p_table and a.attname = 'words' and not a.attisdropped) then
    return;
  end if;
  -- Neither the content nor the embedding: the caller of a search reads them with its own rights.
  execute format('grant select (tenant_id, document_id, parent_id, title, source, metadata, words) on %s to rowhouse_search', p_table);
  execute format('drop policy if exists rowhouse_find on %s', p_table);
  execute format('create policy rowhouse_find on %s as restrictive for select to rowhouse_search '
    'using (words @@ nullif(current_setting(''rowhouse.search'', true), '''')::tsquery)', p_table);
  execute format('comment on policy rowhouse_find on %s is %L', p_table,
    'Full-text search sees what it looks for, of the tenant of the transaction. In a policy, so that the index is used.');
end
$$;

comment on function rowhouse.let_search(regclass) is
  'Lets rowhouse_search see the ids, words and metadata of what matches the search of the transaction, of its tenant.';

revoke execute on function
  rowhouse.check_language(text), rowhouse.comment_columns(regclass, jsonb), rowhouse.create_collection_table(text, text),
  rowhouse.create_parents_table(text), rowhouse.let_search(regclass),
  rowhouse.create_documents_table(text, text, integer, text, text, text, regclass)
  from public;
