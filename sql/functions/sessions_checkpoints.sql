-- Checkpoints: what an agent framework stores of its threads, for one tenant. A thread is a session: one that the
-- application made, named by its id, or one that is opened under the name of the thread.
--
-- Every function runs with the rights of its caller, under row-level security, for the tenant of the transaction, and
-- says so in its own condition as well. Checkpoints of a session that is over are gone with it.
-- Depends on: sessions.sql. Proven by: test/langgraph, test/compat/langgraph.test.ts.

select rowhouse.protect_table('rowhouse.checkpoints');
select rowhouse.protect_table('rowhouse.checkpoint_values');
select rowhouse.protect_table('rowhouse.checkpoint_writes');

create or replace function rowhouse.put_checkpoint(
  p_thread text,
  p_namespace text,
  p_checkpoint_id text,
  p_parent_id text,
  p_checkpoint_type text,
  p_checkpoint bytea,
  p_metadata_type text,
  p_metadata bytea,
  p_filter jsonb,
  p_channels text[],
  p_versions text[],
  p_changed_channels text[],
  p_changed_versions text[],
  p_value_types text[],
  p_values bytea[]
) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_session uuid;
begin
  -- Also marks the session as used, which begins its retention anew.
  select u.session_id into v_session
    from rowhouse.open_session(p_thread) o, rowhouse.update_session(o.session_id, '{}') u;
  insert into rowhouse.checkpoints (tenant_id, session_id, namespace, checkpoint_id, parent_id,
      checkpoint_type, checkpoint, metadata_type, metadata, filter, channels, versions)
    values (v_tenant, v_session, p_namespace, p_checkpoint_id, p_parent_id,
      p_checkpoint_type, p_checkpoint, p_metadata_type, p_metadata, p_filter, p_channels, p_versions)
    on conflict (tenant_id, session_id, namespace, checkpoint_id) do update
      set parent_id = excluded.parent_id, checkpoint_type = excluded.checkpoint_type, checkpoint = excluded.checkpoint,
        metadata_type = excluded.metadata_type, metadata = excluded.metadata, filter = excluded.filter,
        channels = excluded.channels, versions = excluded.versions;
  insert into rowhouse.checkpoint_values (tenant_id, session_id, namespace, channel, version, value_type, value)
    select v_tenant, v_session, p_namespace, u.channel, u.version, u.value_type, u.value
      from unnest(p_changed_channels, p_changed_versions, p_value_types, p_values) u (channel, version, value_type, value)
    on conflict (tenant_id, session_id, namespace, channel, version) do nothing;
end
$$;

comment on function rowhouse.put_checkpoint(
    text, text, text, text, text, bytea, text, bytea, jsonb, text[], text[], text[], text[], text[], bytea[]) is
  'Stores a checkpoint of a thread, in place of the one that has its id, and the values of the channels that changed: element n of each of the last four arrays belongs to one of them. A thread that the tenant does not have becomes a session of that external id.';

create or replace function rowhouse.put_checkpoint_writes(
  p_thread text,
  p_namespace text,
  p_checkpoint_id text,
  p_task_id text,
  p_places integer[],
  p_channels text[],
  p_value_types text[],
  p_values bytea[]
) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_session uuid;
begin
  select o.session_id into v_session from rowhouse.open_session(p_thread) o;
  -- Of several writes of one place in a call the first stays, or below 0 the last, as if they had come one by one.
  insert into rowhouse.checkpoint_writes as w
      (tenant_id, session_id, namespace, checkpoint_id, task_id, place, channel, value_type, value)
    select distinct on (u.place) v_tenant, v_session, p_namespace, p_checkpoint_id, p_task_id, u.place, u.channel, u.value_type, u.value
      from unnest(p_places, p_channels, p_value_types, p_values)
        with ordinality u (place, channel, value_type, value, number)
      order by u.place, case when u.place < 0 then - u.number else u.number end
    on conflict (tenant_id, session_id, namespace, checkpoint_id, task_id, place) do update
      set channel = excluded.channel, value_type = excluded.value_type, value = excluded.value
      where w.place < 0;
end
$$;

comment on function rowhouse.put_checkpoint_writes(text, text, text, text, integer[], text[], text[], bytea[]) is
  'Stores what a task wrote after a checkpoint: element n of each array belongs to write n. A write that is there already stays, unless its place is below 0.';

create or replace function rowhouse.list_checkpoints(
  p_thread text default null,
  p_namespace text default null,
  p_checkpoint_id text default null,
  p_before text default null,
  p_filter jsonb default '{}',
  p_limit integer default null
) returns table (
  tenant_id text, thread text, namespace text, checkpoint_id text, parent_id text,
  checkpoint_type text, checkpoint bytea, metadata_type text, metadata bytea,
  value_channels text[], value_types text[], value_bytes bytea[],
  write_tasks text[], write_channels text[], write_types text[], write_bytes bytea[]
)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_cutoff timestamptz := rowhouse.session_cutoff();
  v_session uuid;
begin
  if p_thread is not null then
    select f.session_id into v_session from rowhouse.find_session(p_thread) f;
    if v_session is null then
      return;
    end if;
  end if;
  return query
    select c.tenant_id, coalesce(p_thread, s.external_id, s.session_id::text), c.namespace, c.checkpoint_id, c.parent_id,
        c.checkpoint_type, c.checkpoint, c.metadata_type, c.metadata,
        v.channels, v.types, v.bytes, w.tasks, w.channels, w.types, w.bytes
      from rowhouse.checkpoints c
        join rowhouse.sessions s on s.tenant_id = c.tenant_id and s.session_id = c.session_id
        cross join lateral (
          select array_agg(v.channel order by u.place) as channels, array_agg(v.value_type order by u.place) as types,
              array_agg(v.value order by u.place) as bytes
            from unnest(c.channels, c.versions) with ordinality u (channel, version, place)
              join rowhouse.checkpoint_values v
                on v.tenant_id = v_tenant and v.session_id = c.session_id and v.namespace = c.namespace
                  and v.channel = u.channel and v.version = u.version) v
        cross join lateral (
          select array_agg(w.task_id order by w.task_id, w.place) as tasks,
              array_agg(w.channel order by w.task_id, w.place) as channels,
              array_agg(w.value_type order by w.task_id, w.place) as types,
              array_agg(w.value order by w.task_id, w.place) as bytes
            from rowhouse.checkpoint_writes w
            where w.tenant_id = v_tenant and w.session_id = c.session_id and w.namespace = c.namespace
              and w.checkpoint_id = c.checkpoint_id) w
      where c.tenant_id = v_tenant and s.tenant_id = v_tenant
        and s.updated_at > v_cutoff and (s.expires_at is null or s.expires_at > statement_timestamp())
        and (v_session is null or c.session_id = v_session)
        and (p_namespace is null or c.namespace = p_namespace)
        and (p_checkpoint_id is null or c.checkpoint_id = p_checkpoint_id)
        and (p_before is null or c.checkpoint_id < p_before)
        and c.filter @> p_filter
      order by c.checkpoint_id desc
      limit p_limit;
end
$$;

comment on function rowhouse.list_checkpoints(text, text, text, text, jsonb, integer) is
  'Checkpoints with the values of their channels and what was written after them, newest first: of one thread or all of the tenant, in one namespace or all, of one id, before an id, and with this metadata, where these are given.';

create or replace function rowhouse.delete_thread(p_thread text) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_session rowhouse.sessions;
begin
  select f.* into v_session from rowhouse.find_session(p_thread) f;
  delete from rowhouse.checkpoint_writes w where w.tenant_id = v_tenant and w.session_id = v_session.session_id;
  delete from rowhouse.checkpoint_values v where v.tenant_id = v_tenant and v.session_id = v_session.session_id;
  delete from rowhouse.checkpoints c where c.tenant_id = v_tenant and c.session_id = v_session.session_id;
  -- A session that was only the name of the thread.
  delete from rowhouse.sessions s
    where s.tenant_id = v_tenant and s.session_id = v_session.session_id and s.external_id = p_thread and s.message_count = 0;
end
$$;

comment on function rowhouse.delete_thread(text) is
  'Deletes the checkpoints and writes of a thread, and the session that was opened for it if it has no messages.';

revoke execute on function
  rowhouse.put_checkpoint(
    text, text, text, text, text, bytea, text, bytea, jsonb, text[], text[], text[], text[], text[], bytea[]),
  rowhouse.put_checkpoint_writes(text, text, text, text, integer[], text[], text[], bytea[]),
  rowhouse.list_checkpoints(text, text, text, text, jsonb, integer), rowhouse.delete_thread(text)
  from public;
grant execute on function
  rowhouse.put_checkpoint(
    text, text, text, text, text, bytea, text, bytea, jsonb, text[], text[], text[], text[], text[], bytea[]),
  rowhouse.put_checkpoint_writes(text, text, text, text, integer[], text[], text[], bytea[]),
  rowhouse.list_checkpoints(text, text, text, text, jsonb, integer), rowhouse.delete_thread(text)
  to rowhouse_app;
