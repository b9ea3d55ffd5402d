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
-- Time is the clock of this server, read when the counter's row is locked, and never runs backwards for a counter.
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

-- Windows --------------------------------------------------------------------------------------------------------------

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

-- Decisions ------------------------------------------------------------------------------------------------------------

create or replace function rowhouse.thin_rate_log(p_log bigint[], p_grid bigint) returns bigint[]
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_log bigint[] := '{}';
  v_time bigint;
  v_last bigint := 0;
  v_length integer := 0;
  v_at integer := 1;
begin
  while v_at < array_length(p_log, 1) loop
    -- Up to the next multiple: an entry may count longer than it must, never shorter.
    v_time := (p_log[v_at] + p_grid - 1) / p_grid * p_grid;
    if v_time = v_last then
      v_log[v_length] := v_log[v_length] + p_log[v_at + 1];
    else
      v_log[v_length + 1] := v_time;
      v_log[v_length + 2] := p_log[v_at + 1];
      v_length := v_length + 2;
      v_last := v_time;
    end if;
    v_at := v_at + 2;
  end loop;
  return v_log;
end
$$;

comment on function rowhouse.thin_rate_log(bigint[], bigint) is
  'The entries of a log (times and costs in turn) with times rounded up to a multiple of p_grid, and those of one time added up.';

create or replace function rowhouse.decide_rate_limit(
  p_state bigint[], p_now bigint,
  p_limits bigint[], p_lengths bigint[], p_bursts bigint[],
  p_cost bigint, p_calls integer, p_hold bigint,
  out admitted integer, out state bigint[], out windows jsonb, out busy_until bigint
)
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
declare
  -- For each window of the limit: where its entries begin in p_state, how many count, their cost (gcra: its one time).
  v_first integer[];
  v_entries integer[];
  v_used bigint[];
  v_now bigint := greatest(p_now, p_state[1]);
  v_length bigint;
  v_pace bigint;
  v_at integer;
  v_from integer;
  v_count integer;
  v_sum bigint;
  v_fits bigint := p_calls;
  v_log bigint[];
  v_time bigint;
  v_room bigint;
  v_remaining bigint;
  v_reset bigint;
  v_retry bigint;
  v_answer text := '';
begin
  -- First every window is asked, ...
  for v_number in 1 .. array_length(p_lengths, 1) loop
    v_length := p_lengths[v_number];
    if p_cost > p_bursts[v_number] then
      -- Not an error here: the statement may decide for others too.
      admitted := null;
      state := p_state;
      windows := jsonb_build_array(jsonb_build_array(p_bursts[v_number], v_length));
      busy_until := 0;
      return;
    end if;
    v_at := 2;
    while v_at < array_length(p_state, 1) and p_state[v_at] <> v_length loop
      v_at := v_at + 3 + 2 * p_state[v_at + 2];
    end loop;
    v_from := v_at + 3;
    v_count := coalesce(p_state[v_at + 2], 0);
    if v_length < 0 then
      v_pace := (-v_length * 1000000 + p_limits[v_number] - 1) / p_limits[v_number];
      v_sum := greatest(coalesce(p_state[v_from], 0), v_now * 1000);
      v_fits := least(v_fits, (v_now * 1000 + p_bursts[v_number] * v_pace - v_sum) / (p_cost * v_pace));
    else
      v_sum := coalesce(p_state[v_at + 1], 0);
      while v_count > 0 and p_state[v_from] <= v_now - v_length * 1000 loop
        v_sum := v_sum - p_state[v_from + 1];
        v_from := v_from + 2;
        v_count := v_count - 1;
      end loop;
      v_fits := least(v_fits, (p_limits[v_number] - v_sum) / p_cost);
    end if;
    v_first[v_number] := v_from;
    v_entries[v_number] := v_count;
    v_used[v_number] := v_sum;
  end loop;
  admitted := greatest(v_fits, 0);

  -- ... then each books what all of them admit, and tells what is left.
  state := array[v_now];
  busy_until := 0;
  for v_number in 1 .. array_length(p_lengths, 1) loop
    v_length := p_lengths[v_number];
    if v_length < 0 then
      v_pace := (-v_length * 1000000 + p_limits[v_number] - 1) / p_limits[v_number];
      v_time := v_used[v_number] + admitted * p_cost * v_pace;
      v_room := v_now * 1000 + p_bursts[v_number] * v_pace - v_time;
      v_remaining := greatest(v_room, 0) / v_pace;
      v_retry := (greatest(p_cost * v_pace - v_room, 0) + 999999) / 1000000;
      v_reset := (v_time - v_now * 1000 + 999999) / 1000000;
      state := state || array[v_length, 0, 1, v_time, 0];
      busy_until := greatest(busy_until, v_time / 1000);
    else
      v_log := p_state[v_first[v_number] : v_first[v_number] + 2 * v_entries[v_number] - 1];
      v_count := v_entries[v_number];
      v_sum := v_used[v_number] + admitted * p_cost;
      if admitted > 0 then
        -- What is held may be spent until the end of p_hold, so it counts from then on.
        if v_count > 0 and v_log[2 * v_count - 1] >= v_now + p_hold then
          v_log[2 * v_count] := v_log[2 * v_count] + admitted * p_cost;
        else
          v_log := v_log || array[v_now + p_hold, admitted * p_cost];
          v_count := v_count + 1;
        end if;
        if v_count > 96 then
          v_log := rowhouse.thin_rate_log(v_log, greatest(v_length * 1000 / 60, 1));
          v_count := array_length(v_log, 1) / 2;
        end if;
      end if;
      v_remaining := greatest(p_limits[v_number] - v_sum, 0);
      v_retry := 0;
      v_room := p_limits[v_number] - v_sum;
      v_at := 1;
      while v_room < p_cost and v_at < 2 * v_count loop
        v_room := v_room + v_log[v_at + 1];
        v_retry := (v_log[v_at] + v_length * 1000 - v_now + 999) / 1000;
        v_at := v_at + 2;
      end loop;
      v_reset := case when v_count = 0 then 0 else (v_log[2 * v_count - 1] + v_length * 1000 - v_now + 999) / 1000 end;
      if v_count > 0 then
        state := state || v_length || v_sum || v_count::bigint || v_log;
        busy_until := greatest(busy_until, v_log[2 * v_count - 1] + v_length * 1000);
      end if;
    end if;
    v_answer := v_answer || case when v_number > 1 then ',' else '' end
      || format('[%s,%s,%s,%s,%s]', p_limits[v_number], v_length, v_remaining, v_reset, v_retry);
  end loop;
  windows := '[' || v_answer || ']';
end
$$;

comment on function rowhouse.decide_rate_limit(bigint[], bigint, bigint[], bigint[], bigint[], bigint, integer, bigint) is
  'Decides on p_calls calls of p_cost each, at a time in microseconds: how many are admitted, the state of the counter after them, when it counts nothing any more, and for each window [limit, length, remaining, ms until it is whole, ms until one more such call fits]. A cost that could never be admitted: admitted is null, and windows holds the [limit, length] that it is above.';

create or replace function rowhouse.drop_idle_rate_counters(p_tenant text, p_most integer) returns integer
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_now timestamptz := clock_timestamp();
  v_dropped integer;
begin
  with idle as materialized (
    select c.name, c.subject from rowhouse.rate_limit_counters c
      where c.tenant_id = p_tenant and c.sweep_at <= v_now
      order by c.sweep_at
      limit p_most
      for update skip locked)
  delete from rowhouse.rate_limit_counters c
    using idle i
    where c.tenant_id = p_tenant and c.name = i.name and c.subject = i.subject and c.sweep_at <= v_now;
  get diagnostics v_dropped = row_count;
  return v_dropped;
end
$$;

comment on function rowhouse.drop_idle_rate_counters(text, integer) is
  'Deletes at most p_most counters of the tenant that count nothing any more, and returns how many.';

create or replace function rowhouse.add_rate_counter(p_tenant text, p_name text, p_subject text) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  insert into rowhouse.rate_limit_counters (tenant_id, name, subject, state, sweep_at)
    values (p_tenant, p_name, p_subject, '{0}', clock_timestamp() + interval '1 hour')
    on conflict (tenant_id, name, subject) do nothing;
  -- Whoever adds one takes idle ones away, so the table does not outgrow what is in use, whether or not anybody sweeps.
  perform rowhouse.drop_idle_rate_counters(p_tenant, 4);
end
$$;

comment on function rowhouse.add_rate_counter(text, text, text) is 'Adds an empty counter, and deletes a few idle ones of the tenant.';

create or replace function rowhouse.take_rate_limit(
  p_limit text, p_limits bigint[], p_lengths bigint[], p_bursts bigint[],
  p_subjects text[], p_costs bigint[], p_calls integer[], p_hold_ms integer default 0
) returns table (call integer, admitted integer, decided_at bigint, windows jsonb)
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  -- Every row is found by its key, also by a plan that was made while the tables were empty.
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
  set jit = off
as $$
declare
  v_tenant text := rowhouse.enter_tenant_write();
  v_name text := p_limit;
  v_limits bigint[] := p_limits;
  v_lengths bigint[] := p_lengths;
  v_bursts bigint[] := p_bursts;
  v_order integer[] := '{1}';
  v_subject text;
  v_state bigint[];
  v_new_state bigint[];
  v_busy_until bigint;
  v_sweep_at timestamptz;
begin
  if v_limits is null then
    select f.limits, f.lengths, f.bursts into v_limits, v_lengths, v_bursts from rowhouse.find_rate_limit(v_tenant, p_limit) f;
  else
    perform rowhouse.check_rate_windows(v_limits, v_lengths, v_bursts);
    -- Windows without a name have a counter of their own: other windows for the same subject are another limit.
    v_name := coalesce(v_name, array_to_string(v_limits || v_lengths || v_bursts, ' '));
  end if;
  if p_hold_ms <> 0 and (p_hold_ms not between 1 and 60000 or v_lengths[1] < 0) then
    raise exception using errcode = 'RH041', message = 'an allowance is held for 1 to 60000 ms, and not from a window of gcra';
  end if;
  if array_length(p_subjects, 1) > 1 then
    -- Counters are locked in one order, so that two statements cannot wait for each other.
    select array_agg(s.number order by s.subject collate "C", s.number) into v_order
      from unnest(p_subjects) with ordinality s (subject, number);
  end if;
  foreach call in array v_order loop
    v_subject := p_subjects[call];
    if p_costs[call] is null or p_costs[call] < 1 or p_calls[call] is null or p_calls[call] < 0 then
      raise exception using errcode = 'RH042', message = 'a cost is a whole number from 1';
    elsif v_subject is null or length(v_subject) > 200 then
      raise exception using errcode = 'RH041', message = 'the subject of a rate limit is a text of at most 200 characters';
    end if;
    if p_calls[call] = 0 then
      -- Only looks.
      select c.state into v_state from rowhouse.rate_limit_counters c
        where c.tenant_id = v_tenant and c.name = v_name and c.subject = v_subject;
    else
      loop
        select c.state, c.sweep_at into v_state, v_sweep_at from rowhouse.rate_limit_counters c
          where c.tenant_id = v_tenant and c.name = v_name and c.subject = v_subject
          for update;
        exit when found;
        perform rowhouse.add_rate_counter(v_tenant, v_name, v_subject);
      end loop;
    end if;
    -- The row is locked: nobody's decision on it has a later time.
    decided_at := extract(epoch from clock_timestamp()) * 1000000;
    select d.admitted, d.state, d.windows, d.busy_until into admitted, v_new_state, windows, v_busy_until
      from rowhouse.decide_rate_limit(coalesce(v_state, '{0}'), decided_at, v_limits, v_lengths, v_bursts,
        p_costs[call], p_calls[call], p_hold_ms * 1000::bigint) d;
    if admitted > 0 then
      if extract(epoch from v_sweep_at) * 1000000 < v_busy_until then
        v_sweep_at := date_trunc('hour', to_timestamp(v_busy_until / 1000000.0)) + interval '1 hour';
      end if;
      update rowhouse.rate_limit_counters c
        set state = v_new_state, sweep_at = v_sweep_at
        where c.tenant_id = v_tenant and c.name = v_name and c.subject = v_subject;
    end if;
    return next;
  end loop;
end
$$;

comment on function rowhouse.take_rate_limit(text, bigint[], bigint[], bigint[], text[], bigint[], integer[], integer) is
  'Decides on calls of one limit, for several subjects at once: p_calls[i] calls of p_costs[i] each for p_subjects[i]; with 0 calls only looks. p_limit: the name of a stored limit; p_limits, p_lengths (ms, ascending; negative: gcra) and p_bursts: windows in its place, which need no name. p_hold_ms: what is admitted may be spent within this time, and counts until a window after it. Returns for each how many of the calls are admitted (null: the cost is above a limit), when that was decided in microseconds since 1970, and the windows as decide_rate_limit tells them. Raises RH041 (windows), RH042 (cost below 1), RH043 (unknown limit).';

create or replace function rowhouse.rate_limit(
  p_subject text default '', p_cost bigint default 1, p_limit text default 'requests', p_windows jsonb default null,
  p_take boolean default true
) returns jsonb
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_given record;
  v_taken record;
  v_windows jsonb;
  v_retry bigint;
begin
  select p.limits, p.lengths, p.bursts into v_given from rowhouse.parse_rate_windows(p_windows) p where p_windows is not null;
  select t.admitted, t.windows into v_taken
    from rowhouse.take_rate_limit(case when p_windows is null then p_limit end, v_given.limits, v_given.lengths, v_given.bursts,
      array[p_subject], array[p_cost], array[case when p_take then 1 else 0 end]) t;
  if v_taken.admitted is null then
    raise exception using errcode = 'RH042',
      message = format('the cost %s is above the limit of %s, so it could never be admitted', p_cost, v_taken.windows #> '{0,0}'),
      hint = 'Split the call, or raise the limit.';
  end if;
  select jsonb_agg(jsonb_build_object('limit', w.value -> 0, 'windowMs', abs((w.value ->> 1)::bigint),
        'algorithm', case when (w.value ->> 1)::bigint < 0 then 'gcra' else 'sliding_window' end,
        'remaining', w.value -> 2, 'resetMs', w.value -> 3, 'retryAfterMs', w.value -> 4) order by w.number),
      max((w.value ->> 4)::bigint)
    into v_windows, v_retry
    from jsonb_array_elements(v_taken.windows) with ordinality w (value, number);
  return jsonb_build_object('allowed', case when p_take then v_taken.admitted = 1 else v_retry = 0 end,
    'retryAfterMs', case when p_take and v_taken.admitted = 1 then 0 else v_retry end, 'windows', v_windows);
end
$$;

comment on function rowhouse.rate_limit(text, bigint, text, jsonb, boolean) is
  'Asks for one call of this cost: {"allowed": true, "retryAfterMs": 0, "windows": [{"limit": 60, "windowMs": 60000, "algorithm": "sliding_window", "remaining": 59, "resetMs": 60000, "retryAfterMs": 0}]}. retryAfterMs of a window: when one more such call fits. p_subject: a user, a key, a route; empty for the tenant as a whole. p_limit: a stored limit; p_windows: windows in its place. p_take false: only looks. Raises RH041, RH042, RH043 as take_rate_limit.';

-- Operators ------------------------------------------------------------------------------------------------------------

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
  v_before := rowhouse.work_as(p_tenant, false);
  if p_windows is null then
    delete from rowhouse.rate_limit_overrides o where o.tenant_id = p_tenant and o.name = p_limit;
  else
    insert into rowhouse.rate_limit_overrides (tenant_id, name, limits, lengths, bursts, updated_at)
      select p_tenant, p_limit, n.limits, n.lengths, n.bursts, statement_timestamp()
        from rowhouse.new_rate_limit(p_limit, p_windows) n
      on conflict (tenant_id, name) do update
        set limits = excluded.limits, lengths = excluded.lengths, bursts = excluded.bursts, updated_at = excluded.updated_at;
  end if;
  perform rowhouse.end_work(v_before);
end
$$;

comment on function rowhouse.set_rate_limit(text, text, jsonb) is
  'Sets a limit of one tenant, by its windows or by the name of a tier to copy; null goes back to that of its tier. Holds from the next call on; what was counted stays counted for windows of the same length. Raises RH002, RH003, RH004, RH006 for the tenant.';

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
  rowhouse.rate_windows_json(bigint[], bigint[], bigint[]), rowhouse.find_rate_limit(text, text), rowhouse.rate_limits(),
  rowhouse.check_rate_windows(bigint[], bigint[], bigint[]), rowhouse.thin_rate_log(bigint[], bigint),
  rowhouse.decide_rate_limit(bigint[], bigint, bigint[], bigint[], bigint[], bigint, integer, bigint),
  rowhouse.drop_idle_rate_counters(text, integer),
  rowhouse.add_rate_counter(text, text, text),
  rowhouse.take_rate_limit(text, bigint[], bigint[], bigint[], text[], bigint[], integer[], integer),
  rowhouse.rate_limit(text, bigint, text, jsonb, boolean), rowhouse.new_rate_limit(text, jsonb),
  rowhouse.set_default_rate_limit(text, text, jsonb), rowhouse.set_rate_limit(text, text, jsonb),
  rowhouse.sweep_rate_limits(text, integer)
  from public;
grant execute on function
  rowhouse.rate_limits(), rowhouse.parse_rate_windows(jsonb), rowhouse.is_whole(jsonb, numeric),
  rowhouse.rate_windows_json(bigint[], bigint[], bigint[]),
  rowhouse.take_rate_limit(text, bigint[], bigint[], bigint[], text[], bigint[], integer[], integer),
  rowhouse.rate_limit(text, bigint, text, jsonb, boolean)
  to rowhouse_app;
grant execute on function
  rowhouse.set_default_rate_limit(text, text, jsonb), rowhouse.set_rate_limit(text, text, jsonb),
  rowhouse.sweep_rate_limits(text, integer)
  to rowhouse_admin;
