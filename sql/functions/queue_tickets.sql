-- Tickets of queues: who waits for a slot, and who gets the next one.
--
-- Start-time fair queueing: a tenant whose request gets a slot moves on by cost / weight on a scale of virtual time, and
-- the next slot goes to the tenant that is least far. Who begins to wait begins where the others are, so nobody saves up
-- turns, and nobody starves: a tenant that waits doesn't move on, while everybody who is served does.
-- Whoever decides holds the row of the queue, for one statement; places and slots end by the clock of this server, unless
-- they are renewed. A slot that is given out is announced by a digest of its ticket, which nobody else can guess.
-- Depends on: context.sql, queues.sql. Proven by: test/queues.

create or replace function rowhouse.open_queue(p_queue text, out opened_at timestamptz)
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform from rowhouse.queues q where q.name = p_queue for update;
  if not found then
    perform rowhouse.raise_no_queue(p_queue);
  end if;
  opened_at := clock_timestamp();
  if exists (select from rowhouse.queue_tickets t where t.queue = p_queue and t.expires_at <= opened_at) then
    with gone as (
      delete from rowhouse.queue_tickets t where t.queue = p_queue and t.expires_at <= open_queue.opened_at
        returning t.tenant_id, t.cost, t.granted_at
    ), freed as (
      update rowhouse.queues q
        set busy = q.busy - (select count(*) from gone g where g.granted_at is not null)
        where q.name = p_queue
    )
    update rowhouse.queue_tenants t
      set waiting = t.waiting - g.waiting, waiting_cost = t.waiting_cost - g.waiting_cost, running = t.running - g.running
      from (
        select g.tenant_id, count(*) filter (where g.granted_at is null) as waiting,
            coalesce(sum(g.cost) filter (where g.granted_at is null), 0) as waiting_cost,
            count(*) filter (where g.granted_at is not null) as running
          from gone g group by g.tenant_id) g
      where t.queue = p_queue and t.tenant_id = g.tenant_id;
    delete from rowhouse.queue_tenants t
      using rowhouse.queues q
      where t.queue = p_queue and q.name = p_queue and t.waiting = 0 and t.running = 0 and t.next_start <= q.virtual_time;
  end if;
end
$$;

comment on function rowhouse.open_queue(text) is
  'Locks a queue until the transaction ends, takes back what was not renewed in time, and returns the time of all decisions. Raises RH045.';

create or replace function rowhouse.grant_slots(p_queue text, p_at timestamptz, p_caller uuid) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_queue rowhouse.queues;
  v_next record;
  v_ticket record;
  v_begun bigint;
begin
  select q.* into v_queue from rowhouse.queues q where q.name = p_queue;
  v_begun := v_queue.serial;
  while v_queue.busy < v_queue.slots loop
    select t.tenant_id, t.next_start into v_next
      from rowhouse.queue_tenants t
      where t.queue = p_queue and t.waiting > 0 and (t.max_running is null or t.running < t.max_running)
      order by t.next_start, t.turn
      limit 1;
    exit when not found;
    select k.ticket, k.cost into v_ticket
      from rowhouse.queue_tickets k
      where k.queue = p_queue and k.tenant_id = v_next.tenant_id and k.granted_at is null
      order by k.serial
      limit 1;
    v_queue.busy := v_queue.busy + 1;
    v_queue.serial := v_queue.serial + 1;
    v_queue.virtual_time := greatest(v_queue.virtual_time, v_next.next_start);
    -- Who is dead is not waited for longer than for a place: the slot of another one is leased when it is renewed.
    update rowhouse.queue_tickets k
      set granted_at = p_at,
        expires_at = p_at + case when k.ticket = p_caller then k.lease_ms else k.keep_ms end * interval '1 millisecond'
      where k.tenant_id = v_next.tenant_id and k.ticket = v_ticket.ticket;
    -- From where the others are: a tenant that was held back by its own limit doesn't catch up at their cost.
    update rowhouse.queue_tenants t
      set next_start = v_queue.virtual_time + v_ticket.cost / t.weight, turn = v_queue.serial,
        waiting = t.waiting - 1, waiting_cost = t.waiting_cost - v_ticket.cost, running = t.running + 1
      where t.queue = p_queue and t.tenant_id = v_next.tenant_id;
    if v_ticket.ticket is distinct from p_caller then
      perform pg_notify('rowhouse_queues', left(encode(sha256(convert_to(v_ticket.ticket::text, 'UTF8')), 'hex'), 32));
    end if;
  end loop;
  if v_queue.serial > v_begun then
    update rowhouse.queues q
      set busy = v_queue.busy, serial = v_queue.serial, virtual_time = v_queue.virtual_time
      where q.name = p_queue;
  end if;
end
$$;

comment on function rowhouse.grant_slots(text, timestamptz, uuid) is
  'Gives out the slots of a queue that are free, and announces whom to, except for the ticket of the caller. The caller holds the queue.';

create or replace function rowhouse.ticket_states(p_tenant text, p_queue text, p_tickets uuid[])
  returns table (ticket uuid, status text, expires_at timestamptz)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_granted_at timestamptz;
begin
  foreach ticket in array p_tickets loop
    select t.granted_at, t.expires_at into v_granted_at, expires_at
      from rowhouse.queue_tickets t
      where t.tenant_id = p_tenant and t.ticket = ticket_states.ticket and t.queue = p_queue;
    status := case when not found then 'gone' when v_granted_at is null then 'waiting' else 'running' end;
    return next;
  end loop;
end
$$;

comment on function rowhouse.ticket_states(text, text, uuid[]) is
  'How tickets of a tenant stand: waiting, running or gone, and until when they are held.';

create or replace function rowhouse.join_queue(
  p_queue text, p_ticket uuid, p_cost double precision default 1, p_deadline_ms bigint default 30000,
  p_lease_ms integer default 30000, p_keep_ms integer default 15000
) returns table (ticket uuid, status text, expires_at timestamptz)
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  -- A caller that keeps its transaction open holds up everybody; it is not waited for any longer than this.
  -- The rest as in reservations.sql: every row is found by its key, and plans are made while tables may be empty.
  set lock_timeout = '10s'
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
  set jit = off
as $$
#variable_conflict use_column
declare
  v_tenant text := rowhouse.enter_tenant_write();
  v_share record;
  v_at timestamptz;
  v_deadline timestamptz;
  v_queue record;
  v_waiting integer;
begin
  if p_ticket is null or p_cost is null or p_cost not between 0.000001 and 1000000
    or p_deadline_ms is null or p_deadline_ms not between 0 and 86400000
    or p_lease_ms is null or p_lease_ms not between 100 and 86400000 or p_keep_ms is null or p_keep_ms not between 100 and 86400000
  then
    raise exception using errcode = 'RH046', message = 'not a request for a slot',
      hint = 'A cost is 0.000001 to 1000000, a deadline 0 to 86400000 ms, a lease and the time that a place is kept 100 to 86400000 ms.';
  end if;
  v_share := rowhouse.queue_share(v_tenant, p_queue);
  v_at := rowhouse.open_queue(p_queue);
  if not exists (select from rowhouse.queue_tickets t where t.tenant_id = v_tenant and t.ticket = p_ticket) then
    v_deadline := v_at + p_deadline_ms * interval '1 millisecond';
    update rowhouse.queues q set serial = q.serial + 1 where q.name = p_queue
      returning q.serial, q.virtual_time into v_queue;
    insert into rowhouse.queue_tenants as t (queue, tenant_id, weight, max_running, next_start, turn, waiting, waiting_cost)
      values (p_queue, v_tenant, v_share.weight, v_share.max_running, v_queue.virtual_time, v_queue.serial, 1, p_cost)
      on conflict (queue, tenant_id) do update
        set weight = excluded.weight, max_running = excluded.max_running,
          next_start = case when t.waiting = 0 then greatest(t.next_start, excluded.next_start) else t.next_start end,
          turn = case when t.waiting = 0 then excluded.turn else t.turn end,
          waiting = t.waiting + 1, waiting_cost = t.waiting_cost + excluded.waiting_cost
      returning t.waiting into v_waiting;
    insert into rowhouse.queue_tickets (tenant_id, ticket, queue, serial, cost, keep_ms, lease_ms, deadline_at, expires_at)
      values (v_tenant, p_ticket, p_queue, v_queue.serial, p_cost, p_keep_ms, p_lease_ms, v_deadline,
          -- Asked without waiting: until slots have been given out.
          greatest(least(v_at + p_keep_ms * interval '1 millisecond', v_deadline), v_at + interval '1 microsecond'))
      on conflict (tenant_id, ticket) do nothing;
    insert into rowhouse.queue_requests (tenant_id, ticket, queue, cost, user_id, request_id, enqueued_at, deadline_at)
      values (v_tenant, p_ticket, p_queue, p_cost, nullif(current_setting('app.user_id', true), ''),
        nullif(current_setting('app.request_id', true), ''), v_at, v_deadline)
      on conflict (tenant_id, ticket) do nothing;
  end if;
  perform rowhouse.grant_slots(p_queue, v_at, p_ticket);
  if v_waiting > v_share.max_waiting
    and exists (select from rowhouse.queue_tickets t where t.tenant_id = v_tenant and t.ticket = p_ticket and t.granted_at is null)
  then
    raise exception using errcode = 'RH047', message = format('%s requests of the tenant wait in the queue "%s" already', v_share.max_waiting, p_queue);
  end if;
  if v_waiting is null then
    -- Asked for again: what was given out meanwhile is leased now.
    update rowhouse.queue_tickets t
      set expires_at = v_at + t.lease_ms * interval '1 millisecond'
      where t.tenant_id = v_tenant and t.ticket = p_ticket and t.granted_at is not null;
  end if;
  return query select s.* from rowhouse.ticket_states(v_tenant, p_queue, array[p_ticket]) s;
end
$$;

comment on function rowhouse.join_queue(text, uuid, double precision, bigint, integer, integer) is
  'Asks for a slot of a queue: running when there is one for the tenant now, else waiting. p_ticket: new for each request; repeating it tells how it stands. p_cost: how much of its share the tenant uses. p_deadline_ms: how long it waits. p_lease_ms, p_keep_ms: how long a slot and a place are kept without renew_tickets. It holds up the queue until the transaction ends, so it is a transaction of its own. Raises RH045, RH046, RH047 (too many wait), and those of the tenant.';

create or replace function rowhouse.renew_tickets(p_queue text, p_tickets uuid[])
  returns table (ticket uuid, status text, expires_at timestamptz)
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set lock_timeout = '10s'
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
  set jit = off
as $$
#variable_conflict use_column
declare
  v_tenant text := rowhouse.enter_tenant_write();
  v_at timestamptz := clock_timestamp();
begin
  -- Who holds a slot, and alone asks to keep it, changes nothing for others: the queue goes on meanwhile. Of several, the
  -- rows could be locked in another order than somebody takes them back in.
  if cardinality(p_tickets) = 1 then
    update rowhouse.queue_tickets t
      set expires_at = v_at + t.lease_ms * interval '1 millisecond'
      where t.tenant_id = v_tenant and t.ticket = p_tickets[1] and t.queue = p_queue and t.granted_at is not null
        and t.expires_at > v_at
      returning t.ticket, 'running', t.expires_at into ticket, status, expires_at;
    if found then
      return next;
      return;
    end if;
  end if;
  v_at := rowhouse.open_queue(p_queue);
  update rowhouse.queue_tickets t
    set expires_at = least(v_at + t.keep_ms * interval '1 millisecond', t.deadline_at)
    where t.tenant_id = v_tenant and t.queue = p_queue and t.ticket = any (p_tickets) and t.granted_at is null;
  perform rowhouse.grant_slots(p_queue, v_at, case when cardinality(p_tickets) = 1 then p_tickets[1] end);
  update rowhouse.queue_tickets t
    set expires_at = v_at + t.lease_ms * interval '1 millisecond'
    where t.tenant_id = v_tenant and t.queue = p_queue and t.ticket = any (p_tickets) and t.granted_at is not null;
  delete from rowhouse.queue_requests r
    where r.tenant_id = v_tenant and r.ticket = any (p_tickets)
      and not exists (select from rowhouse.queue_tickets t where t.tenant_id = v_tenant and t.ticket = r.ticket);
  return query select s.* from rowhouse.ticket_states(v_tenant, p_queue, p_tickets) s;
end
$$;

comment on function rowhouse.renew_tickets(text, uuid[]) is
  'Keeps the places and slots of tickets, and tells how they stand: waiting, running, or gone (never asked for, not renewed in time, past its deadline, or given back). Raises RH045, and those of the tenant.';

create or replace function rowhouse.leave_queue(p_queue text, p_ticket uuid) returns text
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set lock_timeout = '10s'
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
  set jit = off
as $$
declare
  v_tenant text := rowhouse.enter_tenant_write();
  v_at timestamptz := rowhouse.open_queue(p_queue);
  v_ticket rowhouse.queue_tickets;
begin
  delete from rowhouse.queue_requests r where r.tenant_id = v_tenant and r.ticket = p_ticket;
  delete from rowhouse.queue_tickets t
    where t.tenant_id = v_tenant and t.ticket = p_ticket and t.queue = p_queue
    returning t.* into v_ticket;
  if v_ticket.ticket is null then
    perform rowhouse.grant_slots(p_queue, v_at, null);
    return 'gone';
  end if;
  if v_ticket.granted_at is null then
    update rowhouse.queue_tenants t set waiting = t.waiting - 1, waiting_cost = t.waiting_cost - v_ticket.cost
      where t.queue = p_queue and t.tenant_id = v_tenant;
  else
    update rowhouse.queue_tenants t set running = t.running - 1 where t.queue = p_queue and t.tenant_id = v_tenant;
    update rowhouse.queues q
      set busy = q.busy - 1,
        mean_service_ms = coalesce(0.9 * q.mean_service_ms, 0)
          + case when q.mean_service_ms is null then 1 else 0.1 end * extract(epoch from v_at - v_ticket.granted_at) * 1000
      where q.name = p_queue;
  end if;
  -- Nothing to remember of a tenant that is not ahead of others.
  delete from rowhouse.queue_tenants t
    using rowhouse.queues q
    where t.queue = p_queue and t.tenant_id = v_tenant and q.name = p_queue
      and t.waiting = 0 and t.running = 0 and t.next_start <= q.virtual_time;
  perform rowhouse.grant_slots(p_queue, v_at, null);
  return case when v_ticket.granted_at is null then 'waiting' else 'running' end;
end
$$;

comment on function rowhouse.leave_queue(text, uuid) is
  'Gives a slot back, or a place; returns what it was: running, waiting or gone. Raises RH045, and those of the tenant.';

create or replace function rowhouse.sweep_queue_requests(p_limit integer default 1000) returns integer
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.enter_tenant_write();
  v_tickets uuid[];
  v_deleted integer;
begin
  v_tickets := array(
    select r.ticket from rowhouse.queue_requests r
      where r.tenant_id = v_tenant
        and not exists (select from rowhouse.queue_tickets t where t.tenant_id = v_tenant and t.ticket = r.ticket)
      limit p_limit for update skip locked);
  delete from rowhouse.queue_requests r where r.tenant_id = v_tenant and r.ticket = any (v_tickets);
  get diagnostics v_deleted = row_count;
  return v_deleted;
end
$$;

comment on function rowhouse.sweep_queue_requests(integer) is
  'Deletes up to this many requests of the tenant that nobody renewed in time, and returns how many. Several processes may sweep at once.';

create or replace function rowhouse.queue_position(
  p_queue text, p_ticket uuid, out status text, out place integer, out ahead integer, out estimated_wait_ms bigint
)
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_queue rowhouse.queues;
  v_own rowhouse.queue_tenants;
  v_start double precision;
begin
  select s.status into status from rowhouse.ticket_states(v_tenant, p_queue, array[p_ticket]) s;
  if status <> 'waiting' then
    ahead := case when status = 'running' then 0 end;
    estimated_wait_ms := ahead;
    return;
  end if;
  select q.* into v_queue from rowhouse.queues q where q.name = p_queue;
  select t.* into v_own from rowhouse.queue_tenants t where t.queue = p_queue and t.tenant_id = v_tenant;
  select count(*) into place
    from rowhouse.queue_tickets o
    join rowhouse.queue_tickets t on t.queue = o.queue and t.tenant_id = o.tenant_id and t.granted_at is null and t.serial <= o.serial
    where o.tenant_id = v_tenant and o.ticket = p_ticket and o.queue = p_queue and t.queue = p_queue and t.tenant_id = v_tenant;
  -- Where it starts if those of the tenant before it cost what they do on average.
  v_start := v_own.next_start + (place - 1) * v_own.waiting_cost / v_own.waiting / v_own.weight;
  select place - 1 + coalesce(sum(least(t.waiting,
      ceil(greatest(v_start - t.next_start, 0) * t.weight * t.waiting / nullif(t.waiting_cost, 0)))), 0)
    into ahead
    from rowhouse.queue_tenants t
    where t.queue = p_queue and t.tenant_id <> v_tenant and t.waiting > 0;
  -- Slots come free one after another; a tenant at its own limit waits for its own.
  estimated_wait_ms := round(v_queue.mean_service_ms * greatest(
    (ahead + 1) / nullif(v_queue.slots, 0)::double precision, place / nullif(v_own.max_running, 0)::double precision));
end
$$;

comment on function rowhouse.queue_position(text, uuid) is
  'How a request of the tenant stands: its place among those of the tenant, how many of all tenants will probably get a slot before it, and in how many milliseconds it will get one if slots are held as long as lately (null: not known). Changes nothing.';

revoke execute on function
  rowhouse.open_queue(text), rowhouse.grant_slots(text, timestamptz, uuid), rowhouse.ticket_states(text, text, uuid[]),
  rowhouse.join_queue(text, uuid, double precision, bigint, integer, integer), rowhouse.renew_tickets(text, uuid[]),
  rowhouse.leave_queue(text, uuid), rowhouse.queue_position(text, uuid), rowhouse.sweep_queue_requests(integer)
  from public;
grant execute on function
  rowhouse.join_queue(text, uuid, double precision, bigint, integer, integer), rowhouse.renew_tickets(text, uuid[]),
  rowhouse.leave_queue(text, uuid), rowhouse.queue_position(text, uuid), rowhouse.sweep_queue_requests(integer)
  to rowhouse_app;
