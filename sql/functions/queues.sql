-- Queues: how many slots there are, which share of them each tier has, and how busy they are.
--
-- The schedule spans tenants, so it is read by functions of rowhouse alone: a tenant learns how long it waits, which is
-- what sharing means, and nothing of who else does. What a request is about is in queue_requests, a tenant table.
-- Depends on: protect.sql, rowhouse.queues. Proven by: test/queues.

select rowhouse.protect_table('rowhouse.queue_requests');

-- Written by functions alone, which do the work of the write guard themselves.
revoke insert, update, delete on rowhouse.queue_requests from rowhouse_app;
drop trigger rowhouse_guard on rowhouse.queue_requests;

do $$
declare
  v_table regclass;
begin
  foreach v_table in array
    array['rowhouse.queues', 'rowhouse.queue_shares', 'rowhouse.queue_tenants', 'rowhouse.queue_tickets']::regclass[]
  loop
    execute format('alter table %s enable row level security, force row level security', v_table);
    execute format('drop policy if exists owner_all on %s', v_table);
    execute format('create policy owner_all on %s for all to rowhouse_owner using (true) with check (true)', v_table);
    execute format('comment on policy owner_all on %s is %L', v_table, 'Only the functions of rowhouse read and write it.');
    execute format('revoke all on %s from public, rowhouse_app, rowhouse_admin', v_table);
  end loop;
end
$$;

-- Operators ------------------------------------------------------------------------------------------------------------

create or replace function rowhouse.define_queue(p_name text, p_slots integer) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  insert into rowhouse.queues (name, slots) values (p_name, p_slots)
    on conflict (name) do update set slots = excluded.slots;
  -- More slots are given out at once.
  perform rowhouse.grant_slots(p_name, rowhouse.open_queue(p_name), null);
exception
  when check_violation or not_null_violation then
    raise exception using errcode = 'RH046', message = 'not a queue',
      hint = 'A queue has a name of lower-case letters, digits, underscores or hyphens, and 0 to 100000 slots.';
end
$$;

comment on function rowhouse.define_queue(text, integer) is
  'Defines a queue, or changes how many slots it has; 0 stops it. With fewer slots than are in use, none is given out until enough came back. Raises RH046.';

create or replace function rowhouse.drop_queue(p_name text) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform from rowhouse.queues q where q.name = p_name for update;
  delete from rowhouse.queue_tickets t where t.queue = p_name;
  delete from rowhouse.queue_tenants t where t.queue = p_name;
  delete from rowhouse.queue_shares s where s.queue = p_name;
  delete from rowhouse.queues q where q.name = p_name;
end
$$;

comment on function rowhouse.drop_queue(text) is
  'Removes a queue with all that wait in it, whose next question is answered with RH045. Slots that are held end.';

create or replace function rowhouse.set_queue_share(
  p_queue text, p_tier text, p_weight double precision default 1, p_max_running integer default null, p_max_waiting integer default 10000
) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  if p_queue <> '*' and not exists (select from rowhouse.queues q where q.name = p_queue) then
    perform rowhouse.raise_no_queue(p_queue);
  end if;
  insert into rowhouse.queue_shares (queue, tier, weight, max_running, max_waiting)
    values (p_queue, p_tier, p_weight, p_max_running, p_max_waiting)
    on conflict (queue, tier) do update
      set weight = excluded.weight, max_running = excluded.max_running, max_waiting = excluded.max_waiting;
exception
  when check_violation or not_null_violation then
    raise exception using errcode = 'RH046', message = 'not a share of a queue',
      hint = 'A weight is 0.001 to 1000, the number of slots at most 1 to 100000 or null, of requests that wait 1 to 1000000; * stands for all queues, or all tiers.';
end
$$;

comment on function rowhouse.set_queue_share(text, text, double precision, integer, integer) is
  'Sets the share of a tier (* for all that have none) in a queue (* likewise); it holds for requests from now on. p_max_running: how many slots a tenant holds at most, besides what its quotas of slots say. Raises RH045, RH046.';

create or replace function rowhouse.queue_load(p_queue text default null)
  returns table (queue text, slots integer, tenant_id text, weight double precision, max_running integer, running integer, waiting integer)
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_queue text;
begin
  for v_queue in select q.name from rowhouse.queues q where p_queue is null or q.name = p_queue order by q.name loop
    perform rowhouse.grant_slots(v_queue, rowhouse.open_queue(v_queue), null);
  end loop;
  return query
    select q.name, q.slots, t.tenant_id, t.weight, t.max_running, t.running, t.waiting
      from rowhouse.queues q
      left join rowhouse.queue_tenants t on t.queue = q.name and (t.waiting > 0 or t.running > 0)
      where p_queue is null or q.name = p_queue
      order by q.name, t.running desc, t.waiting desc, t.tenant_id;
end
$$;

comment on function rowhouse.queue_load(text) is
  'For operators: how busy queues are, one row for each tenant that waits or holds slots; a queue that nobody uses has one row without a tenant. Null: all queues.';

-- Shares ---------------------------------------------------------------------------------------------------------------

create or replace function rowhouse.raise_no_queue(p_queue text) returns void
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception using errcode = 'RH045', message = format('there is no queue "%s"', left(p_queue, 63)),
    hint = 'An operator defines it: select rowhouse.define_queue(''gpu'', 8).';
end
$$;

comment on function rowhouse.raise_no_queue(text) is 'Raises RH045.';

create or replace function rowhouse.queue_share(
  p_tenant text, p_queue text, out weight double precision, out max_running integer, out max_waiting integer
)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tier text;
begin
  select t.tier into v_tier from rowhouse.tenants t where t.tenant_id = p_tenant;
  select s.weight, s.max_running, s.max_waiting into weight, max_running, max_waiting
    from rowhouse.queue_shares s
    where s.queue in (p_queue, '*') and s.tier in (v_tier, '*')
    order by s.queue = '*', s.tier = '*'
    limit 1;
  weight := coalesce(weight, 1);
  max_waiting := coalesce(max_waiting, 10000);
  -- Who holds a slot may want to be admitted: more than the tenant's calls at the same time are of no use to it.
  select least(max_running, floor(min(case when o.name is not null then o.hard_limit when d.name is not null then d.hard_limit else e.hard_limit end)))
    into max_running
    from rowhouse.quotas q
    left join rowhouse.quota_overrides o on o.tenant_id = p_tenant and o.name = q.name
    left join rowhouse.quota_defaults d on d.tier = v_tier and d.name = q.name
    left join rowhouse.quota_defaults e on e.tier = '*' and e.name = q.name
    where q.metric = 'slots';
end
$$;

comment on function rowhouse.queue_share(text, text) is
  'The share of a tenant in a queue: that of its tier there, with at most as many slots as its quotas of slots allow (null: no limit).';

create or replace function rowhouse.queue_utilization(p_queue text default 'default')
  returns table (weight double precision, max_running integer, max_waiting integer, running integer, waiting integer)
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_tenant text := rowhouse.require_tenant();
begin
  if not exists (select from rowhouse.queues q where q.name = p_queue) then
    perform rowhouse.raise_no_queue(p_queue);
  end if;
  return query
    select s.weight, s.max_running, s.max_waiting,
        (count(*) filter (where t.granted_at is not null))::integer, (count(*) filter (where t.ticket is not null and t.granted_at is null))::integer
      from rowhouse.queue_share(v_tenant, p_queue) s
      left join rowhouse.queue_tickets t on t.tenant_id = v_tenant and t.queue = p_queue and t.expires_at > clock_timestamp()
      group by s.weight, s.max_running, s.max_waiting;
end
$$;

comment on function rowhouse.queue_utilization(text) is
  'How the tenant of the transaction stands in a queue: its share, how many slots it holds and how many of its requests wait. Raises RH045.';

-- Tenants that may not work ----------------------------------------------------------------------------------------------

create or replace function rowhouse.leave_queues() returns trigger
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_queue text;
begin
  for v_queue in
    select distinct t.queue from rowhouse.queue_tickets t where t.tenant_id = new.tenant_id
    union select t.queue from rowhouse.queue_tenants t where t.tenant_id = new.tenant_id
    order by 1
  loop
    -- Ends what waits; what is at work keeps its slot for its lease, unless the tenant goes for good.
    perform from rowhouse.queues q where q.name = v_queue for update;
    update rowhouse.queue_tickets t set expires_at = '-infinity'
      where t.tenant_id = new.tenant_id and t.queue = v_queue and (t.granted_at is null or new.status = 'erased');
    perform rowhouse.grant_slots(v_queue, rowhouse.open_queue(v_queue), null);
    if new.status = 'erased' then
      delete from rowhouse.queue_tenants t where t.tenant_id = new.tenant_id and t.queue = v_queue;
    end if;
  end loop;
  return null;
end
$$;

comment on function rowhouse.leave_queues() is
  'Trigger of the registry: requests of a tenant that may not work any more leave the queues; an erasure leaves nothing of it in the schedule.';

-- Not when an erasure begins: it would hold up the queues until it ends. What waits then is not renewed any more.
create or replace trigger rowhouse_leave_queues after update on rowhouse.tenants
  for each row when (new.status <> old.status and new.status in ('suspended', 'inactive', 'moving', 'erased')) execute function rowhouse.leave_queues();

revoke execute on function
  rowhouse.define_queue(text, integer), rowhouse.drop_queue(text),
  rowhouse.set_queue_share(text, text, double precision, integer, integer), rowhouse.queue_load(text),
  rowhouse.raise_no_queue(text), rowhouse.queue_share(text, text), rowhouse.queue_utilization(text), rowhouse.leave_queues()
  from public;
grant execute on function
  rowhouse.define_queue(text, integer), rowhouse.drop_queue(text),
  rowhouse.set_queue_share(text, text, double precision, integer, integer), rowhouse.queue_load(text)
  to rowhouse_admin;
grant execute on function rowhouse.queue_utilization(text) to rowhouse_app;
