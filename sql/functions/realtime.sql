-- Realtime: publish messages to channels of one tenant, read them in order, sweep them.
--
-- The rows are the messages; a notification only tells that there may be one. It carries the random key of the channel,
-- so who hears all of them learns no tenant and no channel, and who forges one makes subscribers look, under their own
-- tenant, and find nothing. Publishers of one channel come one after another: each locks the row of the channel until
-- its commit, so who saw a message has seen, or can see, all before it.
-- Every function runs with the rights of its caller, under row-level security, for the tenant of the transaction.
-- Depends on: protect.sql, context.sql. Proven by: test/realtime.

select rowhouse.protect_table('rowhouse.channels');
select rowhouse.protect_table('rowhouse.channel_messages');

create or replace function rowhouse.check_channels(p_channels text[]) returns void
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform rowhouse.raise_problem('RH072', case
    when p_channels is null or cardinality(p_channels) > 1000 then 'at most 1000 channels are opened at once'
    when exists (select from unnest(p_channels) c where c is null or length(c) not between 1 and 512) then
      'the name of a channel is 1 to 512 characters long'
  end);
end
$$;

comment on function rowhouse.check_channels(text[]) is 'Raises RH072 when one of these is no name of a channel.';

create or replace function rowhouse.publish_message(p_channel text, p_payload jsonb)
  returns table (message_id bigint, published_at timestamptz)
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  -- Microseconds since 1970: ids also grow when the row of an idle channel was swept meanwhile.
  v_first bigint := extract(epoch from clock_timestamp()) * 1000000;
  v_message_id bigint;
  v_wake_key uuid;
  v_now timestamptz;
begin
  perform rowhouse.check_channels(array[p_channel]);
  perform rowhouse.raise_problem('RH072', case
    when p_payload is null then 'a message is a JSON value, null included, but not nothing'
    when octet_length(p_payload::text) > 262144 then 'a message has at most 262144 bytes'
  end);
  insert into rowhouse.channels as c (tenant_id, channel, last_message_id, swept_through, used_at)
    values (v_tenant, p_channel, v_first + 1, v_first, clock_timestamp())
    on conflict (tenant_id, channel) do update
      set last_message_id = c.last_message_id + 1, used_at = greatest(c.used_at, excluded.used_at)
    returning c.last_message_id, c.wake_key into v_message_id, v_wake_key;
  -- After the lock, so that times have the order of the ids.
  v_now := clock_timestamp();
  insert into rowhouse.channel_messages (tenant_id, channel, message_id, payload, user_id, published_at)
    values (v_tenant, p_channel, v_message_id, p_payload, nullif(current_setting('app.user_id', true), ''), v_now);
  perform pg_notify('rowhouse_channels', v_wake_key::text);
  return query select v_message_id, v_now;
end
$$;

comment on function rowhouse.publish_message(text, jsonb) is
  'Publishes a message of up to 262144 bytes; subscribers see it when the transaction commits, in the order of the commits. Other publishers of the channel wait for the end of the transaction. Raises RH072.';

create or replace function rowhouse.open_channels(p_channels text[])
  returns table (tenant_id text, channel text, wake_key uuid, last_message_id bigint)
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_now timestamptz := clock_timestamp();
  v_first bigint := extract(epoch from v_now) * 1000000;
  v_missing text[];
begin
  perform rowhouse.check_channels(p_channels);
  v_missing := array(
    select u.channel from unnest(p_channels) u (channel)
      where not exists (select from rowhouse.channels c where c.tenant_id = v_tenant and c.channel = u.channel)
      order by u.channel);
  if v_missing <> '{}' then
    insert into rowhouse.channels as c (tenant_id, channel, last_message_id, swept_through, used_at)
      select v_tenant, m.channel, v_first, v_first, v_now from unnest(v_missing) m (channel)
      on conflict do nothing;
  end if;
  -- What somebody listens to is not swept. Rows that a publisher holds are in use anyway.
  if exists (
    select from rowhouse.channels c
      where c.tenant_id = v_tenant and c.channel = any (p_channels) and c.used_at < v_now - interval '1 day'
  ) then
    update rowhouse.channels c set used_at = v_now
      where c.tenant_id = v_tenant and c.channel in (
        select o.channel from rowhouse.channels o
          where o.tenant_id = v_tenant and o.channel = any (p_channels) and o.used_at < v_now - interval '1 day'
          for no key update skip locked);
  end if;
  return query
    select c.tenant_id, c.channel, c.wake_key, c.last_message_id from rowhouse.channels c
      where c.tenant_id = v_tenant and c.channel = any (p_channels);
end
$$;

comment on function rowhouse.open_channels(text[]) is
  'What a subscriber needs of each channel: what notifications on rowhouse_channels say when somebody publishes to it, and the id of its newest message. Channels are made when they are first published to or opened; those that are opened once a day stay. Raises RH072.';

create or replace function rowhouse.read_messages(p_channel text, p_after bigint, p_limit integer default 100)
  returns table (
    tenant_id text, channel text, message_id bigint, payload jsonb, user_id text, published_at timestamptz
  )
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_channel rowhouse.channels;
begin
  perform rowhouse.check_channels(array[p_channel]);
  perform rowhouse.raise_problem('RH072', case
    when p_limit is null or p_limit not between 1 and 1000 then '1 to 1000 messages are read at once'
    when p_after is null or p_after < 0 then 'the id of a message is a whole number from 0'
  end);
  select c.* into v_channel from rowhouse.channels c where c.tenant_id = v_tenant and c.channel = p_channel;
  if p_after > 0 and p_after < coalesce(v_channel.swept_through, p_after + 1) then
    raise exception using errcode = 'RH073', message = format('messages after %s were kept long enough and are gone', p_after);
  end if;
  if p_after > v_channel.last_message_id then
    perform rowhouse.raise_problem('RH072', format('the channel has no message %s yet', p_after));
  end if;
  return query
    select m.tenant_id, m.channel, m.message_id, m.payload, m.user_id, m.published_at
      from rowhouse.channel_messages m
      where m.tenant_id = v_tenant and m.channel = p_channel and m.message_id > p_after
      order by m.message_id limit p_limit;
end
$$;

comment on function rowhouse.read_messages(text, bigint, integer) is
  'Messages after this one, in order; p_after 0: from the oldest that is kept on. Raises RH072, and RH073 when messages after this one were swept.';

create or replace function rowhouse.sweep_channels(p_limit integer default 1000) returns integer
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_days jsonb := (
    select t.settings #> '{retentionDays,channels}' from rowhouse.tenants t where t.tenant_id = v_tenant);
  v_cutoff timestamptz := clock_timestamp() - make_interval(days =>
    case when jsonb_typeof(v_days) = 'number' and v_days::numeric between 1 and 36500 then floor(v_days::numeric)::integer
      else 7 end);
  v_channel text;
  v_through bigint;
  v_channels text[];
  v_rows integer;
  v_deleted integer := 0;
begin
  for v_channel in
    select distinct o.channel
      from (
        select m.channel from rowhouse.channel_messages m
          where m.tenant_id = v_tenant and m.published_at < v_cutoff
          order by m.published_at limit p_limit
      ) o
      order by o.channel
  loop
    exit when v_deleted >= p_limit;
    -- A channel that somebody publishes to right now is left to the next sweep.
    perform from rowhouse.channels c
      where c.tenant_id = v_tenant and c.channel = v_channel for no key update skip locked;
    continue when not found;
    -- Looked for now that the channel is locked: another sweep may have deleted the oldest ones since, and whoever finds
    -- nothing stops.
    select max(o.message_id) into v_through
      from (
        select m.message_id from rowhouse.channel_messages m
          where m.tenant_id = v_tenant and m.channel = v_channel and m.published_at < v_cutoff
          order by m.message_id limit p_limit - v_deleted
      ) o;
    continue when v_through is null;
    update rowhouse.channels c set swept_through = greatest(c.swept_through, v_through)
      where c.tenant_id = v_tenant and c.channel = v_channel;
    delete from rowhouse.channel_messages m
      where m.tenant_id = v_tenant and m.channel = v_channel and m.message_id <= v_through;
    get diagnostics v_rows = row_count;
    v_deleted := v_deleted + v_rows;
  end loop;
  v_channels := array(
    select c.channel from rowhouse.channels c
      where c.tenant_id = v_tenant and c.used_at < v_cutoff - interval '2 days' and not exists (
        select from rowhouse.channel_messages m where m.tenant_id = v_tenant and m.channel = c.channel)
      limit p_limit for update skip locked);
  delete from rowhouse.channels c where c.tenant_id = v_tenant and c.channel = any (v_channels);
  return v_deleted + cardinality(v_channels) + rowhouse.sweep_members(p_limit);
end
$$;

comment on function rowhouse.sweep_channels(integer) is
  'Deletes about this many messages that were kept as long as retentionDays.channels in the settings of the tenant says (7 days by default), idle channels, and members that were not renewed; returns how many rows, fewer when no more are left. Several processes may sweep at once.';

revoke execute on function
  rowhouse.check_channels(text[]), rowhouse.publish_message(text, jsonb),
  rowhouse.open_channels(text[]), rowhouse.read_messages(text, bigint, integer), rowhouse.sweep_channels(integer)
  from public;
grant execute on function
  rowhouse.check_channels(text[]), rowhouse.publish_message(text, jsonb),
  rowhouse.open_channels(text[]), rowhouse.read_messages(text, bigint, integer), rowhouse.sweep_channels(integer)
  to rowhouse_app;
