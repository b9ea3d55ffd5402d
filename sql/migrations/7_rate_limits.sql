-- Rate limits: what a tenant may do, and counters of what it did.
-- Depends on: 1_tenants.sql. Policies, privileges and functions: sql/functions/rate_limits.sql.

create table rowhouse.rate_limit_defaults (
  tier text not null constraint rate_limit_defaults_tier_format check (tier ~ '^([a-z][a-z0-9_-]{0,31}|\*)$'),
  name text not null constraint rate_limit_defaults_name_format check (name ~ '^[a-z][a-z0-9_.-]{0,62}$'),
  limits bigint[] not null,
  lengths bigint[] not null,
  bursts bigint[] not null,
  primary key (tier, name)
);

comment on table rowhouse.rate_limit_defaults is
  'Rate limits of each tier, for tenants that have none of their own. Holds no data of tenants.';
comment on column rowhouse.rate_limit_defaults.tier is 'The tier of the tenant; * stands for tiers that have no row of this name.';
comment on column rowhouse.rate_limit_defaults.name is 'Name of the limit, such as requests.';
comment on column rowhouse.rate_limit_defaults.limits is 'What each window admits; all windows hold at once.';
comment on column rowhouse.rate_limit_defaults.lengths is
  'Length of each window in ms, ascending. Negative: the algorithm is gcra, otherwise a sliding window.';
comment on column rowhouse.rate_limit_defaults.bursts is 'What each window admits at once; of a sliding window its limit.';

insert into rowhouse.rate_limit_defaults (tier, name, limits, lengths, bursts) values
  ('*', 'requests', '{60,1000}', '{60000,86400000}', '{60,1000}'),
  ('free', 'requests', '{60,1000}', '{60000,86400000}', '{60,1000}'),
  ('starter', 'requests', '{300,20000}', '{60000,86400000}', '{300,20000}'),
  ('professional', 'requests', '{1500,200000}', '{60000,86400000}', '{1500,200000}'),
  ('enterprise', 'requests', '{10000,5000000}', '{60000,86400000}', '{10000,5000000}');

create table rowhouse.rate_limit_overrides (
  tenant_id text not null,
  name text not null constraint rate_limit_overrides_name_format check (name ~ '^[a-z][a-z0-9_.-]{0,62}$'),
  limits bigint[] not null,
  lengths bigint[] not null,
  bursts bigint[] not null,
  updated_at timestamptz not null default now(),
  primary key (tenant_id, name)
);

comment on table rowhouse.rate_limit_overrides is 'Rate limits of single tenants, in place of those of their tier.';
comment on column rowhouse.rate_limit_overrides.tenant_id is 'The tenant.';
comment on column rowhouse.rate_limit_overrides.name is 'Name of the limit, such as requests.';
comment on column rowhouse.rate_limit_overrides.limits is 'As in rate_limit_defaults.';
comment on column rowhouse.rate_limit_overrides.lengths is 'As in rate_limit_defaults.';
comment on column rowhouse.rate_limit_overrides.bursts is 'As in rate_limit_defaults.';
comment on column rowhouse.rate_limit_overrides.updated_at is 'When an operator last set it.';

-- Unlogged: a crash of the server empties it, and every limit starts anew. Not partitioned: its rows live as long as a
-- window, and a statement that is run thousands of times a second should not look at seventeen partitions.
-- The columns that change are in no index and pages are half empty, so that an update stays on its page and leaves the
-- indexes alone. Rows stay in their page uncompressed up to 8 kB.
create unlogged table rowhouse.rate_limit_counters (
  tenant_id text not null,
  name text not null,
  -- At most 200 characters, which its one writer checks: a constraint would be read anew with every update.
  subject text not null,
  state bigint[] not null,
  sweep_at timestamptz not null,
  primary key (tenant_id, name, subject)
) with (fillfactor = 50, toast_tuple_target = 8160, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 1);

-- As reservations_expiry.
create index rate_limit_counters_sweep on rowhouse.rate_limit_counters (tenant_id, sweep_at) where sweep_at is not null;

comment on table rowhouse.rate_limit_counters is
  'What was admitted lately: one row for each tenant, limit and subject. Written by rowhouse.take_rate_limit alone.';
comment on column rowhouse.rate_limit_counters.tenant_id is 'The tenant.';
comment on column rowhouse.rate_limit_counters.name is
  'Name of the limit; empty for calls that bring their own windows.';
comment on column rowhouse.rate_limit_counters.subject is
  'Whom or what the limit counts for: a user, a key, a route. Empty: the tenant as a whole.';
comment on column rowhouse.rate_limit_counters.state is
  'The time of the last decision in microseconds, then for each window: its length in ms (negative: gcra), the cost inside it, the number of entries, and each entry as time and cost. Of gcra one entry, the time in nanoseconds when its allowance is whole again.';
comment on column rowhouse.rate_limit_counters.sweep_at is
  'From then on the row counts nothing. Rounded up to a full hour, so that the index on it seldom changes.';
