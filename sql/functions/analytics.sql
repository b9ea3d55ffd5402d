-- Analytics: events of the product, recorded once each, and counted.
--
-- Every function runs with the rights of its caller, under row-level security, for the tenant of the transaction.
-- Depends on: context.sql, retention.sql, rowhouse.analytics_events (under protection by protected_tables.sql).
-- Proven by: test/analytics.

create or replace function rowhouse.track_events(p_events jsonb) returns integer
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_now timestamptz := clock_timestamp();
  v_actor text := coalesce(current_setting('app.user_id', true), '');
  v_recorded integer;
begin
  if jsonb_typeof(p_events) is distinct from 'array' or jsonb_array_length(p_events) > 1000 then
    raise exception using errcode = 'RH096', message = 'events are an array of at most 1000';
  elsif exists (
    select from jsonb_array_elements(p_events) e
      where jsonb_typeof(e.value) <> 'object' or octet_length((e.value -> 'properties')::text) > 65536
        or (e.value ->> 'occurredAt')::timestamptz > v_now + interval '1 hour')
  then
    raise exception using errcode = 'RH096', message = 'an event has properties of at most 65536 bytes, and has happened';
  end if;
  insert into rowhouse.analytics_events (tenant_id, event_id, event, source, actor, run_id, properties, occurred_at, recorded_at)
    select v_tenant, coalesce(e.value ->> 'eventId', gen_random_uuid()::text), e.value ->> 'event', coalesce(e.value ->> 'source', ''),
        coalesce(e.value ->> 'actor', v_actor), coalesce(e.value ->> 'runId', ''), coalesce(e.value -> 'properties', '{}'),
        coalesce((e.value ->> 'occurredAt')::timestamptz, v_now), v_now
      from jsonb_array_elements(p_events) e
    on conflict (tenant_id, event_id) do nothing;
  get diagnostics v_recorded = row_count;
  return v_recorded;
exception
  when check_violation or not_null_violation or invalid_datetime_format or datetime_field_overflow then
    raise exception using errcode = 'RH096', message = 'not an event',
      hint = 'An event has a name of 1 to 100 characters, source (100), actor and runId (200), eventId (1 to 200), properties (a JSON object) and occurredAt (a time).';
end
$$;

comment on function rowhouse.track_events(jsonb) is
  'Records events such as [{"event": "document.opened", "source": "web", "actor": "u_1", "runId": "r_1", "properties": {}, "eventId": "e_1", "occurredAt": "2026-11-21T10:00:00Z"}]; all but the event may be left out. The actor is the user of the transaction unless it is told. Returns how many were new: an eventId is recorded once. Raises RH096.';

create or replace function rowhouse.event_breakdown(
  p_from timestamptz, p_to timestamptz, p_by text[] default '{event}', p_event text default null
) returns table (period_start timestamptz, event text, source text, actor text, run_id text, events bigint, actors bigint)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_tenant text := rowhouse.require_tenant();
  v_time_zone text;
  v_period text;
begin
  if p_by is null or not p_by <@ '{hour,day,month,event,source,actor,run}'
    or cardinality(array(select unnest(p_by) intersect select unnest('{hour,day,month}'::text[]))) > 1
  then
    raise exception using errcode = 'RH096', message = 'a breakdown is by event, source, actor, run, and one of hour, day and month';
  end if;
  select a.time_zone into v_time_zone from rowhouse.accounts a where a.tenant_id = v_tenant;
  select b.name into v_period from unnest(p_by) b (name) where b.name in ('hour', 'day', 'month');
  return query
    select b.period_start, b.event, b.source, b.actor, b.run_id, count(*), count(distinct nullif(b.who, ''))
      from (
        select case when v_period is not null then date_trunc(v_period, e.occurred_at, coalesce(v_time_zone, 'UTC')) end as period_start,
            case when 'event' = any (p_by) then e.event end as event,
            case when 'source' = any (p_by) then e.source end as source,
            case when 'actor' = any (p_by) then e.actor end as actor,
            case when 'run' = any (p_by) then e.run_id end as run_id,
            e.actor as who
          from rowhouse.analytics_events e
          where e.tenant_id = v_tenant and e.occurred_at >= p_from and e.occurred_at < p_to
            and (p_event is null or e.event = p_event)) b
      group by b.period_start, b.event, b.source, b.actor, b.run_id
      order by b.period_start, count(*) desc, b.event, b.source, b.actor, b.run_id;
end
$$;

comment on function rowhouse.event_breakdown(timestamptz, timestamptz, text[], text) is
  'How many events of the tenant happened from p_from until p_to, and how many actors they had, by event, source, actor, run and one of hour, day and month (in its time zone); columns that it is not by are null. p_event: only this one. Raises RH096.';

create or replace function rowhouse.sweep_events(p_limit integer default 1000) returns integer
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_before timestamptz := clock_timestamp() - rowhouse.retention_days('events') * interval '1 day';
  v_ids text[];
  v_deleted integer;
begin
  v_ids := array(
    select e.event_id from rowhouse.analytics_events e
      where e.tenant_id = v_tenant and e.occurred_at < v_before
      order by e.event_id limit p_limit);
  delete from rowhouse.analytics_events e where e.tenant_id = v_tenant and e.event_id = any (v_ids);
  get diagnostics v_deleted = row_count;
  return v_deleted;
end
$$;

comment on function rowhouse.sweep_events(integer) is
  'Deletes up to this many events that are older than the tenant keeps them (events in the object retentionDays of its settings, else by its tier), and returns how many; fewer when no more are left.';

revoke execute on function
  rowhouse.track_events(jsonb), rowhouse.event_breakdown(timestamptz, timestamptz, text[], text), rowhouse.sweep_events(integer)
  from public;
grant execute on function
  rowhouse.track_events(jsonb), rowhouse.event_breakdown(timestamptz, timestamptz, text[], text), rowhouse.sweep_events(integer)
  to rowhouse_app;
