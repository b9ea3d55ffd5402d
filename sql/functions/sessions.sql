-- Sessions: create, read, change, list, delete and sweep the sessions of one tenant.
--
-- Every function runs with the rights of its caller, under row-level security, for the tenant of the transaction, and
-- says so in its own condition as well. A session that is over (expired, or past the retention of the tenant) is gone
-- for all of them at once; sweep_sessions deletes it later.
-- Depends on: protect.sql, context.sql, retention.sql. Proven by: test/sessions.

select rowhouse.protect_table('rowhouse.sessions');
select rowhouse.protect_table('rowhouse.messages', p_partition => true);

create or replace function rowhouse.raise_no_session() returns void
  language plpgsql stable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  -- The same words whether it never existed, is over, or belongs to somebody else.
  raise exception using errcode = 'RH060', message = 'the session does not exist';
end
$$;

comment on function rowhouse.raise_no_session() is 'Raises RH060.';

create or replace function rowhouse.session_cutoff() returns timestamptz
  language plpgsql stable parallel restricted
  set search_path = pg_catalog, pg_temp
as $$
begin
  return statement_timestamp() - make_interval(days => rowhouse.retention_days('sessions'));
end
$$;

comment on function rowhouse.session_cutoff() is 'Sessions of the tenant that were last used before this time are over.';

create or replace function rowhouse.check_session(
  p_user text, p_agent text, p_metadata jsonb, p_providers text[], p_expires_at timestamptz
) returns void
  language plpgsql stable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_problem text;
begin
  v_problem := case
    when length(p_user) not between 1 and 200 then 'a user id that is not 1 to 200 characters long'
    when length(p_agent) not between 1 and 200 then 'an agent id that is not 1 to 200 characters long'
    when p_metadata is null or jsonb_typeof(p_metadata) <> 'object' then 'metadata that is no JSON object'
    when octet_length(p_metadata::text) > 65536 then 'metadata of more than 65536 bytes'
    when cardinality(p_providers) > 100 then 'more than 100 providers'
    when exists (select from unnest(p_providers) p where p is null or length(p) not between 1 and 200) then
      'a provider that is not 1 to 200 characters long'
    when p_expires_at <= statement_timestamp() or p_expires_at = 'infinity' then 'an expiry that is not in the future'
  end;
  if v_problem is not null then
    raise exception using errcode = 'RH061', message = format('a session cannot have %s', v_problem);
  end if;
end
$$;

comment on function rowhouse.check_session(text, text, jsonb, text[], timestamptz) is
  'Raises RH061 with the first thing that no session can have.';

create or replace function rowhouse.create_session(
  p_user text default null,
  p_agent text default null,
  p_metadata jsonb default '{}',
  p_providers text[] default null,
  p_expires_at timestamptz default null
) returns setof rowhouse.sessions
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_user text := coalesce(p_user, nullif(current_setting('app.user_id', true), ''));
begin
  perform rowhouse.check_session(v_user, p_agent, p_metadata, p_providers, p_expires_at);
  return query
    insert into rowhouse.sessions as s (tenant_id, user_id, agent_id, metadata, providers, expires_at)
      values (v_tenant, v_user, p_agent, p_metadata, p_providers, p_expires_at)
      returning s.*;
end
$$;

comment on function rowhouse.create_session(text, text, jsonb, text[], timestamptz) is
  'Creates a session with a random id. p_user: its owner, by default the user of the transaction (app.user_id). p_metadata: a JSON object of up to 65536 bytes. p_providers: the model providers and tool servers it may use; null is no restriction. p_expires_at: when it is over at the latest. Raises RH061.';

create or replace function rowhouse.get_session(p_session uuid) returns setof rowhouse.sessions
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_cutoff timestamptz := rowhouse.session_cutoff();
begin
  return query
    select s.* from rowhouse.sessions s
      where s.tenant_id = v_tenant and s.session_id = p_session
        and s.updated_at > v_cutoff and (s.expires_at is null or s.expires_at > statement_timestamp());
end
$$;

comment on function rowhouse.get_session(uuid) is 'The session, or no row when the tenant has none of this id.';

create or replace function rowhouse.assert_provider(p_session uuid, p_provider text) returns void
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_session rowhouse.sessions;
begin
  select s.* into v_session from rowhouse.get_session(p_session) s;
  if v_session.session_id is null then
    perform rowhouse.raise_no_session();
  elsif v_session.providers is not null and (p_provider = any (v_session.providers)) is not true then
    raise exception using errcode = 'RH065',
      message = format('the session may not use "%s"', left(p_provider, 200)),
      hint = 'It is not among the providers that the session was created with.';
  end if;
end
$$;

comment on function rowhouse.assert_provider(uuid, text) is
  'Raises RH065 when the session has a list of providers that this one is not among; RH060 when the tenant has no such session.';

create or replace function rowhouse.find_session(p_id text) returns setof rowhouse.sessions
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_cutoff timestamptz := rowhouse.session_cutoff();
begin
  if p_id ~ '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' then
    return query select * from rowhouse.get_session(p_id::uuid);
    if found then
      return;
    end if;
  end if;
  return query
    select s.* from rowhouse.sessions s
      where s.tenant_id = v_tenant and s.external_id = p_id
        and s.updated_at > v_cutoff and (s.expires_at is null or s.expires_at > statement_timestamp());
end
$$;

comment on function rowhouse.find_session(text) is
  'The session of this id, else of this external id, or no row when the tenant has neither.';

create or replace function rowhouse.open_session(p_external_id text) returns setof rowhouse.sessions
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_cutoff timestamptz := rowhouse.session_cutoff();
begin
  return query select * from rowhouse.find_session(p_external_id);
  if found then
    return;
  end if;
  if p_external_id is null or length(p_external_id) not between 1 and 512 then
    raise exception using errcode = 'RH061', message = 'a session cannot have an external id that is not 1 to 512 characters long';
  end if;
  -- One that is over makes room for the new one, with its messages.
  delete from rowhouse.sessions s
    where s.tenant_id = v_tenant and s.external_id = p_external_id
      and (s.updated_at <= v_cutoff or s.expires_at <= statement_timestamp());
  insert into rowhouse.sessions (tenant_id, external_id, user_id)
    values (v_tenant, p_external_id, nullif(current_setting('app.user_id', true), ''))
    on conflict (tenant_id, external_id) where external_id is not null do nothing;
  -- Whoever made it.
  return query select s.* from rowhouse.sessions s where s.tenant_id = v_tenant and s.external_id = p_external_id;
end
$$;

comment on function rowhouse.open_session(text) is
  'The session of this id or external id, which is created when there is none. Of several callers at once one creates it. Raises RH061.';

create or replace function rowhouse.lock_session(p_session uuid) returns rowhouse.sessions
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_cutoff timestamptz := rowhouse.session_cutoff();
  v_session rowhouse.sessions;
begin
  select s.* into v_session from rowhouse.sessions s
    where s.tenant_id = v_tenant and s.session_id = p_session
      and s.updated_at > v_cutoff and (s.expires_at is null or s.expires_at > statement_timestamp())
    for no key update;
  if v_session.session_id is null then
    perform rowhouse.raise_no_session();
  end if;
  return v_session;
end
$$;

comment on function rowhouse.lock_session(uuid) is
  'The session, locked against other changes until the transaction ends. Raises RH060.';

create or replace function rowhouse.update_session(p_session uuid, p_changes jsonb) returns setof rowhouse.sessions
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_session rowhouse.sessions := rowhouse.lock_session(p_session);
  v_unknown text;
begin
  select k into v_unknown from jsonb_object_keys(p_changes) k
    where k <> all (array['userId', 'agentId', 'metadata', 'providers', 'expiresAt']) limit 1;
  if v_unknown is not null then
    raise exception using errcode = 'RH061', message = format('a session has no property "%s" that can be changed', v_unknown);
  end if;
  if p_changes ? 'userId' then
    v_session.user_id := p_changes ->> 'userId';
  end if;
  if p_changes ? 'agentId' then
    v_session.agent_id := p_changes ->> 'agentId';
  end if;
  if p_changes ? 'metadata' then
    v_session.metadata := p_changes -> 'metadata';
  end if;
  if p_changes ? 'providers' then
    if jsonb_typeof(p_changes -> 'providers') not in ('array', 'null') then
      raise exception using errcode = 'RH061', message = 'the providers of a session are an array';
    end if;
    v_session.providers := case when p_changes -> 'providers' <> 'null'
      then array(select jsonb_array_elements_text(p_changes -> 'providers')) end;
  end if;
  if p_changes ? 'expiresAt' then
    v_session.expires_at := (p_changes ->> 'expiresAt')::timestamptz;
  end if;
  perform rowhouse.check_session(v_session.user_id, v_session.agent_id, v_session.metadata, v_session.providers,
    case when p_changes ? 'expiresAt' then v_session.expires_at end);
  v_session.updated_at := greatest(clock_timestamp(), v_session.updated_at);
  update rowhouse.sessions s
    set user_id = v_session.user_id, agent_id = v_session.agent_id, metadata = v_session.metadata,
      providers = v_session.providers, expires_at = v_session.expires_at, updated_at = v_session.updated_at
    where s.tenant_id = v_session.tenant_id and s.session_id = p_session;
  return next v_session;
end
$$;

comment on function rowhouse.update_session(uuid, jsonb) is
  'Changes a session. p_changes: an object with any of userId, agentId, metadata (replaced as a whole), providers, expiresAt; null clears. {} only marks it as used. Raises RH060, RH061.';

create or replace function rowhouse.delete_session(p_session uuid) returns boolean
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_existed boolean := exists (select from rowhouse.get_session(p_session));
begin
  delete from rowhouse.sessions s where s.tenant_id = v_tenant and s.session_id = p_session;
  return v_existed and found;
end
$$;

comment on function rowhouse.delete_session(uuid) is 'Deletes a session with its messages; false when the tenant has none of this id.';

create or replace function rowhouse.list_sessions(
  p_limit integer default 50,
  p_user text default null,
  p_agent text default null,
  p_before_use timestamptz default null,
  p_before_id uuid default null
) returns setof rowhouse.sessions
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_cutoff timestamptz := rowhouse.session_cutoff();
begin
  if p_limit is null or p_limit not between 1 and 1001 then
    raise exception using errcode = 'invalid_parameter_value', message = 'the limit of a list is 1 to 1001 sessions';
  end if;
  return query
    select s.* from rowhouse.sessions s
      where s.tenant_id = v_tenant
        and s.updated_at > v_cutoff and (s.expires_at is null or s.expires_at > statement_timestamp())
        and (p_user is null or s.user_id = p_user) and (p_agent is null or s.agent_id = p_agent)
        and (p_before_use is null or (s.updated_at, s.session_id) < (p_before_use, p_before_id))
      order by s.updated_at desc, s.session_id desc
      limit p_limit;
end
$$;

comment on function rowhouse.list_sessions(integer, text, text, timestamptz, uuid) is
  'Sessions of the tenant, those used last first; of one user or one agent where these are given. p_before_use, p_before_id: updated_at and id of the last session of the page before.';

create or replace function rowhouse.sweep_sessions(p_limit integer default 100) returns integer
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_cutoff timestamptz := rowhouse.session_cutoff();
  v_now timestamptz := statement_timestamp();
  v_ids uuid[];
  v_deleted integer;
begin
  -- What another process sweeps or uses right now is left to it.
  v_ids := array(
    select s.session_id from rowhouse.sessions s
      where s.tenant_id = v_tenant and (s.updated_at <= v_cutoff or s.expires_at <= v_now)
      limit p_limit for update skip locked);
  delete from rowhouse.sessions s where s.tenant_id = v_tenant and s.session_id = any (v_ids);
  get diagnostics v_deleted = row_count;
  return v_deleted;
end
$$;

comment on function rowhouse.sweep_sessions(integer) is
  'Deletes up to this many sessions of the tenant that are over, with their messages, and returns how many; 0 when none is left. Several processes may sweep at once.';

revoke execute on function
  rowhouse.raise_no_session(), rowhouse.session_cutoff(), rowhouse.check_session(text, text, jsonb, text[], timestamptz),
  rowhouse.create_session(text, text, jsonb, text[], timestamptz), rowhouse.get_session(uuid),
  rowhouse.assert_provider(uuid, text), rowhouse.find_session(text), rowhouse.open_session(text), rowhouse.lock_session(uuid),
  rowhouse.update_session(uuid, jsonb), rowhouse.delete_session(uuid),
  rowhouse.list_sessions(integer, text, text, timestamptz, uuid), rowhouse.sweep_sessions(integer)
  from public;
grant execute on function
  rowhouse.raise_no_session(), rowhouse.session_cutoff(), rowhouse.check_session(text, text, jsonb, text[], timestamptz),
  rowhouse.create_session(text, text, jsonb, text[], timestamptz), rowhouse.get_session(uuid),
  rowhouse.assert_provider(uuid, text), rowhouse.find_session(text), rowhouse.open_session(text), rowhouse.lock_session(uuid),
  rowhouse.update_session(uuid, jsonb), rowhouse.delete_session(uuid),
  rowhouse.list_sessions(integer, text, text, timestamptz, uuid), rowhouse.sweep_sessions(integer)
  to rowhouse_app;
