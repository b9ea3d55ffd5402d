-- Jobs: work that outlives the request that asked for it, and steps that are done once.
-- Depends on: 1_tenants.sql. Policies, privileges and functions: sql/functions/jobs.sql, jobs_work.sql, job_steps.sql.

create table rowhouse.job_queues (
  name text primary key constraint job_queues_name_format check (name ~ '^[a-z][a-z0-9_-]{0,62}$'),
  schema_name text not null
);

comment on table rowhouse.job_queues is
  'Queue libraries that wake workers up when a job is due. Holds no data of tenants.';
comment on column rowhouse.job_queues.name is 'The library, such as graphile-worker.';
comment on column rowhouse.job_queues.schema_name is 'Its schema, in which the function rowhouse_wake_ups was installed.';

create table rowhouse.jobs (
  tenant_id text not null,
  job_id uuid not null,
  run_id uuid not null,
  parent_id uuid,
  queue text not null,
  task text not null constraint jobs_task_length check (length(task) between 1 and 200),
  payload jsonb not null constraint jobs_payload_size check (octet_length(payload::text) <= 1048576),
  job_key text constraint jobs_key_length check (length(job_key) between 1 and 512),
  priority integer not null default 0 constraint jobs_priority_range check (priority between -32767 and 32767),
  status text not null default 'queued'
    constraint jobs_status_known check (status in ('queued', 'running', 'done', 'failed', 'cancelled')),
  attempts integer not null default 0,
  max_attempts integer not null default 10 constraint jobs_max_attempts_range check (max_attempts between 1 and 1000),
  run_at timestamptz not null,
  wake_id uuid,
  claim uuid,
  lease_ms integer not null default 60000 constraint jobs_lease_range check (lease_ms between 100 and 86400000),
  lease_until timestamptz,
  user_id text,
  last_error text,
  created_at timestamptz not null,
  started_at timestamptz,
  finished_at timestamptz,
  primary key (tenant_id, job_id),
  constraint jobs_finished check ((finished_at is null) = (status in ('queued', 'running')))
);

create unique index jobs_waiting_key on rowhouse.jobs (tenant_id, task, job_key)
  where job_key is not null and status = 'queued' and started_at is null;
create unique index jobs_wake_id on rowhouse.jobs (tenant_id, wake_id);
create index jobs_by_run on rowhouse.jobs (tenant_id, run_id);
create index jobs_unfinished on rowhouse.jobs (tenant_id, run_at) where finished_at is null;
create index jobs_finished_at on rowhouse.jobs (tenant_id, finished_at) where finished_at is not null;

comment on table rowhouse.jobs is
  'Jobs of tenants. The queue library that wakes workers up knows none of this: neither payload nor error leaves the table.';
comment on column rowhouse.jobs.tenant_id is 'The tenant that the job works for.';
comment on column rowhouse.jobs.job_id is 'Random.';
comment on column rowhouse.jobs.run_id is 'The run that it belongs to: that of the job which made it, or its own.';
comment on column rowhouse.jobs.parent_id is 'The job that made it, if any.';
comment on column rowhouse.jobs.queue is 'The queue library that wakes workers up for it.';
comment on column rowhouse.jobs.task is 'What is to be done, as the application names it.';
comment on column rowhouse.jobs.payload is 'Any JSON value.';
comment on column rowhouse.jobs.job_key is 'Of jobs with the same task and key, one waits at a time; of each tenant for itself.';
comment on column rowhouse.jobs.priority is 'Higher is sooner, among jobs that are due.';
comment on column rowhouse.jobs.status is 'queued, running, done, failed or cancelled.';
comment on column rowhouse.jobs.attempts is 'How often it was begun; not counting attempts that were given back.';
comment on column rowhouse.jobs.max_attempts is 'How often it is begun at most.';
comment on column rowhouse.jobs.run_at is 'When it is due.';
comment on column rowhouse.jobs.wake_id is
  'The wake-up in the queue library that stands for it: random, for one use. Null when none is to come.';
comment on column rowhouse.jobs.claim is 'The attempt that runs; who has another one has lost the job.';
comment on column rowhouse.jobs.lease_ms is 'For how many milliseconds an attempt holds the job without renewing it.';
comment on column rowhouse.jobs.lease_until is 'When the attempt that runs counts as lost unless it renews its lease.';
comment on column rowhouse.jobs.user_id is 'The user that the transaction which made it ran for, if any.';
comment on column rowhouse.jobs.last_error is 'The code of the error that ended the latest attempt that failed.';
comment on column rowhouse.jobs.created_at is 'When it was made.';
comment on column rowhouse.jobs.started_at is 'When it was first begun.';
comment on column rowhouse.jobs.finished_at is 'When it was done, failed for good or was cancelled.';
comment on index rowhouse.jobs_waiting_key is 'One job of a key that has not begun.';
comment on index rowhouse.jobs_wake_id is 'Finds the job that a wake-up is for.';
comment on index rowhouse.jobs_by_run is 'Finds the jobs of a run.';
comment on index rowhouse.jobs_unfinished is 'Finds the jobs that a resumed tenant goes on with.';
comment on index rowhouse.jobs_finished_at is 'Finds jobs that were kept long enough.';

create table rowhouse.job_steps (
  tenant_id text not null,
  run_id uuid not null,
  scope text not null,
  name text collate "C" not null constraint job_steps_name_length check (length(name) between 1 and 200),
  job_id uuid not null,
  result jsonb constraint job_steps_result_size check (octet_length(result::text) <= 1048576),
  recorded_at timestamptz not null,
  primary key (tenant_id, run_id, scope, name),
  foreign key (tenant_id, job_id) references rowhouse.jobs on delete cascade
);

create index job_steps_by_job on rowhouse.job_steps (tenant_id, job_id);

comment on table rowhouse.job_steps is 'Steps that are done, with their results: an attempt that comes later leaves them out.';
comment on column rowhouse.job_steps.tenant_id is 'The tenant of the run.';
comment on column rowhouse.job_steps.run_id is 'The run that the step belongs to.';
comment on column rowhouse.job_steps.scope is 'The job that the step is one of, or empty: of the run as a whole.';
comment on column rowhouse.job_steps.name is 'As the application names it; compared byte by byte.';
comment on column rowhouse.job_steps.job_id is 'The job that did it.';
comment on column rowhouse.job_steps.result is 'What it returned, a JSON value. Null inside the transaction that does the step only.';
comment on column rowhouse.job_steps.recorded_at is 'When it was recorded.';
comment on index rowhouse.job_steps_by_job is 'Finds the steps of a job that is swept.';
