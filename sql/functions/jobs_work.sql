-- Work on jobs: claim the job of a wake-up, keep it, and end the attempt.
--
-- A claim puts the next wake-up for the time at which its lease ends, so a worker that dies is noticed then, whatever
-- the queue library does. Who was overtaken has another claim than the row, and can record nothing any more.
-- Depends on: jobs.sql. Proven by: test/jobs.

create or replace function rowhouse.claim_job(p_wake_id uuid) returns setof rowhouse.jobs
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_now timestamptz;
  v_job rowhouse.jobs;
begin
  select j.* into v_job from rowhouse.jobs j
    where j.tenant_id = v_tenant and j.wake_id = p_wake_id and j.finished_at is null for no key update;
  if not found then
    return;
  end if;
  v_now := clock_timestamp();
  if coalesce(v_job.lease_until, v_job.run_at) > v_now then
    -- It came early, by the clock of somebody else, or the lease was renewed meanwhile.
    update rowhouse.jobs j
      set wake_id = gen_random_uuid(),
        run_at = case when j.status = 'queued' then greatest(j.run_at, v_now + interval '1 second') else j.run_at end
      where j.tenant_id = v_tenant and j.job_id = v_job.job_id;
    perform rowhouse.send_wake_ups(array[v_job.job_id]);
  elsif v_job.attempts >= v_job.max_attempts then
    update rowhouse.jobs j
      set status = 'failed', finished_at = v_now, claim = null, lease_until = null, wake_id = null, last_error = 'job_lost'
      where j.tenant_id = v_tenant and j.job_id = v_job.job_id;
  else
    update rowhouse.jobs j
      set status = 'running', attempts = j.attempts + 1, claim = gen_random_uuid(), lease_until = v_now + j.lease_ms * interval '1 millisecond',
        wake_id = gen_random_uuid(), started_at = coalesce(j.started_at, v_now)
      where j.tenant_id = v_tenant and j.job_id = v_job.job_id
      returning j.* into v_job;
    perform rowhouse.send_wake_ups(array[v_job.job_id]);
    return next v_job;
  end if;
end
$$;

comment on function rowhouse.claim_job(uuid) is
  'Begins an attempt at the job that this wake-up of the tenant is for, with a lease that is to be renewed. No row: there is nothing to do.';

create or replace function rowhouse.hold_claim(p_job uuid, p_claim uuid) returns rowhouse.jobs
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_tenant text := rowhouse.require_tenant();
  v_job rowhouse.jobs;
begin
  select j.* into v_job from rowhouse.jobs j
    where j.tenant_id = v_tenant and j.job_id = p_job and j.claim = p_claim for no key update;
  if not found then
    raise exception using errcode = 'RH076', message = 'the job was cancelled, or another attempt has begun';
  end if;
  return v_job;
end
$$;

comment on function rowhouse.hold_claim(uuid, uuid) is
  'Locks a job that this attempt still has, so that no other begins before the transaction ends. Raises RH076.';

create or replace function rowhouse.renew_job(p_job uuid, p_claim uuid) returns timestamptz
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_job rowhouse.jobs := rowhouse.hold_claim(p_job, p_claim);
begin
  update rowhouse.jobs j set lease_until = clock_timestamp() + j.lease_ms * interval '1 millisecond'
    where j.tenant_id = v_job.tenant_id and j.job_id = v_job.job_id
    returning j.lease_until into v_job.lease_until;
  return v_job.lease_until;
end
$$;

comment on function rowhouse.renew_job(uuid, uuid) is 'Begins the lease of an attempt anew. Raises RH076.';

create or replace function rowhouse.finish_job(p_job uuid, p_claim uuid) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_job rowhouse.jobs := rowhouse.hold_claim(p_job, p_claim);
begin
  update rowhouse.jobs j
    set status = 'done', finished_at = clock_timestamp(), claim = null, lease_until = null, wake_id = null
    where j.tenant_id = v_job.tenant_id and j.job_id = v_job.job_id;
  perform rowhouse.send_wake_ups(array[p_job], array[v_job.wake_id]);
end
$$;

comment on function rowhouse.finish_job(uuid, uuid) is 'Records that a job is done. Raises RH076.';

create or replace function rowhouse.fail_job(
  p_job uuid, p_claim uuid, p_error text, p_retry_after interval, p_counts boolean default true
) returns text
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_job rowhouse.jobs := rowhouse.hold_claim(p_job, p_claim);
  v_again boolean := p_retry_after is not null and (not p_counts or v_job.attempts < v_job.max_attempts);
  v_now timestamptz := clock_timestamp();
begin
  update rowhouse.jobs j
    set status = case when v_again then 'queued' else 'failed' end, claim = null, lease_until = null,
      attempts = case when p_counts then j.attempts else j.attempts - 1 end, last_error = left(p_error, 200),
      run_at = case when v_again then v_now + p_retry_after else j.run_at end,
      wake_id = case when v_again then gen_random_uuid() end, finished_at = case when not v_again then v_now end
    where j.tenant_id = v_job.tenant_id and j.job_id = v_job.job_id
    returning j.status into v_job.status;
  perform rowhouse.send_wake_ups(array[p_job], array[v_job.wake_id]);
  return v_job.status;
end
$$;

comment on function rowhouse.fail_job(uuid, uuid, text, interval, boolean) is
  'Ends an attempt without success: the job is queued again after this time, or fails for good when it is null or no attempts are left. p_counts false: the attempt is given back. Returns the new status. Raises RH076.';

revoke execute on function
  rowhouse.claim_job(uuid), rowhouse.hold_claim(uuid, uuid), rowhouse.renew_job(uuid, uuid),
  rowhouse.finish_job(uuid, uuid), rowhouse.fail_job(uuid, uuid, text, interval, boolean)
  from public;
grant execute on function
  rowhouse.claim_job(uuid), rowhouse.hold_claim(uuid, uuid), rowhouse.renew_job(uuid, uuid),
  rowhouse.finish_job(uuid, uuid), rowhouse.fail_job(uuid, uuid, text, interval, boolean)
  to rowhouse_app;
