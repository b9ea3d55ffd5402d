-- Messages of sessions: append, list, search, fork, and the window that fits a model's context.
--
-- Every function runs with the rights of its caller, under row-level security, for the tenant of the transaction, and
-- says so in its own condition as well. Appends to one session come one after another: each locks the row of the session
-- and takes ids after those of the one before.
-- Depends on: sessions.sql. Proven by: test/sessions.

create or replace function rowhouse.time_ordered_id(p_at timestamptz, p_counter integer) returns uuid
  language plpgsql volatile parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  -- 48 bits of milliseconds, the version, 12 bits of the counter, 62 random bits.
  return (lpad(to_hex(floor(extract(epoch from p_at) * 1000)::bigint), 12, '0') || '7' || lpad(to_hex(p_counter), 3, '0')
    || substr(gen_random_uuid()::text, 20))::uuid;
end
$$;

comment on function rowhouse.time_ordered_id(timestamptz, integer) is
  'A UUID of version 7 (RFC 9562): ordered by time, within a millisecond by the counter, which is 0 to 4095.';

create or replace function rowhouse.check_messages(
  p_roles text[], p_contents json[], p_token_counts integer[], p_metadata jsonb[]
) returns void
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_count integer := coalesce(cardinality(p_roles), 0);
  v_problem record;
begin
  if v_count not between 1 and 1000 then
    raise exception using errcode = 'RH062', message = format('1 to 1000 messages are appended at once, not %s', v_count);
  elsif cardinality(p_contents) is distinct from v_count or cardinality(p_token_counts) <> v_count
      or cardinality(p_metadata) <> v_count then
    raise exception using errcode = 'RH062', message = 'roles, contents, token counts and metadata are not equally many';
  end if;
  select m.place, m.problem into v_problem
    from (
      select u.place, case
          when u.role is null or u.role not in ('system', 'user', 'assistant', 'tool') then
            'has a role other than system, user, assistant or tool'
          when u.content is null or jsonb_typeof(u.content::jsonb) <> 'array' then 'has content that is no array of parts'
          when octet_length(u.content::text) > 1048576 then 'has content of more than 1048576 bytes'
          when u.token_count not between 0 and 100000000 then 'has a token count that is not 0 to 100000000'
          when jsonb_typeof(u.metadata) <> 'object' then 'has metadata that is no JSON object'
          when octet_length(u.metadata::text) > 65536 then 'has metadata of more than 65536 bytes'
          else (
            select 'has a part that is no text, tool_call, tool_result or json, or lacks what it consists of'
              from jsonb_array_elements(u.content::jsonb) p
              where case p ->> 'type'
                when 'text' then jsonb_typeof(p -> 'text') = 'string'
                when 'tool_call' then jsonb_typeof(p -> 'id') = 'string' and length(p ->> 'id') between 1 and 256
                  and jsonb_typeof(p -> 'name') = 'string' and p ? 'arguments'
                when 'tool_result' then jsonb_typeof(p -> 'callId') = 'string' and length(p ->> 'callId') between 1 and 256
                  and p ? 'result'
                when 'json' then p ? 'value'
              end is not true
              limit 1)
        end as problem
        from unnest(p_roles, p_contents, p_token_counts, p_metadata)
          with ordinality u (role, content, token_count, metadata, place)
    ) m
    where m.problem is not null
    order by m.place
    limit 1;
  if v_problem.place is not null then
    raise exception using errcode = 'RH062', message = format('message %s of %s %s', v_problem.place, v_count, v_problem.problem);
  end if;
exception
  when untranslatable_character or invalid_text_representation then
    raise exception using errcode = 'RH062',
      message = 'the content of a message has a zero byte or half of a character, which Postgres cannot store';
end
$$;

comment on function rowhouse.check_messages(text[], json[], integer[], jsonb[]) is
  'Raises RH062 with the first message that cannot be appended.';

create or replace function rowhouse.estimate_tokens(p_content json) returns integer
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  return 4 + ceil(octet_length(p_content::text) / 4.0);
end
$$;

comment on function rowhouse.estimate_tokens(json) is
  'About how many tokens a message takes: one for each 4 bytes, and 4 for what surrounds it.';

create or replace function rowhouse.earlier_calls(p_session uuid, p_call_ids text[]) returns text[]
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
begin
  -- Newest first: calls are mostly answered at once.
  return array(
    select c.id from unnest(p_call_ids) c (id)
      where exists (
        select from rowhouse.messages m
          where m.tenant_id = v_tenant and m.session_id = p_session and c.id = any (m.call_ids)
          order by m.message_id desc limit 1));
end
$$;

comment on function rowhouse.earlier_calls(uuid, text[]) is 'Those of the tool calls that a message of the session made.';

create or replace function rowhouse.append_messages(
  p_session uuid,
  p_roles text[],
  p_contents json[],
  p_token_counts integer[] default null,
  p_metadata jsonb[] default null,
  p_expected_length bigint default null
) returns table (message_id uuid, place bigint, token_count integer, created_at timestamptz)
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_session rowhouse.sessions;
  v_at timestamptz;
  v_token_counts integer[];
  v_results text[];
  v_earlier text[];
begin
  perform rowhouse.check_messages(p_roles, p_contents, p_token_counts, p_metadata);
  v_session := rowhouse.lock_session(p_session);
  if v_session.message_count <> p_expected_length then
    raise exception using errcode = 'RH063',
      message = format('the session has %s messages, not %s', v_session.message_count, p_expected_length);
  end if;
  v_token_counts := array(
    select coalesce(u.token_count, rowhouse.estimate_tokens(u.content))
      from unnest(p_contents, p_token_counts) with ordinality u (content, token_count, place) order by u.place);
  -- A millisecond of its own for each append, so that ids grow even when the clock does not.
  v_at := greatest(clock_timestamp(), v_session.updated_at + interval '1 millisecond');
  update rowhouse.sessions s
    set message_count = s.message_count + cardinality(p_roles), updated_at = v_at,
      token_count = s.token_count + (select sum(t.count) from unnest(v_token_counts) t (count))
    where s.tenant_id = v_session.tenant_id and s.session_id = p_session;

  -- Which calls results belong to is looked up now, so that a window need not search the whole session for them.
  v_results := array(
    select p ->> 'callId' from unnest(p_contents) c, json_array_elements(c) p where p ->> 'type' = 'tool_result');
  if v_results <> '{}' then
    v_earlier := rowhouse.earlier_calls(p_session, v_results);
  end if;
  return query
    with calls as (
      select u.place, p ->> 'id' as id
        from unnest(p_contents) with ordinality u (content, place), json_array_elements(u.content) p
        where p ->> 'type' = 'tool_call'
    ), written as (
      insert into rowhouse.messages as m
          (tenant_id, session_id, message_id, role, content, call_ids, result_ids, token_count, metadata, created_at)
        select v_session.tenant_id, p_session, rowhouse.time_ordered_id(v_at, u.place::integer), u.role, u.content,
            (select array_agg(c.id) from calls c where c.place = u.place),
            (select array_agg(p ->> 'callId') from json_array_elements(u.content) p
              where p ->> 'type' = 'tool_result' and (p ->> 'callId' = any (v_earlier)
                or exists (select from calls c where c.id = p ->> 'callId' and c.place < u.place))),
            u.token_count, coalesce(u.metadata, '{}'), v_at
          from unnest(p_roles, p_contents, v_token_counts, p_metadata)
            with ordinality u (role, content, token_count, metadata, place)
        returning m.message_id, m.token_count, m.created_at)
    select w.message_id, v_session.message_count + row_number() over (order by w.message_id), w.token_count, w.created_at
      from written w
      order by w.message_id;
end
$$;

comment on function rowhouse.append_messages(uuid, text[], json[], integer[], jsonb[], bigint) is
  'Appends messages to a session of the tenant, all or none: element n of each array belongs to message n. p_contents: arrays of parts, see the column. p_token_counts: null, or null for single messages, estimates. p_expected_length: the number of messages that the session must have before. Appends at the same time come one after another, each in one piece. Returns ids in the given order; place counts from 1. Raises RH060 (no such session), RH062 (a message is invalid), RH063 (the session has another length).';

create or replace function rowhouse.list_messages(
  p_session uuid, p_limit integer default 100, p_after uuid default null, p_newest_first boolean default false
) returns setof rowhouse.messages
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
begin
  if p_limit is null or p_limit not between 1 and 1001 then
    raise exception using errcode = 'invalid_parameter_value', message = 'the limit of a list is 1 to 1001 messages';
  elsif not exists (select from rowhouse.get_session(p_session)) then
    perform rowhouse.raise_no_session();
  end if;
  if p_newest_first then
    return query
      select m.* from rowhouse.messages m
        where m.tenant_id = v_tenant and m.session_id = p_session and (p_after is null or m.message_id < p_after)
        order by m.message_id desc limit p_limit;
  else
    return query
      select m.* from rowhouse.messages m
        where m.tenant_id = v_tenant and m.session_id = p_session and (p_after is null or m.message_id > p_after)
        order by m.message_id limit p_limit;
  end if;
end
$$;

comment on function rowhouse.list_messages(uuid, integer, uuid, boolean) is
  'Messages of a session in their order, or newest first. p_after: id of the last message of the page before. Raises RH060.';

create or replace function rowhouse.context_budget(p_max_tokens bigint, p_reserve_tokens bigint) returns bigint
  language plpgsql stable parallel restricted
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_settings jsonb;
  v_limit bigint;
  v_reserve bigint;
begin
  select t.settings -> 'context' into v_settings from rowhouse.tenants t where t.tenant_id = v_tenant;
  if jsonb_typeof(v_settings -> 'maxTokens') = 'number' then
    v_limit := (v_settings ->> 'maxTokens')::numeric;
  end if;
  if jsonb_typeof(v_settings -> 'reserveTokens') = 'number' then
    v_reserve := (v_settings ->> 'reserveTokens')::numeric;
  end if;
  v_limit := least(p_max_tokens, v_limit);
  v_reserve := coalesce(p_reserve_tokens, v_reserve, 0);
  if v_limit is null then
    raise exception using errcode = 'RH064',
      message = 'a window needs a limit, and neither the call nor the settings of the tenant give one';
  end if;
  return greatest(0, v_limit - greatest(0, v_reserve));
end
$$;

comment on function rowhouse.context_budget(bigint, bigint) is
  'Tokens left for messages: the smaller of p_max_tokens and context.maxTokens of the settings of the tenant, less the reserve for the answer (p_reserve_tokens, else context.reserveTokens, else 0). Raises RH064 when there is no limit.';

create or replace function rowhouse.message_window(
  p_session uuid, p_max_tokens bigint default null, p_reserve_tokens bigint default null
) returns setof rowhouse.messages
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_left bigint := rowhouse.context_budget(p_max_tokens, p_reserve_tokens);
  v_message record;
  v_first uuid;
  v_missing text[] := '{}';
begin
  if not exists (select from rowhouse.get_session(p_session)) then
    perform rowhouse.raise_no_session();
  end if;
  for v_message in
    select m.message_id, m.token_count, m.call_ids, m.result_ids from rowhouse.messages m
      where m.tenant_id = v_tenant and m.session_id = p_session
      order by m.message_id desc
  loop
    v_left := v_left - v_message.token_count;
    exit when v_left < 0;
    -- The window may begin at a message only when the calls of all results in it are in it too.
    if v_message.call_ids is not null or v_message.result_ids is not null then
      v_missing := array(
        select r from unnest(v_missing || v_message.result_ids) r where r = any (v_message.call_ids) is not true);
    end if;
    if v_missing = '{}' then
      v_first := v_message.message_id;
    end if;
  end loop;
  return query
    select m.* from rowhouse.messages m
      where m.tenant_id = v_tenant and m.session_id = p_session and m.message_id >= v_first
      order by m.message_id;
end
$$;

comment on function rowhouse.message_window(uuid, bigint, bigint) is
  'The newest messages of a session that fit into a context, in their order: as many as context_budget(p_max_tokens, p_reserve_tokens) has room for, but never a result without the message that made its tool call. Raises RH060, RH064.';

create or replace function rowhouse.search_messages(
  p_session uuid, p_query text, p_limit integer default 20, p_before uuid default null
) returns setof rowhouse.messages
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_words text[] := array(select w from regexp_split_to_table(lower(p_query), '\s+') w where w <> '');
begin
  if coalesce(cardinality(v_words), 0) not between 1 and 32 then
    raise exception using errcode = 'invalid_parameter_value', message = 'a search is for 1 to 32 words';
  elsif p_limit is null or p_limit not between 1 and 1001 then
    raise exception using errcode = 'invalid_parameter_value', message = 'the limit of a search is 1 to 1001 messages';
  elsif not exists (select from rowhouse.get_session(p_session)) then
    perform rowhouse.raise_no_session();
  end if;
  return query
    select m.* from rowhouse.messages m
        cross join lateral (
          select lower(string_agg(p ->> 'text', e'\n')) as content
            from json_array_elements(m.content) p where p ->> 'type' = 'text') t
      where m.tenant_id = v_tenant and m.session_id = p_session and (p_before is null or m.message_id < p_before)
        and t.content is not null and not exists (select from unnest(v_words) w where strpos(t.content, w) = 0)
      order by m.message_id desc limit p_limit;
end
$$;

comment on function rowhouse.search_messages(uuid, text, integer, uuid) is
  'Messages of a session whose text contains every word of p_query, in any case and any order, newest first. p_before: id of the last message of the page before. Raises RH060.';

create or replace function rowhouse.fork_session(p_session uuid, p_until uuid default null) returns setof rowhouse.sessions
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_session rowhouse.sessions := rowhouse.lock_session(p_session);
  v_fork uuid := gen_random_uuid();
  v_now timestamptz := greatest(clock_timestamp(), v_session.updated_at);
begin
  if p_until is not null and not exists (
      select from rowhouse.messages m
        where m.tenant_id = v_session.tenant_id and m.session_id = p_session and m.message_id = p_until) then
    raise exception using errcode = 'RH062', message = 'the session has no message of this id';
  end if;
  insert into rowhouse.sessions
      (tenant_id, session_id, user_id, agent_id, metadata, providers, expires_at, forked_from, created_at, updated_at)
    values (v_session.tenant_id, v_fork, v_session.user_id, v_session.agent_id, v_session.metadata, v_session.providers,
      v_session.expires_at, p_session, v_now, v_now);
  insert into rowhouse.messages
      (tenant_id, session_id, message_id, role, content, call_ids, result_ids, token_count, metadata, created_at)
    select m.tenant_id, v_fork, m.message_id, m.role, m.content, m.call_ids, m.result_ids, m.token_count, m.metadata, m.created_at
      from rowhouse.messages m
      where m.tenant_id = v_session.tenant_id and m.session_id = p_session and (p_until is null or m.message_id <= p_until)
    on conflict do nothing;
  return query
    update rowhouse.sessions s
      set message_count = c.messages, token_count = c.tokens
      from (
        select count(*) as messages, coalesce(sum(m.token_count), 0) as tokens from rowhouse.messages m
          where m.tenant_id = v_session.tenant_id and m.session_id = v_fork) c
      where s.tenant_id = v_session.tenant_id and s.session_id = v_fork
      returning s.*;
end
$$;

comment on function rowhouse.fork_session(uuid, uuid) is
  'Makes a new session that begins as a copy: owner, agent, metadata, providers, expiry, and the messages up to and with p_until, or all; messages keep their ids. The original stays as it is. Raises RH060, RH062 (no such message).';

revoke execute on function
  rowhouse.time_ordered_id(timestamptz, integer), rowhouse.check_messages(text[], json[], integer[], jsonb[]),
  rowhouse.estimate_tokens(json), rowhouse.earlier_calls(uuid, text[]),
  rowhouse.append_messages(uuid, text[], json[], integer[], jsonb[], bigint),
  rowhouse.list_messages(uuid, integer, uuid, boolean), rowhouse.context_budget(bigint, bigint),
  rowhouse.message_window(uuid, bigint, bigint), rowhouse.search_messages(uuid, text, integer, uuid),
  rowhouse.fork_session(uuid, uuid)
  from public;
grant execute on function
  rowhouse.time_ordered_id(timestamptz, integer), rowhouse.check_messages(text[], json[], integer[], jsonb[]),
  rowhouse.estimate_tokens(json), rowhouse.earlier_calls(uuid, text[]),
  rowhouse.append_messages(uuid, text[], json[], integer[], jsonb[], bigint),
  rowhouse.list_messages(uuid, integer, uuid, boolean), rowhouse.context_budget(bigint, bigint),
  rowhouse.message_window(uuid, bigint, bigint), rowhouse.search_messages(uuid, text, integer, uuid),
  rowhouse.fork_session(uuid, uuid)
  to rowhouse_app;
