-- Circuits: stop the calls of a tenant, or those of it to one provider, when too many fail or money runs away.
-- Depends on: 10_reservations.sql. Policies, privileges and functions: sql/functions/circuits.sql.

create table rowhouse.circuit_rules (
  tier text primary key constraint circuit_rules_tier_format check (tier ~ '^([a-z][a-z0-9_-]{0,31}|\*)$'),
  window_ms integer not null constraint circuit_rules_window_range check (window_ms between 1 and 86400000),
  min_calls integer not null constraint circuit_rules_min_calls_range check (min_calls between 1 and 1000000),
  error_percent integer constraint circuit_rules_error_percent_range check (error_percent between 1 and 100),
  max_spend numeric constraint circuit_rules_max_spend_range check (max_spend between 0 and 1000000000000000),
  pause_ms integer not null constraint circuit_rules_pause_range check (pause_ms between 1 and 86400000)
);

comment on table rowhouse.circuit_rules is
  'When circuits of tenants of a tier open; without a rule they open by hand alone. Holds no data of tenants.';
comment on column rowhouse.circuit_rules.tier is 'The tier of the tenant; * stands for tiers that have no row.';
comment on column rowhouse.circuit_rules.window_ms is 'For how long calls are counted before counting begins anew.';
comment on column rowhouse.circuit_rules.min_calls is 'So many calls are counted before a rate means something.';
comment on column rowhouse.circuit_rules.error_percent is 'Opens when so many of a hundred calls failed; null: never.';
comment on column rowhouse.circuit_rules.max_spend is 'Opens when the calls of the window cost more; null: never.';
comment on column rowhouse.circuit_rules.pause_ms is 'How long it stays open before one call may try.';

create table rowhouse.circuits (
  tenant_id text not null,
  circuit text not null constraint circuits_circuit_length check (length(circuit) <= 100),
  status text not null default 'closed' constraint circuits_status_known check (status in ('closed', 'open', 'half_open')),
  reason text constraint circuits_reason_length check (length(reason) <= 500),
  retry_at timestamptz,
  trying text,
  window_start timestamptz not null,
  calls integer not null default 0,
  errors integer not null default 0,
  spent numeric not null default 0,
  primary key (tenant_id, circuit)
) with (fillfactor = 50);

comment on table rowhouse.circuits is 'Circuits of tenants, and what is counted for them. Empty name: all calls of the tenant.';
comment on column rowhouse.circuits.tenant_id is 'The tenant.';
comment on column rowhouse.circuits.circuit is 'Name, such as that of a provider; empty: the tenant as a whole.';
comment on column rowhouse.circuits.status is
  'closed: calls go through. open: none does. half_open: one call tries; its outcome closes or opens the circuit.';
comment on column rowhouse.circuits.reason is 'Why it is open.';
comment on column rowhouse.circuits.retry_at is 'When the next call may try; null: not before somebody resets it.';
comment on column rowhouse.circuits.trying is 'The call whose outcome is waited for.';
comment on column rowhouse.circuits.window_start is 'Since when calls are counted.';
comment on column rowhouse.circuits.calls is 'Calls that ended in the window.';
comment on column rowhouse.circuits.errors is 'Those of them that failed.';
comment on column rowhouse.circuits.spent is
  'What was spent, by parts of calls at work too. Of the tenant as a whole: by calls of all circuits, and what was recorded.';
