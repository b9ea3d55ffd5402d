-- Quotas and budgets: how much of something a tenant may use in a period, and counters of what it did use.
-- A budget is a quota of the metric money. Depends on: 1_tenants.sql. Policies, privileges and functions:
-- sql/functions/quotas.sql.

create table rowhouse.quotas (
  name text primary key constraint quotas_name_format check (name ~ '^[a-z][a-z0-9_]{0,62}$'),
  metric text not null constraint quotas_metric_format check (metric ~ '^[a-z][a-z0-9_]{0,62}$'),
  period text not null
    constraint quotas_period_known check (period in ('request', 'hour', 'day', 'week', 'month', 'year', 'total', 'rolling')),
  window_ms bigint constraint quotas_window_range check (window_ms between 1000 and 31622400000),
  constraint quotas_window_matches check ((period = 'rolling') = (window_ms is not null))
);

comment on table rowhouse.quotas is 'What is counted, and for how long. Holds no data of tenants.';
comment on column rowhouse.quotas.name is 'Name of the quota, such as tokens_per_day.';
comment on column rowhouse.quotas.metric is
  'What it counts: requests, tokens, money, slots (calls at work at the same time), a unit of a price such as output_tokens, or a name of the application''s own such as documents.';
comment on column rowhouse.quotas.period is
  'hour to year: of the calendar, in the time zone of the tenant. total: never starts anew (stored bytes, seats, slots). request: the amount of a single request. rolling: any period of window_ms.';
comment on column rowhouse.quotas.window_ms is
  'Length of a rolling period. It is counted in sixtieths, so an amount counts up to a sixtieth longer than it must, never shorter.';

create table rowhouse.quota_defaults (
  tier text not null constraint quota_defaults_tier_format check (tier ~ '^([a-z][a-z0-9_-]{0,31}|\*)$'),
  name text not null references rowhouse.quotas on delete cascade,
  hard_limit numeric constraint quota_defaults_hard_limit_range check (hard_limit between 0 and 1000000000000000),
  soft_limit numeric constraint quota_defaults_soft_limit_range check (soft_limit between 0 and 1000000000000000),
  primary key (tier, name)
);

comment on table rowhouse.quota_defaults is
  'Limits of each tier, for tenants that have none of their own. Holds no data of tenants.';
comment on column rowhouse.quota_defaults.tier is 'The tier of the tenant; * stands for tiers that have no row of this name.';
comment on column rowhouse.quota_defaults.name is 'The quota.';
comment on column rowhouse.quota_defaults.hard_limit is 'What is used and reserved never passes it. Null: unlimited.';
comment on column rowhouse.quota_defaults.soft_limit is 'Using it up is noted once in a period (rolling: in a window). Null: nothing is noted.';

insert into rowhouse.quotas (name, metric, period) values
  ('concurrency', 'slots', 'total'),
  ('tokens_per_day', 'tokens', 'day'),
  ('tokens_per_month', 'tokens', 'month'),
  ('money_per_month', 'money', 'month'),
  -- Without limits until somebody sets them.
  ('requests_per_day', 'requests', 'day'),
  ('requests_per_month', 'requests', 'month'),
  ('documents', 'documents', 'total'),
  ('seats', 'seats', 'total'),
  ('stored_bytes', 'stored_bytes', 'total');

insert into rowhouse.quota_defaults (tier, name, hard_limit, soft_limit)
  select t.tier, q.name, q.hard_limit, case when q.name <> 'concurrency' then q.hard_limit * 0.8 end
    from (values
        ('*', 4, 100000, 1000000, 5),
        ('free', 4, 100000, 1000000, 5),
        ('starter', 16, 2000000, 30000000, 100),
        ('professional', 64, 20000000, 300000000, 2000),
        ('enterprise', 512, 500000000, 10000000000, 50000)) t (tier, slots, daily, monthly, money)
    cross join lateral (values
        ('concurrency', t.slots::numeric), ('tokens_per_day', t.daily), ('tokens_per_month', t.monthly),
        ('money_per_month', t.money)) q (name, hard_limit)
  on conflict (tier, name) do nothing;

create table rowhouse.tier_models (
  tier text primary key constraint tier_models_tier_format check (tier ~ '^([a-z][a-z0-9_-]{0,31}|\*)$'),
  models text[] not null
);

comment on table rowhouse.tier_models is
  'Models that tenants of a tier may use; a tier without a row may use every model that has a price. Holds no data of tenants.';
comment on column rowhouse.tier_models.tier is 'The tier of the tenant; * stands for tiers that have no row.';
comment on column rowhouse.tier_models.models is 'Names of models.';

create table rowhouse.quota_overrides (
  tenant_id text not null,
  name text not null references rowhouse.quotas on delete restrict,
  hard_limit numeric constraint quota_overrides_hard_limit_range check (hard_limit between 0 and 1000000000000000),
  soft_limit numeric constraint quota_overrides_soft_limit_range check (soft_limit between 0 and 1000000000000000),
  updated_at timestamptz not null default now(),
  primary key (tenant_id, name)
);

comment on table rowhouse.quota_overrides is 'Limits of single tenants, in place of those of their tier.';
comment on column rowhouse.quota_overrides.tenant_id is 'The tenant.';
comment on column rowhouse.quota_overrides.name is 'The quota.';
comment on column rowhouse.quota_overrides.hard_limit is 'As in quota_defaults.';
comment on column rowhouse.quota_overrides.soft_limit is 'As in quota_defaults.';
comment on column rowhouse.quota_overrides.updated_at is 'When an operator last set it.';

create table rowhouse.limits_revision (
  singleton boolean primary key default true constraint limits_revision_singleton check (singleton),
  revision uuid not null default gen_random_uuid()
);

comment on table rowhouse.limits_revision is
  'One row: which state the limits of tiers are in, so that an account knows whether its terms are of it. Holds no data of tenants.';
comment on column rowhouse.limits_revision.singleton is 'Always true: there is one row.';
comment on column rowhouse.limits_revision.revision is 'Another one with every change of quotas, models or circuits of tiers.';

insert into rowhouse.limits_revision default values;

create type rowhouse.account_terms as (
  revision uuid,
  tier text,
  valid_from timestamptz,
  valid_until timestamptz,
  names text[],
  metrics text[],
  period_starts timestamptz[],
  counted_from timestamptz[],
  windows bigint[],
  hard_limits numeric[],
  soft_limits numeric[],
  request_metrics text[],
  request_limits numeric[],
  models text[],
  has_circuit_rule boolean
);

comment on type rowhouse.account_terms is
  'What limits a tenant until a period ends, side by side: the quotas that hold for it, those of the period request apart. revision and tier: what it was put together from.';

create table rowhouse.accounts (
  tenant_id text primary key,
  currency text not null default 'USD' constraint accounts_currency_format check (currency ~ '^[A-Z]{3}$'),
  time_zone text not null default 'UTC' constraint accounts_time_zone_length check (length(time_zone) between 1 and 64),
  models text[],
  terms rowhouse.account_terms,
  has_open_circuit boolean not null default false,
  rolled_up_to timestamptz not null default '-infinity',
  events_from timestamptz not null default '-infinity'
) with (fillfactor = 50);

comment on table rowhouse.accounts is
  'How a tenant is billed. Its row is the lock of all counters and reservations of the tenant: whoever changes them holds it, so none of them is ever waited for in another order.';
comment on column rowhouse.accounts.tenant_id is 'The tenant.';
comment on column rowhouse.accounts.currency is 'ISO 4217 code of its prices and budgets.';
comment on column rowhouse.accounts.time_zone is 'Name of the zone in which its hours, days and months begin.';
comment on column rowhouse.accounts.models is 'Models that it may use, in place of those of its tier.';
comment on column rowhouse.accounts.terms is
  'What limits it, put together from the limits of its tier and its own, so that no call has to; see rowhouse.renew_terms. Null: to be put together.';
comment on column rowhouse.accounts.has_open_circuit is 'Whether one of its circuits is not closed; rowhouse.circuits says which.';
comment on column rowhouse.accounts.rolled_up_to is 'Usage that was recorded until then is in usage_rollups.';

comment on column rowhouse.accounts.events_from is
  'Usage events that occurred before were deleted by retention; usage_rollups has what they added up to.';

create type rowhouse.locked_account as (
  tenant text,
  tier text,
  currency text,
  time_zone text,
  models text[],
  terms rowhouse.account_terms,
  has_open_circuit boolean,
  opened_at timestamptz
);

comment on type rowhouse.locked_account is 'An account that a transaction holds, as rowhouse.lock_account returns it.';

-- A domain: what a CHECK of a table says is read anew by every statement that writes it, which took a tenth of the time
-- of an admission.
create domain rowhouse.amount as numeric constraint amount_positive check (value >= 0);

comment on domain rowhouse.amount is 'An amount of what a quota counts: a number from 0.';

-- Logged and durable: money. The columns that change are in no index, so an update stays on its page.
create table rowhouse.quota_counters (
  tenant_id text not null,
  name text not null,
  period_start timestamptz not null,
  allowance numeric,
  settled rowhouse.amount not null default 0,
  reserved rowhouse.amount not null default 0,
  overrun rowhouse.amount not null default 0,
  archived numeric not null default 0,
  primary key (tenant_id, name, period_start),
  constraint quota_counters_within_allowance check (settled + reserved <= allowance)
) with (fillfactor = 50);

comment on table rowhouse.quota_counters is
  'What a tenant used of a quota in a period: one row for each period, of a rolling quota for each sixtieth of its length.';
comment on column rowhouse.quota_counters.tenant_id is 'The tenant.';
comment on column rowhouse.quota_counters.name is 'The quota.';
comment on column rowhouse.quota_counters.period_start is 'When the period began; 1970 for a quota that never starts anew.';
comment on column rowhouse.quota_counters.allowance is
  'The limit as it was when something was last admitted; null: none. Settled and reserved together never pass it.';
comment on column rowhouse.quota_counters.settled is 'What was used.';
comment on column rowhouse.quota_counters.reserved is 'What calls at work may still use.';
comment on column rowhouse.quota_counters.overrun is
  'What was used beyond the allowance: by calls that used more than they had reserved, or that settled after their lease. Nothing is admitted while it is there.';

comment on column rowhouse.quota_counters.archived is
  'What of it was used by events that the retention of usage has deleted since.';

create table rowhouse.quota_events (
  tenant_id text not null,
  name text not null,
  period_start timestamptz not null,
  used numeric not null,
  soft_limit numeric not null,
  crossed_at timestamptz not null,
  primary key (tenant_id, name, period_start, soft_limit)
);

comment on table rowhouse.quota_events is
  'When a tenant used up the soft limit of a quota; once for each period (rolling: window) and soft limit. Kept for 400 days.';
comment on column rowhouse.quota_events.tenant_id is 'The tenant.';
comment on column rowhouse.quota_events.name is 'The quota.';
comment on column rowhouse.quota_events.period_start is 'When the period began.';
comment on column rowhouse.quota_events.used is 'What was used by then.';
comment on column rowhouse.quota_events.soft_limit is 'The limit that it passed.';
comment on column rowhouse.quota_events.crossed_at is 'When.';
