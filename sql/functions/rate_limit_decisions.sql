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
  p_subjects text[], p_costs bigint[], p_calls integer[], p_hold_ms integer default 0, p_in_transaction boolean default false
) returns table (call integer, admitted integer, decided_at bigint, windows jsonb)
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  -- Every row is found by its key, also by a plan that was made while the tables were empty.
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
  set jit = off
as $$
declare
  v_tenant text;
  v_timeout integer;
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
  v_denied boolean := false;
begin
  -- As in lock_account, because the client leaves rowhouse.enter out: nothing here waits longer than the tenant may.
  select least(t.timeouts[1], t.timeouts[2]) into v_timeout
    from rowhouse.tenants t where t.tenant_id = rowhouse.current_tenant() and current_setting('lock_timeout') = '0';
  if v_timeout is not null then
    execute format('set local lock_timeout = %s', v_timeout);
  end if;
  -- A transaction that goes on holds its counters, and may admit a call later, which takes the account before a counter.
  v_tenant := case when p_in_transaction then (rowhouse.lock_account()).tenant else rowhouse.enter_tenant_write() end;
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
    -- Once for a statement; what is held is no call, and whoever gets less than he asks for asks again.
    if admitted < p_calls[call] and p_hold_ms = 0 and not v_denied then
      v_denied := true;
      perform rowhouse.record_denial(v_tenant, 'rowhouse.call.refuse', 'rate_limited', v_name, 'rate_limited',
        jsonb_build_object('rateLimit', p_limit, 'subject', v_subject, 'requested', p_costs[call], 'windows', windows));
    end if;
    return next;
  end loop;
  if v_timeout is not null then
    set local lock_timeout = 0;
  end if;
end
$$;

comment on function rowhouse.take_rate_limit(text, bigint[], bigint[], bigint[], text[], bigint[], integer[], integer, boolean) is
  'Decides on calls of one limit, for several subjects at once: p_calls[i] calls of p_costs[i] each for p_subjects[i]; with 0 calls only looks. p_limit: the name of a stored limit; p_limits, p_lengths (ms, ascending; negative: gcra) and p_bursts: windows in its place, which need no name. p_hold_ms: what is admitted may be spent within this time, and counts until a window after it. p_in_transaction: the transaction goes on after this statement, so it takes the account of the tenant first, as all that admits calls does: no two transactions wait for each other. Returns for each how many of the calls are admitted (null: the cost is above a limit), when that was decided in microseconds since 1970, and the windows as decide_rate_limit tells them. Raises RH041 (windows), RH042 (cost below 1), RH043 (unknown limit).';

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
      array[p_subject], array[p_cost], array[case when p_take then 1 else 0 end], 0, p_take) t;
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

revoke execute on function
  rowhouse.thin_rate_log(bigint[], bigint),
  rowhouse.decide_rate_limit(bigint[], bigint, bigint[], bigint[], bigint[], bigint, integer, bigint),
  rowhouse.drop_idle_rate_counters(text, integer), rowhouse.add_rate_counter(text, text, text),
  rowhouse.take_rate_limit(text, bigint[], bigint[], bigint[], text[], bigint[], integer[], integer, boolean),
  rowhouse.rate_limit(text, bigint, text, jsonb, boolean)
  from public;
grant execute on function
  rowhouse.take_rate_limit(text, bigint[], bigint[], bigint[], text[], bigint[], integer[], integer, boolean),
  rowhouse.rate_limit(text, bigint, text, jsonb, boolean)
  to rowhouse_app;
