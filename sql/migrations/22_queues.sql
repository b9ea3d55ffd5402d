-- Queues: named pools of slots that tenants share, and the requests that wait for one.
-- Depends on: 1_tenants.sql. Policies, privileges and functions: sql/functions/queues.sql, queue_tickets.sql.

create table rowhouse.queues (
  name text primary key constraint queues_name_format check (name ~ '^[a-z][a-z0-9_-]{0,62}$'),
  slots integer not null constraint queues_slots_range check (slots between 0 and 100000),
  busy integer not null default 0 constraint queues_busy_positive check (busy >= 0),
  serial bigint not null default 0,
  virtual_time double precision not null default 0,
  mean_service_ms double precision
) with (fillfactor = 50);

comment on table rowhouse.queues is
  'Queues for slots that all tenants share. The row is the lock of everything that is decided about its queue.';
comment on column rowhouse.queues.name is 'Its name, such as gpu.';
comment on column rowhouse.queues.slots is 'How many requests hold a slot at the same time.';
comment on column rowhouse.queues.busy is 'How many do now.';
comment on column rowhouse.queues.serial is 'Counts requests and turns, to tell which came first.';
comment on column rowhouse.queues.virtual_time is
  'The start of the request that got the latest slot, on a scale on which each tenant moves on by cost / weight.';
comment on column rowhouse.queues.mean_service_ms is 'How long slots were held lately, on average; null: not known yet.';

insert into rowhouse.queues (name, slots) values ('default', 64);

create table rowhouse.queue_shares (
  queue text not null constraint queue_shares_queue_format check (queue ~ '^([a-z][a-z0-9_-]{0,62}|\*)$'),
  tier text not null constraint queue_shares_tier_format check (tier ~ '^([a-z][a-z0-9_-]{0,31}|\*)$'),
  weight double precision not null constraint queue_shares_weight_range check (weight between 0.001 and 1000),
  max_running integer constraint queue_shares_max_running_range check (max_running between 1 and 100000),
  max_waiting integer not null constraint queue_shares_max_waiting_range check (max_waiting between 1 and 1000000),
  primary key (queue, tier)
);

comment on table rowhouse.queue_shares is 'Shares of tiers in queues. Holds no data of tenants.';
comment on column rowhouse.queue_shares.queue is 'The queue; * stands for queues that have no row for the tier.';
comment on column rowhouse.queue_shares.tier is 'The tier of the tenant; * stands for tiers that have no row.';
comment on column rowhouse.queue_shares.weight is
  'While all slots are busy, tenants that wait get them in proportion to this.';
comment on column rowhouse.queue_shares.max_running is
  'How many slots a tenant holds at the same time; null: as many as its quotas of slots allow.';
comment on column rowhouse.queue_shares.max_waiting is 'How many requests of a tenant wait at the same time.';

insert into rowhouse.queue_shares (queue, tier, weight, max_waiting) values
  ('*', '*', 1, 10000),
  ('*', 'free', 1, 1000),
  ('*', 'starter', 2, 10000),
  ('*', 'professional', 4, 10000),
  ('*', 'enterprise', 8, 100000);

-- What follows is the schedule, which spans tenants: only functions of rowhouse read it.

create table rowhouse.queue_tenants (
  queue text not null,
  tenant_id text not null,
  weight double precision not null,
  max_running integer,
  next_start double precision not null,
  turn bigint not null,
  waiting integer not null default 0 constraint queue_tenants_waiting_positive check (waiting >= 0),
  waiting_cost double precision not null default 0,
  running integer not null default 0 constraint queue_tenants_running_positive check (running >= 0),
  primary key (queue, tenant_id)
) with (fillfactor = 50);

create index queue_tenants_next on rowhouse.queue_tenants (queue, next_start, turn) where waiting > 0;

comment on table rowhouse.queue_tenants is
  'How the tenants of a queue stand to each other. No tenant reads it; a row goes when the tenant neither waits nor is ahead of others.';
comment on column rowhouse.queue_tenants.queue is 'The queue.';
comment on column rowhouse.queue_tenants.tenant_id is 'The tenant.';
comment on column rowhouse.queue_tenants.weight is 'Its share, as of its latest request.';
comment on column rowhouse.queue_tenants.max_running is 'How many slots it holds at most, as of its latest request; null: no limit.';
comment on column rowhouse.queue_tenants.next_start is 'Virtual time at which its next request starts. The smallest one is next.';
comment on column rowhouse.queue_tenants.turn is 'Among equal ones, the smallest is next.';
comment on column rowhouse.queue_tenants.waiting is 'How many of its requests wait.';
comment on column rowhouse.queue_tenants.waiting_cost is 'What they cost in all.';
comment on column rowhouse.queue_tenants.running is 'How many slots it holds.';

create table rowhouse.queue_tickets (
  tenant_id text not null,
  ticket uuid not null,
  queue text not null,
  serial bigint not null,
  cost double precision not null,
  keep_ms integer not null,
  lease_ms integer not null,
  deadline_at timestamptz not null,
  expires_at timestamptz not null,
  granted_at timestamptz,
  primary key (tenant_id, ticket)
) with (fillfactor = 70);

create index queue_tickets_waiting on rowhouse.queue_tickets (queue, tenant_id, serial) where granted_at is null;
-- As reservations_expiry.
create index queue_tickets_expiry on rowhouse.queue_tickets (queue, expires_at) where expires_at is not null;

comment on table rowhouse.queue_tickets is
  'Requests that wait or hold a slot, as far as others have to know of them: numbers alone. No tenant reads it.';
comment on column rowhouse.queue_tickets.tenant_id is 'The tenant.';
comment on column rowhouse.queue_tickets.ticket is 'Id of the request.';
comment on column rowhouse.queue_tickets.queue is 'The queue.';
comment on column rowhouse.queue_tickets.serial is 'Which one came first.';
comment on column rowhouse.queue_tickets.cost is 'How much of its share the tenant uses for it.';
comment on column rowhouse.queue_tickets.keep_ms is 'How long it keeps its place without being renewed.';
comment on column rowhouse.queue_tickets.lease_ms is 'How long it holds its slot without being renewed.';
comment on column rowhouse.queue_tickets.deadline_at is 'Until when it waits.';
comment on column rowhouse.queue_tickets.expires_at is 'When it goes unless it is renewed: its place, or its slot.';
comment on column rowhouse.queue_tickets.granted_at is 'When it got its slot; null: it waits.';

create table rowhouse.queue_requests (
  tenant_id text not null,
  ticket uuid not null,
  queue text not null,
  cost double precision not null,
  user_id text,
  request_id text,
  enqueued_at timestamptz not null,
  deadline_at timestamptz not null,
  primary key (tenant_id, ticket)
);

comment on table rowhouse.queue_requests is 'Requests of a tenant in queues: those that wait, and those at work.';
comment on column rowhouse.queue_requests.tenant_id is 'The tenant.';
comment on column rowhouse.queue_requests.ticket is 'Id of the request, chosen by the caller.';
comment on column rowhouse.queue_requests.queue is 'The queue.';
comment on column rowhouse.queue_requests.cost is 'How much of the share of the tenant it uses.';
comment on column rowhouse.queue_requests.user_id is 'The user of the transaction that made it.';
comment on column rowhouse.queue_requests.request_id is 'The request id of that transaction.';
comment on column rowhouse.queue_requests.enqueued_at is 'When.';
comment on column rowhouse.queue_requests.deadline_at is 'Until when it waits for a slot.';
