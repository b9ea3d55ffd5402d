-- Usage: what tenants used and what it cost, one row for each settlement.
-- Depends on: 10_reservations.sql. Policies, privileges and functions: sql/functions/usage.sql.

-- Domains, as rowhouse.amount.
create domain rowhouse.usage_part as text constraint usage_part_length check (length(value) <= 64);
create domain rowhouse.usage_kind as text constraint usage_kind_format check (value ~ '^[a-z][a-z0-9_]{0,62}$');
create domain rowhouse.usage_provider as text constraint usage_provider_length check (length(value) <= 200);
create domain rowhouse.latency_ms as integer constraint latency_ms_positive check (value >= 0);
create domain rowhouse.json_object as jsonb constraint json_object_type check (jsonb_typeof(value) = 'object');

comment on domain rowhouse.usage_part is 'Which settlement of a call it is: at most 64 characters; empty for the last.';
comment on domain rowhouse.usage_kind is 'What was used, such as model_call: lower-case letters, digits and underscores.';
comment on domain rowhouse.usage_provider is 'Who provided it: at most 200 characters.';
comment on domain rowhouse.latency_ms is 'How long something took, in milliseconds.';
comment on domain rowhouse.json_object is 'A JSON object.';

create table rowhouse.usage_events (
  tenant_id text not null,
  request_id rowhouse.request_id not null,
  part rowhouse.usage_part not null default '',
  kind rowhouse.usage_kind not null,
  model text,
  provider rowhouse.usage_provider,
  user_id text,
  units jsonb not null,
  prices jsonb,
  currency text not null,
  cost numeric not null,
  quotas text[] not null,
  periods timestamptz[] not null,
  amounts numeric[] not null,
  occurred_at timestamptz not null,
  recorded_at timestamptz not null,
  latency_ms rowhouse.latency_ms,
  metadata rowhouse.json_object not null default '{}',
  primary key (tenant_id, request_id, part)
);

-- As reservations_expiry.
create index usage_events_occurred on rowhouse.usage_events (tenant_id, occurred_at) where occurred_at is not null;
create index usage_events_recorded on rowhouse.usage_events (tenant_id, recorded_at) where recorded_at is not null;

comment on table rowhouse.usage_events is 'What a tenant used: one row for each settlement, never changed.';
comment on column rowhouse.usage_events.tenant_id is 'The tenant.';
comment on column rowhouse.usage_events.request_id is 'The call.';
comment on column rowhouse.usage_events.part is 'Which of its settlements; empty for the last, or only one.';
comment on column rowhouse.usage_events.kind is 'What it was, such as model_call or tool_call.';
comment on column rowhouse.usage_events.model is 'The model, when one was used.';
comment on column rowhouse.usage_events.provider is 'Who provided it.';
comment on column rowhouse.usage_events.user_id is 'The user of the transaction that admitted the call.';
comment on column rowhouse.usage_events.units is 'What was used.';
comment on column rowhouse.usage_events.prices is 'Prices of one unit each, as they were when the call was admitted.';
comment on column rowhouse.usage_events.currency is 'Currency of prices and cost.';
comment on column rowhouse.usage_events.cost is 'What it cost, exactly.';
comment on column rowhouse.usage_events.quotas is 'The quotas that it was booked on.';
comment on column rowhouse.usage_events.periods is 'The period of each.';
comment on column rowhouse.usage_events.amounts is 'What was booked on each.';
comment on column rowhouse.usage_events.occurred_at is 'When the call was admitted: usage counts in the period in which it was reserved.';
comment on column rowhouse.usage_events.recorded_at is 'When it was settled.';
comment on column rowhouse.usage_events.latency_ms is 'How long the call took.';
comment on column rowhouse.usage_events.metadata is 'Whatever billing needs besides, a JSON object.';

create table rowhouse.usage_rollups (
  tenant_id text not null,
  period_start timestamptz not null,
  kind text not null,
  model text not null,
  provider text not null,
  user_id text not null,
  currency text not null,
  events bigint not null,
  tokens numeric not null,
  input_tokens numeric not null,
  output_tokens numeric not null,
  cached_input_tokens numeric not null,
  cache_write_tokens numeric not null,
  embedding_tokens numeric not null,
  images numeric not null,
  tool_calls numeric not null,
  units jsonb not null,
  cost numeric not null,
  latencies jsonb not null,
  primary key (tenant_id, period_start, kind, model, provider, user_id, currency)
);

comment on table rowhouse.usage_rollups is
  'Usage by the quarter of an hour, made from usage_events; one to which events came late is made again. The offset of every time zone is a multiple of 15 minutes, so each hour, day and month of a tenant is made of whole quarters.';
comment on column rowhouse.usage_rollups.tenant_id is 'The tenant.';
comment on column rowhouse.usage_rollups.period_start is
  'Beginning of the quarter of an hour in which the usage occurred.';
comment on column rowhouse.usage_rollups.kind is 'As in usage_events.';
comment on column rowhouse.usage_rollups.model is 'As in usage_events; empty: none.';
comment on column rowhouse.usage_rollups.provider is 'As in usage_events; empty: none.';
comment on column rowhouse.usage_rollups.user_id is 'As in usage_events; empty: none.';
comment on column rowhouse.usage_rollups.currency is 'Currency of the cost.';
comment on column rowhouse.usage_rollups.events is 'Number of calls; parts of one count as one, with its end.';
comment on column rowhouse.usage_rollups.tokens is 'Tokens in all: of every kind, and those of no kind.';
comment on column rowhouse.usage_rollups.input_tokens is 'Sum of the unit.';
comment on column rowhouse.usage_rollups.output_tokens is 'Sum of the unit.';
comment on column rowhouse.usage_rollups.cached_input_tokens is 'Sum of the unit.';
comment on column rowhouse.usage_rollups.cache_write_tokens is 'Sum of the unit.';
comment on column rowhouse.usage_rollups.embedding_tokens is 'Sum of the unit.';
comment on column rowhouse.usage_rollups.images is 'Sum of the unit.';
comment on column rowhouse.usage_rollups.tool_calls is 'Sum of the unit.';
comment on column rowhouse.usage_rollups.units is
  'Sums of all other units, such as those that a quota of the application counts.';
comment on column rowhouse.usage_rollups.cost is 'Sum of the costs, exactly.';
comment on column rowhouse.usage_rollups.latencies is
  'Histogram: how many calls took up to 2 to the power of key / 8 milliseconds, and longer than the key before.';
