-- Sessions: conversations between a tenant's users and its agents.
-- Policies, partitions and privileges: sql/functions/sessions.sql.

create table rowhouse.sessions (
  tenant_id text not null,
  session_id uuid not null default gen_random_uuid(),
  external_id text constraint sessions_external_id_length check (length(external_id) between 1 and 512),
  user_id text constraint sessions_user_id_length check (length(user_id) between 1 and 200),
  agent_id text constraint sessions_agent_id_length check (length(agent_id) between 1 and 200),
  metadata jsonb not null default '{}'
    constraint sessions_metadata_object check (jsonb_typeof(metadata) = 'object' and octet_length(metadata::text) <= 65536),
  providers text[] constraint sessions_providers_count check (cardinality(providers) <= 100),
  message_count bigint not null default 0 constraint sessions_message_count_positive check (message_count >= 0),
  token_count bigint not null default 0 constraint sessions_token_count_positive check (token_count >= 0),
  forked_from uuid,
  expires_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (tenant_id, session_id)
);

create unique index sessions_by_external_id on rowhouse.sessions (tenant_id, external_id) where external_id is not null;
create index sessions_by_use on rowhouse.sessions (tenant_id, updated_at, session_id);
create index sessions_by_user on rowhouse.sessions (tenant_id, user_id, updated_at, session_id);
create index sessions_by_expiry on rowhouse.sessions (tenant_id, expires_at) where expires_at is not null;

comment on table rowhouse.sessions is 'Sessions: conversations of a tenant. Over when they expire or their retention ends.';
comment on column rowhouse.sessions.tenant_id is 'The tenant that owns the session.';
comment on column rowhouse.sessions.session_id is 'Random, so that nobody can guess it.';
comment on column rowhouse.sessions.external_id is
  'What the application or an agent framework calls it, where it has names of its own; unique within the tenant.';
comment on column rowhouse.sessions.user_id is 'The user it belongs to, as the application names him.';
comment on column rowhouse.sessions.agent_id is 'The agent that answers in it, as the application names it.';
comment on column rowhouse.sessions.metadata is 'A JSON object of the application.';
comment on column rowhouse.sessions.providers is 'The model providers and tool servers it may use; null is no restriction.';
comment on column rowhouse.sessions.message_count is 'Number of its messages.';
comment on column rowhouse.sessions.token_count is 'Tokens of all its messages.';
comment on column rowhouse.sessions.forked_from is 'The session that it began as a copy of.';
comment on column rowhouse.sessions.expires_at is 'When it is over; null leaves that to the retention of the tenant.';
comment on column rowhouse.sessions.created_at is 'When it was created.';
comment on column rowhouse.sessions.updated_at is
  'When it was last used: created, changed, touched or written to. Grows by a millisecond at least with each append.';
comment on index rowhouse.sessions_by_external_id is 'Finds a session by the name that others gave it.';
comment on index rowhouse.sessions_by_use is 'Lists the sessions of a tenant, and finds those whose retention ended.';
comment on index rowhouse.sessions_by_user is 'Lists the sessions of one user.';
comment on index rowhouse.sessions_by_expiry is 'Finds sessions that expired.';
