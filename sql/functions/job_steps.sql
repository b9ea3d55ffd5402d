-- Steps of jobs: done once, however often the job is begun.
--
-- A step is recorded by the attempt that has the job, and once: whoever comes second gets what the first one recorded.
-- One that is done in a transaction is reserved in it first, so that others wait for its end.
-- Depends on: jobs_work.sql. Proven by: test/jobs.

create or replace function rowhouse.begin_step(
  p_job uuid, p_claim uuid, p_scope text, p_name text, p_reserve boolean default false
) returns table (done boolean, result jsonb)
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_job rowhouse.jobs;
begin
  if p_reserve then
    v_job := rowhouse.hold_claim(p_job, p_claim);
    insert into rowhouse.job_steps as s (tenant_id, run_id, scope, name, job_id, recorded_at)
      values (v_job.tenant_id, v_job.run_id, p_scope, p_name, p_job, clock_timestamp())
      on conflict do nothing;
    if found then
      return query select false, null::jsonb;
      return;
    end if;
  else
    select j.* into v_job from rowhouse.jobs j
      where j.tenant_id = rowhouse.require_tenant() and j.job_id = p_job and j.claim = p_claim;
    if not found then
      v_job := rowhouse.hold_claim(p_job, p_claim);
    end if;
  end if;
  return query
    select true, s.result from rowhouse.job_steps s
      where s.tenant_id = v_job.tenant_id and s.run_id = v_job.run_id and s.scope = p_scope and s.name = p_name;
end
$$;

comment on function rowhouse.begin_step(uuid, uuid, text, text, boolean) is
  'What a step of this job (p_scope: its id) or of its run (p_scope empty) returned when it was done; no row, or done false, when it is to be done now. p_reserve: in this transaction, which others wait for. Raises RH076.';

create or replace function rowhouse.record_step(p_job uuid, p_claim uuid, p_scope text, p_name text, p_result jsonb)
  returns jsonb
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_job rowhouse.jobs := rowhouse.hold_claim(p_job, p_claim);
  v_result jsonb;
begin
  perform rowhouse.raise_problem('RH075', case
    when p_result is null then 'the result of a step is a JSON value, null included, but not nothing'
    when octet_length(p_result::text) > 1048576 then 'the result of a step has at most 1048576 bytes'
    when p_name is null or length(p_name) not between 1 and 200 then 'the name of a step is 1 to 200 characters long'
    when p_scope is null or p_scope not in ('', p_job::text) then 'a step is one of its job or of its run'
  end);
  insert into rowhouse.job_steps as s (tenant_id, run_id, scope, name, job_id, result, recorded_at)
    values (v_job.tenant_id, v_job.run_id, p_scope, p_name, p_job, p_result, clock_timestamp())
    on conflict (tenant_id, run_id, scope, name) do update
      -- Reserved by this transaction; what is recorded stays.
      set result = coalesce(s.result, excluded.result)
    returning s.result into v_result;
  -- A transaction that held the job for long has kept it from being renewed.
  update rowhouse.jobs j set lease_until = clock_timestamp() + j.lease_ms * interval '1 millisecond'
    where j.tenant_id = v_job.tenant_id and j.job_id = v_job.job_id;
  return v_result;
end
$$;

comment on function rowhouse.record_step(uuid, uuid, text, text, jsonb) is
  'Records what a step returned, and returns what is recorded: the first result, whoever else recorded one. Begins the lease anew. Raises RH075, RH076.';

revoke execute on function
  rowhouse.begin_step(uuid, uuid, text, text, boolean), rowhouse.record_step(uuid, uuid, text, text, jsonb)
  from public;
grant execute on function
  rowhouse.begin_step(uuid, uuid, text, text, boolean), rowhouse.record_step(uuid, uuid, text, text, jsonb)
  to rowhouse_app;
