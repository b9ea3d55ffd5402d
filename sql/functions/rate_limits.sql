-- Rate limits: how much a tenant, or a subject within it, may do in a window of time.
--
-- A limit is one to four windows that hold at once; a call is admitted by all of them or counted by none. Two algorithms:
--
-- sliding_window: never more than `limit` in any window of the length, wherever it begins. The counter is a log of what
--   was admitted, exact to the microsecond while it has few entries. Longer logs are thinned: times are rounded up to a
--   sixtieth of the window, so that an entry may leave late by that much, and never early.
-- gcra: an even pace of `limit` a window, with at most `burst` at once (default: limit). Cheap and smooth, but a burst
--   followed by the pace is more than `limit` in one window.
--
-- Depends on: protect.sql, context.sql, locks.sql, rowhouse.rate_limit_*. Proven by: test/rate-limits.

select rowhouse.protect_table('rowhouse.rate_limit_overrides');
select rowhouse.protect_table('rowhouse.rate_limit_counters');

-- Written by the functions below alone: a tenant reads its limits, and changes neither limits nor counters.
revoke insert, update, delete on rowhouse.rate_limit_overrides, rowhouse.rate_limit_counters from rowhouse_app;

-- The one function that writes counters, take_rate_limit, does the work of the write guard itself, once for a statement
-- instead of once for a counter: the trigger would take a sixth of the time of a decision.
drop trigger rowhouse_guard on rowhouse.rate_limit_counters;

alter table rowhouse.rate_limit_defaults enable row level security, force row level security;
drop policy if exists everybody_reads on rowhouse.rate_limit_defaults;
create policy everybody_reads on rowhouse.rate_limit_defaults for select to public using (true);
comment on policy everybody_reads on rowhouse.rate_limit_defaults is 'Limits of tiers; no data of tenants.';
drop policy if exists owner_all on rowhouse.rate_limit_defaults;
create policy owner_all on rowhouse.rate_limit_defaults for all to rowhouse_owner using (true) with check (true);
comment on policy owner_all on rowhouse.rate_limit_defaults is 'The functions of rowhouse write the limits of tiers.';
revoke all on rowhouse.rate_limit_defaults from public, rowhouse_app, rowhouse_admin;
grant select on rowhouse.rate_limit_defaults to rowhouse_app, rowhouse_admin;

create or replace function rowhouse.parse_rate_windows(
  p_windows jsonb, out limits bigint[], out lengths bigint[], out bursts bigint[]
)
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_window jsonb;
  v_problem text;
begin
  if jsonb_typeof(p_windows) is distinct from 'array' or jsonb_array_length(p_windows) not between 1 and 4 then
    v_problem := 'a rate limit is an array of one to four windows';
  else
    for v_window in select w.value from jsonb_array_elements(p_windows) w (value) loop
      v_problem := case
        when jsonb_typeof(v_window) <> 'object' then 'a window is an object'
        when v_window - array['limit', 'windowMs', 'algorithm', 'burst'] <> '{}' then
          'a window has only limit, windowMs, algorithm and burst'
        when v_window -> 'limit' is null or not rowhouse.is_whole(v_window -> 'limit', 1000000000000) then
          'limit is a whole number from 1 to 1000000000000'
        when v_window -> 'windowMs' is null or not rowhouse.is_whole(v_window -> 'windowMs', 31622400000) then
          'windowMs is a whole number of milliseconds from 1 to 31622400000 (366 days)'
        when coalesce(v_window ->> 'algorithm', 'sliding_window') not in ('sliding_window', 'gcra') then
          'algorithm is sliding_window or gcra'
        when v_window ? 'burst' and v_window ->> 'algorithm' is distinct from 'gcra' then
          'burst belongs to the algorithm gcra; a sliding window admits its whole limit at once'
        when v_window ? 'burst' and not rowhouse.is_whole(v_window -> 'burst', (v_window ->> 'limit')::numeric) then
          'burst is a whole number from 1 to limit'
      end;
      exit when v_problem is not null;
    end loop;
  end if;
  if v_problem is null then
    select array_agg(w.amount order by w.length), array_agg(w.length order by w.length), array_agg(w.burst order by w.length)
      into limits, lengths, bursts
      from (
        select (v.value ->> 'limit')::bigint as amount,
            case when v.value ->> 'algorithm' = 'gcra' then -1 else 1 end * (v.value ->> 'windowMs')::bigint as length,
            coalesce(v.value ->> 'burst', v.value ->> 'limit')::bigint as burst
          from jsonb_array_elements(p_windows) v (value)) w;
    if (select count(distinct l.length) from unnest(lengths) l (length)) < array_length(lengths, 1) then
      v_problem := 'two windows of one limit have the same algorithm and length';
    end if;
  end if;
  if v_problem is not null then
    raise exception using errcode = 'RH041', message = v_problem,
      hint = 'For example: [{"limit": 10, "windowMs": 1000}, {"limit": 100, "windowMs": 60000}].';
  end if;
end
$$;

comment on function rowhouse.parse_rate_windows(jsonb) is
  'The windows of a rate limit as arrays, in the order of their lengths (in ms; negative: gcra). Raises RH041 with what is wrong.';

create or replace function rowhouse.is_whole(p_value jsonb, p_most numeric) returns boolean
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_number numeric;
begin
  if jsonb_typeof(p_value) <> 'number' then
    return false;
  end if;
  v_number := p_value::numeric;
  return v_number between 1 and p_most and v_number = trunc(v_number);
end
$$;

comment on function rowhouse.is_whole(jsonb, numeric) is 'Whether a JSON value is a whole number from 1 to the given one.';

create or replace function rowhouse.rate_windows_json(p_limits bigint[], p_lengths bigint[], p_bursts bigint[]) returns jsonb
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select jsonb_agg(jsonb_build_object('limit', w.amount, 'windowMs', abs(w.length),
          'algorithm', case when w.length < 0 then 'gcra' else 'sliding_window' end)
        || case when w.length < 0 then jsonb_build_object('burst', w.burst) else '{}' end order by w.number)
      from unnest(p_limits, p_lengths, p_bursts) with ordinality w (amount, length, burst, number));
end
$$;

comment on function rowhouse.rate_windows_json(bigint[], bigint[], bigint[]) is 'The windows of a limit as parse_rate_windows reads them.';

create or replace function rowhouse.find_rate_limit(
  p_tenant text, p_limit text, out limits bigint[], out lengths bigint[], out bursts bigint[]
)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  select o.limits, o.lengths, o.bursts into limits, lengths, bursts
    from rowhouse.rate_limit_overrides o where o.tenant_id = p_tenant and o.name = p_limit;
  if not found then
    select d.limits, d.lengths, d.bursts into limits, lengths, bursts
      from rowhouse.rate_limit_defaults d
      where d.name = p_limit
        and d.tier in ('*', (select t.tier from rowhouse.tenants t where t.tenant_id = p_tenant))
      order by d.tier = '*'
      limit 1;
  end if;
  if not found then
    raise exception using errcode = 'RH043', message = format('there is no rate limit "%s" for this tenant or its tier', p_limit),
      hint = format('An operator sets it for every tier: select rowhouse.set_default_rate_limit(''*'', %L, ''[{"limit": 100, "windowMs": 60000}]'').', p_limit);
  end if;
end
$$;

comment on function rowhouse.find_rate_limit(text, text) is
  'The windows of a named limit that hold for the tenant: its own, else those of its tier, else those of tier *. Raises RH043 when there are none.';

create or replace function rowhouse.rate_limits() returns table (name text, source text, windows jsonb)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_tier text;
begin
  select t.tier into v_tier from rowhouse.tenants t where t.tenant_id = v_tenant;
  return query
    select distinct on (l.name) l.name, l.source, rowhouse.rate_windows_json(l.limits, l.lengths, l.bursts)
      from (
        select o.name, 'tenant' as source, o.limits, o.lengths, o.bursts, 1 as place
          from rowhouse.rate_limit_overrides o where o.tenant_id = v_tenant
        union all
        select d.name, case d.tier when '*' then 'default' else 'tier' end, d.limits, d.lengths, d.bursts,
            case d.tier when '*' then 3 else 2 end
          from rowhouse.rate_limit_defaults d where d.tier in ('*', v_tier)) l
      order by l.name, l.place;
end
$$;

comment on function rowhouse.rate_limits() is
  'The limits that hold for the tenant of the transaction, and whether each is its own (tenant), that of its tier, or that of all tiers (default).';

create or replace function rowhouse.check_rate_windows(p_limits bigint[], p_lengths bigint[], p_bursts bigint[]) returns void
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_windows integer := array_length(p_limits, 1);
  v_valid boolean := v_windows between 1 and 4
    and array_length(p_lengths, 1) = v_windows and array_length(p_bursts, 1) = v_windows;
begin
  for v_number in 1 .. case when v_valid then v_windows else 0 end loop
    v_valid := v_valid and p_limits[v_number] between 1 and 1000000000000 and p_bursts[v_number] between 1 and p_limits[v_number]
      and abs(p_lengths[v_number]) between 1 and 31622400000
      and (p_lengths[v_number] < 0 or p_bursts[v_number] = p_limits[v_number])
      and (v_number = 1 or p_lengths[v_number] > p_lengths[v_number - 1]);
  end loop;
  if v_valid is not true then
    raise exception using errcode = 'RH041', message = 'not the windows of a rate limit',
      hint = 'One to four windows: limits from 1 to 1000000000000, lengths in ms up to 366 days and ascending, bursts from 1 to the limit.';
  end if;
end
$$;

comment on function rowhouse.check_rate_windows(bigint[], bigint[], bigint[]) is
  'Raises RH041 when the arrays are no windows as parse_rate_windows makes them.';

create or replace function rowhouse.new_rate_limit(
  p_limit text, p_windows jsonb, out limits bigint[], out lengths bigint[], out bursts bigint[]
)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  if p_limit is null or p_limit !~ '^[a-z][a-z0-9_.-]{0,62}$' then
    raise exception using errcode = 'RH041', message = 'not a name of a rate limit',
      hint = 'A name is 1 to 63 lower-case letters, digits, dots, underscores or hyphens, and begins with a letter.';
  end if;
  if jsonb_typeof(p_windows) <> 'string' then
    select p.limits, p.lengths, p.bursts into limits, lengths, bursts from rowhouse.parse_rate_windows(p_windows) p;
    return;
  end if;
  select d.limits, d.lengths, d.bursts into limits, lengths, bursts from rowhouse.rate_limit_defaults d
    where d.tier = p_windows #>> '{}' and d.name = p_limit;
  if not found then
    raise exception using errcode = 'RH043', message = format('tier %s has no rate limit "%s"', p_windows, p_limit);
  end if;
end
$$;

comment on function rowhouse.new_rate_limit(text, jsonb) is
  'Checks the name and windows that a limit shall have; for a JSON string the windows are those that this tier has.';

create or replace function rowhouse.set_default_rate_limit(p_tier text, p_limit text, p_windows jsonb) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  if p_tier is null or p_tier !~ '^([a-z][a-z0-9_-]{0,31}|\*)$' then
    raise exception using errcode = 'RH041', message = 'not a tier',
      hint = 'A tier is 1 to 32 lower-case letters, digits, underscores or hyphens; * stands for all tiers.';
  end if;
  if p_windows is null then
    delete from rowhouse.rate_limit_defaults d where d.tier = p_tier and d.name = p_limit;
  else
    insert into rowhouse.rate_limit_defaults (tier, name, limits, lengths, bursts)
      select p_tier, p_limit, n.limits, n.lengths, n.bursts from rowhouse.new_rate_limit(p_limit, p_windows) n
      on conflict (tier, name) do update
        set limits = excluded.limits, lengths = excluded.lengths, bursts = excluded.bursts;
  end if;
end
$$;

comment on function rowhouse.set_default_rate_limit(text, text, jsonb) is
  'Sets a limit of a tier (* for all tiers that have none of this name), by its windows or by the name of a tier to copy; null removes it. Holds from the next call on.';

create or replace function rowhouse.set_rate_limit(p_tenant text, p_limit text, p_windows jsonb) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_before text[];
begin
  perform rowhouse.check_tenant_id(p_tenant);
  v_before := rowhouse.work_for_operator(p_tenant);
  if p_windows is null then
    delete from rowhouse.rate_limit_overrides o where o.tenant_id = p_tenant and o.name = p_limit;
  else
    insert into rowhouse.rate_limit_overrides (tenant_id, name, limits, lengths, bursts, updated_at)
      select p_tenant, p_limit, n.limits, n.lengths, n.bursts, statement_timestamp()
        from rowhouse.new_rate_limit(p_limit, p_windows) n
      on conflict (tenant_id, name) do update
        set limits = excluded.limits, lengths = excluded.lengths, bursts = excluded.bursts, updated_at = excluded.updated_at;
  end if;
  perform rowhouse.record_own_audit('rowhouse.rate_limit.' || case when p_windows is null then 'unset' else 'set' end,
    jsonb_strip_nulls(jsonb_build_object('name', p_limit, 'windows', p_windows)));
  perform rowhouse.end_work(v_before);
end
$$;

comment on function rowhouse.set_rate_limit(text, text, jsonb) is
  'Sets a limit of one tenant, by its windows or by the name of a tier to copy; null goes back to that of its tier. Holds from the next call on; what was counted stays counted for windows of the same length. Raises RH002, RH004, RH006 for the tenant.';

create or replace function rowhouse.sweep_rate_limits(p_tenant text, p_most integer default 1000) returns integer
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_before text[];
  v_dropped integer;
begin
  perform rowhouse.check_tenant_id(p_tenant);
  v_before := rowhouse.work_as(p_tenant, false);
  v_dropped := rowhouse.drop_idle_rate_counters(p_tenant, p_most);
  perform rowhouse.end_work(v_before);
  return v_dropped;
end
$$;

comment on function rowhouse.sweep_rate_limits(text, integer) is
  'Deletes at most p_most counters of a tenant that count nothing any more, and returns how many; call it again while it returns p_most. Tenants at work tidy up by themselves; this is for those that left.';

revoke execute on function
  rowhouse.parse_rate_windows(jsonb), rowhouse.is_whole(jsonb, numeric),
  rowhouse.rate_windows_json(bigint[], bigint[], bigint[]), rowhouse.find_rate_limit(text, text),
  rowhouse.rate_limits(), rowhouse.check_rate_windows(bigint[], bigint[], bigint[]),
  rowhouse.new_rate_limit(text, jsonb), rowhouse.set_default_rate_limit(text, text, jsonb),
  rowhouse.set_rate_limit(text, text, jsonb), rowhouse.sweep_rate_limits(text, integer)
  from public;
grant execute on function
  rowhouse.rate_limits(), rowhouse.parse_rate_windows(jsonb), rowhouse.is_whole(jsonb, numeric),
  rowhouse.rate_windows_json(bigint[], bigint[], bigint[])
  to rowhouse_app;
grant execute on function
  rowhouse.set_default_rate_limit(text, text, jsonb), rowhouse.set_rate_limit(text, text, jsonb),
  rowhouse.sweep_rate_limits(text, integer)
  to rowhouse_admin;
