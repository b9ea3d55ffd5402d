-- Full-text search of the documents of one tenant, by the index over their words.
--
-- Beside a policy the operator @@ is no index condition for whoever the policy holds for. So the one function that
-- searches belongs to the role rowhouse_search, which has no other use: it owns nothing else, nobody is its member but
-- the login that migrates, and it sees less than anybody. The two policies of every tenant table hold for it, and a
-- third one shows it only what matches the search of the transaction (collections_tables.sql), in columns that tell ids
-- and words. The function takes the tenant from the transaction, returns ids and ranks, and its caller reads the
-- documents with its own rights.
-- Depends on: documents.sql, documents_filter.sql. Proven by: test/documents/text-search.test.ts, test/isolation/search-role.test.ts.

create or replace function rowhouse.text_query(p_language text, p_text text, p_match text) returns tsquery
  language plpgsql immutable
  set search_path = pg_catalog, pg_temp
as $$
begin
  if p_match = 'any' then
    return (
      select coalesce(string_agg('''' || replace(replace(w.lexeme, '\', '\\'), '''', '''''') || '''', ' | '), '')::tsquery
        from unnest(to_tsvector(p_language::regconfig, p_text)) w);
  end if;
  return websearch_to_tsquery(p_language::regconfig, p_text);
end
$$;

comment on function rowhouse.text_query(text, text, text) is
  'What people type as a query: all words, "a phrase", or, -not; with p_match any: at least one of the words.';

create or replace function rowhouse.check_text_search(p_language text, p_text text, p_match text) returns void
  language plpgsql immutable
  set search_path = pg_catalog, pg_temp
as $$
begin
  if p_language = 'none' then
    raise exception using errcode = 'RH021', message = 'the collection was created without full-text search';
  elsif p_text is null or length(p_text) > 10000 then
    raise exception using errcode = 'invalid_parameter_value', message = 'a search by words needs a text of up to 10000 characters';
  elsif p_match is null or p_match not in ('all', 'any') then
    raise exception using errcode = 'invalid_parameter_value', message = 'a text matches all or any of the words';
  end if;
end
$$;

comment on function rowhouse.check_text_search(text, text, text) is 'Raises RH021 or 22023 when a text cannot be searched for.';

create or replace function rowhouse.scan_words(
  p_relation regclass, p_text text, p_match text, p_limit integer, p_filter jsonb
) returns table (document_id text, rank real)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
  set enable_seqscan = off
  set jit = off
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_collection record;
begin
  select * into v_collection from rowhouse.locate_collection(null, null, p_relation);
  return query execute format('select d.document_id, ts_rank(d.words, $1, 1) from %s d '
    'where d.tenant_id = $2 and d.words @@ $1 and (%s) order by 2 desc, 1 limit $3',
    v_collection.relation, rowhouse.compile_filter(p_filter))
    using rowhouse.text_query(v_collection.language, p_text, p_match), v_tenant, p_limit;
end
$$;

comment on function rowhouse.scan_words(regclass, text, text, integer, jsonb) is
  'The documents of the tenant that match a text best, by a look at every one of them, with the rights of the caller.';

-- Made by the role that it belongs to: only a member may give a function away, and rowhouse_owner is no member.
grant create on schema rowhouse to rowhouse_search;
set local role rowhouse_search;

create or replace function rowhouse.find_words(
  p_relation regclass, p_text text, p_match text, p_limit integer, p_filter jsonb
) returns table (document_id text, rank real)
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set enable_seqscan = off
  set enable_indexscan = off
  set jit = off
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_language text;
  v_query tsquery;
  v_before text := current_setting('rowhouse.search', true);
begin
  select c.language into v_language from rowhouse.collections c where c.relation = p_relation;
  if v_language is null then
    raise exception using errcode = 'RH020', message = 'the table is not the one of a collection';
  end if;
  perform rowhouse.check_text_search(v_language, p_text, p_match);
  v_query := rowhouse.text_query(v_language, p_text, p_match);
  if numnode(v_query) = 0 then
    return;
  end if;
  -- What this role sees: the policy says it, so that it is the condition of the index.
  execute format('set local rowhouse.search = %L', quote_literal('tenant ' || v_tenant)::tsquery && v_query);
  return query execute format('select d.document_id, ts_rank(d.words, $1, 1) from %s d '
    'where d.tenant_id = $2 and (%s) order by 2 desc, 1 limit $3', p_relation, rowhouse.compile_filter(p_filter))
    using v_query, v_tenant, least(greatest(p_limit, 1), 1000);
  execute format('set local rowhouse.search = %L', coalesce(v_before, ''));
end
$$;

comment on function rowhouse.find_words(regclass, text, text, integer, jsonb) is
  'Ids and ranks of the documents of the tenant that match a text best, by the index over their words. Runs with the rights of rowhouse_search, which sees nothing else. Raises RH020, RH021, RH025.';

revoke execute on function rowhouse.find_words(regclass, text, text, integer, jsonb) from public;
grant execute on function rowhouse.find_words(regclass, text, text, integer, jsonb) to rowhouse_app;

set local role rowhouse_owner;
revoke create on schema rowhouse from rowhouse_search;

revoke execute on function
  rowhouse.text_query(text, text, text), rowhouse.check_text_search(text, text, text),
  rowhouse.scan_words(regclass, text, text, integer, jsonb)
  from public;
grant execute on function rowhouse.text_query(text, text, text), rowhouse.check_text_search(text, text, text)
  to rowhouse_app, rowhouse_search;
grant execute on function rowhouse.scan_words(regclass, text, text, integer, jsonb) to rowhouse_app;
grant select on rowhouse.collections to rowhouse_search;
