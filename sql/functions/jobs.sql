-- Jobs: make, cancel and sweep the jobs of one tenant, and wake workers up when they are due.
--
-- What is to be done stands here, under row-level security. The tables of a queue library span tenants and have no
-- policies, so all they get is a wake-up: the tenant and a random id for one use, which is looked up as that tenant. A
-- forged wake-up finds no job of the tenant that it names, and a copied one none that is not over. Attempts, leases and
-- retries are kept here as well: the library then has no error to write down, and a suspension costs no attempt.
-- Depends on: protected_tables.sql, context.sql, retention.sql, locks.sql. Proven by: test/jobs.

alter table rowhouse.job_queues enable row level security, force row level security;
drop policy if exists owner_all on rowhouse.job_queues;
create policy owner_all on rowhouse.job_queues for all to rowhouse_owner using (true) with check (true);
comment on policy owner_all on rowhouse.job_queues is 'Only the functions of rowhouse read and write it.';
revoke all on rowhouse.job_queues from public, rowhouse_app, rowhouse_admin;

create or replace function rowhouse.has_wake_ups(p_schema text) returns boolean
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  -- As security definer, and not as rowhouse_owner, who calls it: else the owner of the library would work as that.
  return exists (
    select from pg_proc p
      where p.oid = to_regprocedure(format('%I.rowhouse_wake_ups(text, jsonb, uuid[])', p_schema)) and p.prosecdef
        and p.proowner <> 'rowhouse_owner'::regrole);
end
$$;

comment on function rowhouse.has_wake_ups(text) is
  'Whether a queue library has the function that puts wake-ups, which runs with the rights of its owner and not of its caller.';

create or replace function rowhouse.register_job_queue(p_name text, p_schema text) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  if not rowhouse.has_wake_ups(p_schema) then
    raise exception using errcode = 'RH077', message = format('the schema %I has no function rowhouse_wake_ups that runs as its owner', p_schema);
  end if;
  insert into rowhouse.job_queues (name, schema_name) values (p_name, p_schema)
    on conflict (name) do update set schema_name = excluded.schema_name;
end
$$;

comment on function rowhouse.register_job_queue(text, text) is
  'Makes a queue library known, whose schema has the function rowhouse_wake_ups(tenant text, put jsonb, cancel uuid[]). For the owner of the database. Raises RH077.';

create or replace function rowhouse.send_wake_ups(p_jobs uuid[], p_cancel uuid[] default '{}') returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_queue record;
begin
  -- What is put says the rows of the tenant, not the caller.
  for v_queue in
    select j.queue, q.schema_name,
        jsonb_agg(jsonb_build_object('id', j.wake_id, 'at', coalesce(j.lease_until, j.run_at), 'priority', j.priority))
          filter (where j.wake_id is not null) as put
      from rowhouse.jobs j left join rowhouse.job_queues q on q.name = j.queue
      where j.tenant_id = v_tenant and j.job_id = any (p_jobs)
      group by 1, 2
  loop
    if v_queue.schema_name is null
        or not rowhouse.has_wake_ups(v_queue.schema_name) then
      raise exception using errcode = 'RH077', message = format('the job queue "%s" is not installed', v_queue.queue);
    end if;
    execute format('select %I.rowhouse_wake_ups($1, $2, $3)', v_queue.schema_name)
      using v_tenant, coalesce(v_queue.put, '[]'), p_cancel;
  end loop;
end
$$;

comment on function rowhouse.send_wake_ups(uuid[], uuid[]) is
  'Puts the wake-ups of these jobs of the tenant into their queue libraries, and takes others back. Raises RH077.';

create or replace function rowhouse.enqueue_job(
  p_queue text, p_task text, p_payload jsonb, p_run_at timestamptz default null, p_priority integer default 0,
  p_max_attempts integer default 10, p_job_key text default null, p_replace boolean default true,
  p_parent uuid default null, p_lease_ms integer default 60000
) returns table (tenant_id text, job_id uuid, run_id uuid, created boolean)
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_now timestamptz := clock_timestamp();
  v_run_at timestamptz := coalesce(p_run_at, v_now);
  v_id uuid := gen_random_uuid();
  v_run uuid;
  v_waiting rowhouse.jobs;
begin
  perform rowhouse.raise_problem('RH075', case
    when p_task is null or length(p_task) not between 1 and 200 then 'the name of a task is 1 to 200 characters long'
    when p_payload is null then 'a payload is a JSON value, null included, but not nothing'
    when octet_length(p_payload::text) > 1048576 then 'a payload has at most 1048576 bytes'
    when length(p_job_key) not between 1 and 512 then 'a key is 1 to 512 characters long'
    when p_priority is null or p_priority not between -32767 and 32767 then 'a priority is -32767 to 32767'
    when p_max_attempts is null or p_max_attempts not between 1 and 1000 then 'a job has 1 to 1000 attempts'
    when p_lease_ms is null or p_lease_ms not between 100 and 86400000 then 'a lease is 100 to 86400000 milliseconds long'
    when not isfinite(v_run_at) then 'a job is due at some time'
  end);
  if p_parent is not null then
    select j.run_id into v_run from rowhouse.jobs j where j.tenant_id = v_tenant and j.job_id = p_parent;
    perform rowhouse.raise_problem('RH075', case when v_run is null then 'the job that makes this one does not exist' end);
  end if;
  loop
    insert into rowhouse.jobs as j
        (tenant_id, job_id, run_id, parent_id, queue, task, payload, job_key, priority, max_attempts, run_at, lease_ms, wake_id, user_id, created_at)
      values (v_tenant, v_id, coalesce(v_run, v_id), p_parent, p_queue, p_task, p_payload, p_job_key, p_priority, p_max_attempts,
        v_run_at, p_lease_ms, gen_random_uuid(), nullif(current_setting('app.user_id', true), ''), v_now)
      on conflict do nothing;
    if found then
      perform rowhouse.send_wake_ups(array[v_id]);
      return query select v_tenant, v_id, coalesce(v_run, v_id), true;
      return;
    end if;
    select j.* into v_waiting from rowhouse.jobs j
      where j.tenant_id = v_tenant and j.task = p_task and j.job_key = p_job_key
        and j.status = 'queued' and j.started_at is null
      for no key update;
    -- Begun or cancelled since: it is in nobody's way any more.
    exit when found;
  end loop;
  if p_replace then
    update rowhouse.jobs j
      set payload = p_payload, priority = p_priority, max_attempts = p_max_attempts, run_at = v_run_at, wake_id = gen_random_uuid(),
        queue = p_queue, lease_ms = p_lease_ms, user_id = nullif(current_setting('app.user_id', true), '')
      where j.tenant_id = v_tenant and j.job_id = v_waiting.job_id;
    perform rowhouse.send_wake_ups(array[v_waiting.job_id], array[v_waiting.wake_id]);
  end if;
  return query select v_tenant, v_waiting.job_id, v_waiting.run_id, false;
end
$$;

comment on function rowhouse.enqueue_job(text, text, jsonb, timestamptz, integer, integer, text, boolean, uuid, integer) is
  'Makes a job of the tenant, which workers see when the transaction commits. p_run_at null: now. Where one of the same task and key waits, that one is replaced, or kept, instead. p_parent: the job that makes it, whose run it belongs to. p_lease_ms: after how long a worker that died has lost it. Raises RH075, RH077.';

create or replace function rowhouse.cancel_job(p_job uuid) returns boolean
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_job rowhouse.jobs;
begin
  select j.* into v_job from rowhouse.jobs j
    where j.tenant_id = v_tenant and j.job_id = p_job and j.finished_at is null for no key update;
  if not found then
    return false;
  end if;
  update rowhouse.jobs j
    set status = 'cancelled', finished_at = clock_timestamp(), claim = null, lease_until = null, wake_id = null
    where j.tenant_id = v_tenant and j.job_id = p_job;
  perform rowhouse.send_wake_ups(array[p_job], array[v_job.wake_id]);
  return true;
end
$$;

comment on function rowhouse.cancel_job(uuid) is
  'Cancels a job that is not finished; one that runs has lost its job, and is told when it next renews its lease. Returns whether there was one.';

create or replace function rowhouse.sweep_jobs(p_limit integer default 1000) returns integer
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_cutoff timestamptz := clock_timestamp() - make_interval(days => rowhouse.retention_days('jobs'));
  v_ids uuid[];
  v_deleted integer;
begin
  -- Not while its run goes on, which may still ask for its steps.
  v_ids := array(
    select j.job_id from rowhouse.jobs j
      where j.tenant_id = v_tenant and j.finished_at < v_cutoff and not exists (
        select from rowhouse.jobs o where o.tenant_id = v_tenant and o.run_id = j.run_id and o.finished_at is null)
      limit p_limit for update skip locked);
  delete from rowhouse.jobs j where j.tenant_id = v_tenant and j.job_id = any (v_ids);
  get diagnostics v_deleted = row_count;
  return v_deleted;
end
$$;

comment on function rowhouse.sweep_jobs(integer) is
  'Deletes up to this many finished jobs, with their steps, that were kept as long as retentionDays.jobs in the settings of the tenant says, else its tier; returns how many; fewer when no more are left. Several processes may sweep at once.';

-- Tenants that work again -----------------------------------------------------------------------------------------------

create or replace function rowhouse.wake_resumed_jobs() returns trigger
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_before text[] := rowhouse.work_as(new.tenant_id, false);
  v_due timestamptz := clock_timestamp() + interval '1 minute';
  v_ids uuid[];
begin
  -- Wake-ups that came while the tenant could not work were dropped. Attempts that ended with the tenant don't count.
  update rowhouse.jobs j
    set attempts = greatest(j.attempts - 1, 0)
    where j.tenant_id = new.tenant_id and j.status = 'running' and j.lease_until < clock_timestamp();
  with due as (
    update rowhouse.jobs j
      set wake_id = gen_random_uuid()
      where j.tenant_id = new.tenant_id and j.finished_at is null
        -- The library of another database knows what is due there later; this one does not.
        and (old.status = 'importing' or coalesce(j.lease_until, j.run_at) < v_due)
      returning j.job_id
  )
  select array_agg(d.job_id) into v_ids from due d;
  if v_ids is not null then
    begin
      perform rowhouse.send_wake_ups(v_ids);
    exception
      -- Whatever is wrong with the library must not keep the tenant from working.
      when others then
        raise warning '%', sqlerrm;
    end;
  end if;
  perform rowhouse.end_work(v_before);
  return null;
end
$$;

comment on function rowhouse.wake_resumed_jobs() is
  'Trigger of the registry: workers are woken up for the jobs of a tenant that may work again.';

create or replace trigger rowhouse_wake_jobs after update on rowhouse.tenants
  for each row when (new.status = 'active' and old.status <> 'active') execute function rowhouse.wake_resumed_jobs();

revoke execute on function
  rowhouse.has_wake_ups(text), rowhouse.register_job_queue(text, text), rowhouse.send_wake_ups(uuid[], uuid[]),
  rowhouse.enqueue_job(text, text, jsonb, timestamptz, integer, integer, text, boolean, uuid, integer),
  rowhouse.cancel_job(uuid), rowhouse.sweep_jobs(integer), rowhouse.wake_resumed_jobs()
  from public;
grant execute on function
  rowhouse.send_wake_ups(uuid[], uuid[]),
  rowhouse.enqueue_job(text, text, jsonb, timestamptz, integer, integer, text, boolean, uuid, integer),
  rowhouse.cancel_job(uuid), rowhouse.sweep_jobs(integer)
  to rowhouse_app;
