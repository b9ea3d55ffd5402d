-- Decisions on rate limits: whether a call is admitted, by all windows of a limit or counted by none.
--
-- Time is the clock of this server, read when the counter's row is locked, and never runs backwards for a counter.
-- Depends on: rate_limits.sql, denials.sql, rowhouse.rate_limit_counters. Proven by: test/rate-limits.

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

-- Without a search path of its own, as begin_tenant_write.
create or replace function rowhouse.decide_rate_limit(
  p_state bigint[], p_now bigint,
  p_limits bigint[], p_lengths bigint[], p_bursts bigint[],
  p_cost bigint, p_calls integer, p_hold bigint,
  out admitted integer, out state bigint[], out windows json, out busy_until bigint
)
  language plpgsql immutable parallel safe
as $$
declare
  -- For each window of the limit: its entries in p_state that count, and their cost (gcra: its one time).
  v_first integer[];
  v_last integer[];
  v_used bigint[];
  v_now bigint := greatest(p_now, p_state[1]);
  v_length bigint;
  v_pace bigint;
  v_at integer;
  v_end integer;
  v_sum bigint;
  v_fits bigint := p_calls;
  v_log bigint[];
  v_time bigint;
  v_room bigint;
  v_retry bigint;
  v_answer text := '';
begin
  -- First every window is asked, ...
  for v_number in 1 .. cardinality(p_lengths) loop
    v_length := p_lengths[v_number];
    if p_cost > p_bursts[v_number] then
      -- Not an error here: the statement may decide for others too.
      admitted := null;
      state := p_state;
      windows := json_build_array(json_build_array(p_bursts[v_number], v_length));
      busy_until := 0;
      return;
    end if;
    v_at := 5;
    -- Behind the end there is null.
    while p_state[v_at - 3] <> v_length loop
      v_at := v_at + 3 + 2 * p_state[v_at - 1];
    end loop;
    v_end := v_at - 1 + 2 * coalesce(p_state[v_at - 1], 0);
    if v_length < 0 then
      v_pace := (-v_length * 1000000 + p_limits[v_number] - 1) / p_limits[v_number];
      v_sum := greatest(coalesce(p_state[v_at], 0), v_now * 1000);
      v_fits := least(v_fits, (v_now * 1000 + p_bursts[v_number] * v_pace - v_sum) / (p_cost * v_pace));
    else
      v_sum := coalesce(p_state[v_at - 2], 0);
      while v_at < v_end and p_state[v_at] <= v_now - v_length * 1000 loop
        v_sum := v_sum - p_state[v_at + 1];
        v_at := v_at + 2;
      end loop;
      v_fits := least(v_fits, (p_limits[v_number] - v_sum) / p_cost);
    end if;
    v_first[v_number] := v_at;
    v_last[v_number] := v_end;
    v_used[v_number] := v_sum;
  end loop;
  admitted := greatest(v_fits, 0);

  -- ... then each books what all of them admit, and tells what is left.
  state := array[v_now];
  busy_until := 0;
  for v_number in 1 .. cardinality(p_lengths) loop
    v_length := p_lengths[v_number];
    v_sum := v_used[v_number];
    if v_length < 0 then
      v_pace := (-v_length * 1000000 + p_limits[v_number] - 1) / p_limits[v_number];
      v_time := v_sum + admitted * p_cost * v_pace;
      v_room := v_now * 1000 + p_bursts[v_number] * v_pace - v_time;
      v_retry := (greatest(p_cost * v_pace - v_room, 0) + 999999) / 1000000;
      state := state || array[v_length, 0, 1, v_time, 0];
      busy_until := greatest(busy_until, v_time / 1000);
      v_answer := v_answer || format(',[%s,%s,%s,%s,%s]', p_limits[v_number], v_length, greatest(v_room, 0) / v_pace,
        (v_time - v_now * 1000 + 999999) / 1000000, v_retry);
    else
      v_log := p_state[v_first[v_number] : v_last[v_number]];
      if admitted > 0 then
        v_sum := v_sum + admitted * p_cost;
        -- What is held may be spent until the end of p_hold, so it counts from then on.
        if v_log[cardinality(v_log) - 1] >= v_now + p_hold then
          v_log[cardinality(v_log)] := v_log[cardinality(v_log)] + admitted * p_cost;
        else
          v_log := v_log || array[v_now + p_hold, admitted * p_cost];
        end if;
        if cardinality(v_log) > 192 then
          v_log := rowhouse.thin_rate_log(v_log, greatest(v_length * 1000 / 60, 1));
        end if;
      end if;
      v_end := cardinality(v_log);
      v_room := p_limits[v_number] - v_sum;
      v_retry := 0;
      v_at := 1;
      while v_room < p_cost and v_at < v_end loop
        v_room := v_room + v_log[v_at + 1];
        v_retry := (v_log[v_at] + v_length * 1000 - v_now + 999) / 1000;
        v_at := v_at + 2;
      end loop;
      v_time := coalesce(v_log[v_end - 1] + v_length * 1000, v_now);
      if v_end > 0 then
        state := state || array[v_length, v_sum, v_end / 2] || v_log;
        busy_until := greatest(busy_until, v_time);
      end if;
      v_answer := v_answer || format(',[%s,%s,%s,%s,%s]', p_limits[v_number], v_length, greatest(p_limits[v_number] - v_sum, 0),
        (v_time - v_now + 999) / 1000, v_retry);
    end if;
  end loop;
  windows := '[' || substr(v_answer, 2) || ']';
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

-- Without a search path of its own, as decide_rate_limit.
create or replace function rowhouse.is_rate_counter_held(p_tenant text, p_name text, p_subject text) returns boolean
  language plpgsql volatile
as $$
begin
  perform from rowhouse.rate_limit_counters c
    where c.tenant_id = p_tenant and c.name = p_name and c.subject = p_subject
    for update skip locked;
  return not found and exists (
    select from rowhouse.rate_limit_counters c where c.tenant_id = p_tenant and c.name = p_name and c.subject = p_subject);
end
$$;

comment on function rowhouse.is_rate_counter_held(text, text, text) is
  'Whether another transaction holds a counter; if not, this one does from now on.';

create or replace function rowhouse.take_rate_limit(
  p_limit text, p_limits bigint[], p_lengths bigint[], p_bursts bigint[],
  p_subjects text[], p_costs bigint[], p_calls integer[], p_hold_ms integer default 0, p_in_transaction boolean default false
) returns json
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  -- Every row is found by its key, also by a plan that was made while the tables were empty.
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
  set jit = off
as $$
declare
  v_tenant text;
  v_name text := p_limit;
  v_limits bigint[] := p_limits;
  v_lengths bigint[] := p_lengths;
  v_bursts bigint[] := p_bursts;
  v_order integer[] := '{1}';
  v_call integer;
  v_subject text;
  v_state bigint[];
  v_sweep_at timestamptz;
  v_decided_at bigint;
  v_decision record;
  v_busy_until timestamptz;
  v_denied boolean := false;
  v_answers text[] := '{}';
begin
  -- A transaction that goes on holds its counters, and may admit a call later, which takes the account before a counter.
  if p_in_transaction then
    v_tenant := (rowhouse.lock_account()).tenant;
  else
    v_tenant := rowhouse.check_tenant_write(rowhouse.begin_tenant_write(true), '{active}');
  end if;
  if v_limits is null then
    select f.limits, f.lengths, f.bursts into v_limits, v_lengths, v_bursts from rowhouse.find_rate_limit(v_tenant, p_limit) f;
  elsif p_limit is null then
    -- Windows without a name have a counter of their own: other windows for the same subject are another limit. Where
    -- there is a counter, they were checked.
    v_name := v_limits::text || v_lengths::text || v_bursts::text;
  else
    perform rowhouse.check_rate_windows(v_limits, v_lengths, v_bursts);
  end if;
  if p_hold_ms <> 0 and (p_hold_ms not between 1 and 60000 or v_lengths[1] < 0) then
    raise exception using errcode = 'RH041', message = 'an allowance is held for 1 to 60000 ms, and not from a window of gcra';
  end if;
  if cardinality(p_subjects) > 1 then
    -- Counters are locked in one order, so that two statements cannot wait for each other.
    select array_agg(s.number order by s.subject collate "C", s.number) into v_order
      from unnest(p_subjects) with ordinality s (subject, number);
  end if;
  foreach v_call in array v_order loop
    v_subject := p_subjects[v_call];
    if (p_costs[v_call] >= 1 and p_calls[v_call] >= 0) is not true then
      raise exception using errcode = 'RH042', message = 'a cost is a whole number from 1';
    elsif (length(v_subject) <= 200) is not true then
      raise exception using errcode = 'RH041', message = 'the subject of a rate limit is a text of at most 200 characters';
    end if;
    loop
      if p_calls[v_call] = 0 then
        -- Only looks.
        select c.state into v_state from rowhouse.rate_limit_counters c
          where c.tenant_id = v_tenant and c.name = v_name and c.subject = v_subject;
      else
        select c.state, c.sweep_at into v_state, v_sweep_at from rowhouse.rate_limit_counters c
          where c.tenant_id = v_tenant and c.name = v_name and c.subject = v_subject
          for update;
      end if;
      exit when found;
      perform rowhouse.check_rate_windows(v_limits, v_lengths, v_bursts);
      exit when p_calls[v_call] = 0;
      perform rowhouse.add_rate_counter(v_tenant, v_name, v_subject);
    end loop;
    -- The row is locked: nobody's decision on it has a later time.
    v_decided_at := extract(epoch from clock_timestamp()) * 1000000;
    v_decision := rowhouse.decide_rate_limit(coalesce(v_state, '{0}'), v_decided_at, v_limits, v_lengths, v_bursts,
      p_costs[v_call], p_calls[v_call], p_hold_ms * 1000::bigint);
    if v_decision.admitted > 0 then
      v_busy_until := to_timestamp(v_decision.busy_until / 1000000.0);
      if v_sweep_at < v_busy_until then
        v_sweep_at := date_trunc('hour', v_busy_until) + interval '1 hour';
      end if;
      update rowhouse.rate_limit_counters c
        set state = v_decision.state, sweep_at = v_sweep_at
        where c.tenant_id = v_tenant and c.name = v_name and c.subject = v_subject;
    end if;
    -- Once for a statement; what is held is no call, and whoever gets less than he asks for asks again.
    if v_decision.admitted < p_calls[v_call] and p_hold_ms = 0 and not v_denied then
      v_denied := true;
      perform rowhouse.record_denial(v_tenant, 'rowhouse.call.refuse', 'rate_limited', v_name, 'rate_limited',
        jsonb_build_object('rateLimit', p_limit, 'subject', v_subject, 'requested', p_costs[v_call], 'windows', v_decision.windows));
    end if;
    v_answers[v_call] := format('[%s,%s,%s]', coalesce(v_decision.admitted::text, 'null'), v_decided_at, v_decision.windows);
  end loop;
  return '[' || array_to_string(v_answers, ',') || ']';
end
$$;

comment on function rowhouse.take_rate_limit(text, bigint[], bigint[], bigint[], text[], bigint[], integer[], integer, boolean) is
  'Decides on calls of one limit, for several subjects at once: p_calls[i] calls of p_costs[i] each for p_subjects[i]; with 0 calls only looks. p_limit: the name of a stored limit; p_limits, p_lengths (ms, ascending; negative: gcra) and p_bursts: windows in its place, which need no name. p_hold_ms: what is admitted may be spent within this time, and counts until a window after it. p_in_transaction: the transaction goes on after this statement, so it takes the account of the tenant first, as all that admits calls does: no two transactions wait for each other. Returns for each, in their order: [how many of the calls are admitted (null: the cost is above a limit), when that was decided in microseconds since 1970, the windows as decide_rate_limit tells them]. Raises RH041 (windows), RH042 (cost below 1), RH043 (unknown limit).';

create or replace function rowhouse.rate_limit(
  p_subject text default '', p_cost bigint default 1, p_limit text default 'requests', p_windows jsonb default null,
  p_take boolean default true
) returns jsonb
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_given record;
  v_decision jsonb;
  v_windows jsonb;
  v_retry bigint;
  v_allowed boolean;
begin
  select p.limits, p.lengths, p.bursts into v_given from rowhouse.parse_rate_windows(p_windows) p where p_windows is not null;
  v_decision := rowhouse.take_rate_limit(case when p_windows is null then p_limit end, v_given.limits, v_given.lengths,
    v_given.bursts, array[p_subject], array[p_cost], array[p_take::integer], 0, p_take) -> 0;
  if v_decision -> 0 = 'null' then
    raise exception using errcode = 'RH042',
      message = format('the cost %s is above the limit of %s, so it could never be admitted', p_cost, v_decision #> '{2,0,0}'),
      hint = 'Split the call, or raise the limit.';
  end if;
  select jsonb_agg(jsonb_build_object('limit', w.value -> 0, 'windowMs', abs((w.value ->> 1)::bigint),
        'algorithm', case when (w.value ->> 1)::bigint < 0 then 'gcra' else 'sliding_window' end,
        'remaining', w.value -> 2, 'resetMs', w.value -> 3, 'retryAfterMs', w.value -> 4) order by w.number),
      max((w.value ->> 4)::bigint)
    into v_windows, v_retry
    from jsonb_array_elements(v_decision -> 2) with ordinality w (value, number);
  v_allowed := case when p_take then v_decision -> 0 = '1' else v_retry = 0 end;
  return jsonb_build_object('allowed', v_allowed, 'retryAfterMs', case when v_allowed then 0 else v_retry end, 'windows', v_windows);
end
$$;

comment on function rowhouse.rate_limit(text, bigint, text, jsonb, boolean) is
  'Asks for one call of this cost: {"allowed": true, "retryAfterMs": 0, "windows": [{"limit": 60, "windowMs": 60000, "algorithm": "sliding_window", "remaining": 59, "resetMs": 60000, "retryAfterMs": 0}]}. retryAfterMs of a window: when one more such call fits. p_subject: a user, a key, a route; empty for the tenant as a whole. p_limit: a stored limit; p_windows: windows in its place. p_take false: only looks. Raises RH041, RH042, RH043 as take_rate_limit.';

revoke execute on function
  rowhouse.thin_rate_log(bigint[], bigint),
  rowhouse.decide_rate_limit(bigint[], bigint, bigint[], bigint[], bigint[], bigint, integer, bigint),
  rowhouse.drop_idle_rate_counters(text, integer), rowhouse.add_rate_counter(text, text, text),
  rowhouse.is_rate_counter_held(text, text, text),
  rowhouse.take_rate_limit(text, bigint[], bigint[], bigint[], text[], bigint[], integer[], integer, boolean),
  rowhouse.rate_limit(text, bigint, text, jsonb, boolean)
  from public;
grant execute on function
  rowhouse.take_rate_limit(text, bigint[], bigint[], bigint[], text[], bigint[], integer[], integer, boolean),
  rowhouse.rate_limit(text, bigint, text, jsonb, boolean)
  to rowhouse_app;
