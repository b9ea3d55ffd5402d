-- Members of channels: who is there, as long as he is renewed.
--
-- A member that is not renewed is gone at once when its lifetime ends, by the clock of the database; sweep_members
-- deletes it later. Every function runs with the rights of its caller, under row-level security, for the tenant of the
-- transaction.
-- Depends on: realtime.sql. Proven by: test/realtime/members.test.ts.

select rowhouse.protect_table('rowhouse.channel_members');

create or replace function rowhouse.check_members(p_channel text, p_members text[], p_lifetime interval) returns void
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform rowhouse.check_channels(array[p_channel]);
  perform rowhouse.raise_problem('RH072', case
    when p_members is null or cardinality(p_members) > 10000 then 'at most 10000 members are given at once'
    when exists (select from unnest(p_members) m where m is null or length(m) not between 1 and 512) then
      'the id of a member is 1 to 512 characters long'
    when p_lifetime is null or p_lifetime <= interval '0' or p_lifetime > interval '1 day' then
      'a member is there for more than 0 and at most a day before it is renewed'
  end);
end
$$;

comment on function rowhouse.check_members(text, text[], interval) is 'Raises RH072 with the first thing that is not accepted.';

create or replace function rowhouse.join_channel(
  p_channel text, p_member text, p_metadata jsonb default '{}', p_lifetime interval default '1 minute'
) returns table (joined_at timestamptz, expires_at timestamptz)
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_now timestamptz := clock_timestamp();
begin
  perform rowhouse.check_members(p_channel, array[p_member], p_lifetime);
  if jsonb_typeof(p_metadata) is distinct from 'object' or octet_length(p_metadata::text) > 65536 then
    perform rowhouse.raise_problem('RH072', 'the metadata of a member is a JSON object of at most 65536 bytes');
  end if;
  return query
    insert into rowhouse.channel_members as m (tenant_id, channel, member_id, metadata, joined_at, expires_at)
      values (v_tenant, p_channel, p_member, p_metadata, v_now, v_now + p_lifetime)
      on conflict (tenant_id, channel, member_id) do update
        set metadata = excluded.metadata, expires_at = excluded.expires_at,
          joined_at = case when m.expires_at > excluded.joined_at then m.joined_at else excluded.joined_at end
      returning m.joined_at, m.expires_at;
end
$$;

comment on function rowhouse.join_channel(text, text, jsonb, interval) is
  'Puts a member into a channel for this long, or renews it and replaces its metadata. Raises RH072.';

create or replace function rowhouse.renew_members(p_channel text, p_members text[], p_lifetime interval default '1 minute')
  returns text[]
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_now timestamptz := clock_timestamp();
  v_present text[];
begin
  perform rowhouse.check_members(p_channel, p_members, p_lifetime);
  -- In one order, so that renewals at the same time wait for each other instead of deadlocking.
  v_present := array(
    select m.member_id from rowhouse.channel_members m
      where m.tenant_id = v_tenant and m.channel = p_channel and m.member_id = any (p_members) and m.expires_at > v_now
      order by m.member_id for no key update);
  update rowhouse.channel_members m set expires_at = v_now + p_lifetime
    where m.tenant_id = v_tenant and m.channel = p_channel and m.member_id = any (v_present);
  return v_present;
end
$$;

comment on function rowhouse.renew_members(text, text[], interval) is
  'Lets members stay for this long from now on; returns those that were still there. Raises RH072.';

create or replace function rowhouse.leave_channel(p_channel text, p_members text[]) returns bigint
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_now timestamptz := clock_timestamp();
  v_left bigint;
begin
  with gone as (
    delete from rowhouse.channel_members m
      where m.tenant_id = v_tenant and m.channel = p_channel and m.member_id = any (p_members) returning m.expires_at)
  select count(*) into v_left from gone g where g.expires_at > v_now;
  return v_left;
end
$$;

comment on function rowhouse.leave_channel(text, text[]) is 'Takes members out of a channel and returns how many were there.';

create or replace function rowhouse.list_members(p_channel text, p_limit integer default 1000, p_after text default null)
  returns table (tenant_id text, member_id text, metadata jsonb, joined_at timestamptz, expires_at timestamptz)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
begin
  perform rowhouse.raise_problem('RH072', case
    when p_limit is null or p_limit not between 1 and 10000 then '1 to 10000 members are listed at once' end);
  return query
    select m.tenant_id, m.member_id, m.metadata, m.joined_at, m.expires_at from rowhouse.channel_members m
      where m.tenant_id = v_tenant and m.channel = p_channel and m.expires_at > clock_timestamp()
        and (p_after is null or m.member_id > p_after)
      order by m.member_id limit p_limit;
end
$$;

comment on function rowhouse.list_members(text, integer, text) is
  'Who is in a channel, in the order of the ids. p_after: the last id of the page before. Raises RH072.';

create or replace function rowhouse.sweep_members(p_limit integer default 1000) returns integer
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_now timestamptz := clock_timestamp();
  v_member record;
  v_deleted integer := 0;
begin
  for v_member in
    select m.channel, array_agg(m.member_id) as ids
      from (
        select o.channel, o.member_id from rowhouse.channel_members o
          where o.tenant_id = v_tenant and o.expires_at <= v_now
          order by o.expires_at limit p_limit for update skip locked
      ) m
      group by m.channel
  loop
    delete from rowhouse.channel_members m
      where m.tenant_id = v_tenant and m.channel = v_member.channel and m.member_id = any (v_member.ids);
    v_deleted := v_deleted + cardinality(v_member.ids);
  end loop;
  return v_deleted;
end
$$;

comment on function rowhouse.sweep_members(integer) is
  'Deletes up to this many members that were not renewed, and returns how many; fewer when no more are left.';

revoke execute on function
  rowhouse.check_members(text, text[], interval), rowhouse.join_channel(text, text, jsonb, interval),
  rowhouse.renew_members(text, text[], interval), rowhouse.leave_channel(text, text[]),
  rowhouse.list_members(text, integer, text), rowhouse.sweep_members(integer)
  from public;
grant execute on function
  rowhouse.check_members(text, text[], interval), rowhouse.join_channel(text, text, jsonb, interval),
  rowhouse.renew_members(text, text[], interval), rowhouse.leave_channel(text, text[]),
  rowhouse.list_members(text, integer, text), rowhouse.sweep_members(integer)
  to rowhouse_app;
