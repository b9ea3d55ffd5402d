-- Analytics: what happened in a tenant's use of the product, for counting.
-- Depends on: 1_tenants.sql. Policies, privileges and functions: sql/functions/analytics.sql.

create table rowhouse.analytics_events (
  tenant_id text not null,
  event_id text not null constraint analytics_events_event_id_length check (length(event_id) between 1 and 200),
  event text not null constraint analytics_events_event_length check (length(event) between 1 and 100),
  source text not null default '' constraint analytics_events_source_length check (length(source) <= 100),
  actor text not null default '' constraint analytics_events_actor_length check (length(actor) <= 200),
  run_id text not null default '' constraint analytics_events_run_id_length check (length(run_id) <= 200),
  properties jsonb not null default '{}' constraint analytics_events_properties_object check (jsonb_typeof(properties) = 'object'),
  occurred_at timestamptz not null,
  recorded_at timestamptz not null default clock_timestamp(),
  primary key (tenant_id, event_id)
);

create index analytics_events_occurred on rowhouse.analytics_events (tenant_id, occurred_at);

comment on table rowhouse.analytics_events is 'What happened in the product, as the application tells; one row for each event.';
comment on column rowhouse.analytics_events.tenant_id is 'The tenant.';
comment on column rowhouse.analytics_events.event_id is 'Chosen by the application, or random; an event is recorded once.';
comment on column rowhouse.analytics_events.event is 'What happened, such as document.opened.';
comment on column rowhouse.analytics_events.source is 'Where, such as web or an agent; empty: not told.';
comment on column rowhouse.analytics_events.actor is 'Who; empty: not told.';
comment on column rowhouse.analytics_events.run_id is 'The run of an agent that it belongs to; empty: none.';
comment on column rowhouse.analytics_events.properties is 'Whatever else there is to know, a JSON object.';
comment on column rowhouse.analytics_events.occurred_at is 'When it happened.';
comment on column rowhouse.analytics_events.recorded_at is 'When it was recorded.';
