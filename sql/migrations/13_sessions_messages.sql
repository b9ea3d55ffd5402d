-- The messages of sessions.
-- Depends on: 12_sessions.sql. Policies, partitions and privileges: sql/functions/sessions.sql.

create table rowhouse.messages (
  tenant_id text not null,
  session_id uuid not null,
  message_id uuid not null,
  role text not null constraint messages_role_known check (role in ('system', 'user', 'assistant', 'tool')),
  -- json, not jsonb: what a model said goes back to it letter by letter, which the caches of providers depend on.
  content json not null
    constraint messages_content_parts check (json_typeof(content) = 'array' and octet_length(content::text) <= 1048576),
  call_ids text[],
  result_ids text[],
  token_count integer not null constraint messages_token_count_range check (token_count between 0 and 100000000),
  metadata jsonb not null default '{}'
    constraint messages_metadata_object check (jsonb_typeof(metadata) = 'object' and octet_length(metadata::text) <= 65536),
  created_at timestamptz not null default now(),
  primary key (tenant_id, session_id, message_id),
  constraint messages_session foreign key (tenant_id, session_id) references rowhouse.sessions on delete cascade
);

comment on table rowhouse.messages is 'Messages of sessions, in the order of their ids.';
comment on column rowhouse.messages.tenant_id is 'The tenant that owns the message.';
comment on column rowhouse.messages.session_id is 'Its session.';
comment on column rowhouse.messages.message_id is
  'A UUID of version 7: within a session ids grow in the order in which messages were appended.';
comment on column rowhouse.messages.role is 'Who speaks: system, user, assistant or tool.';
comment on column rowhouse.messages.content is
  'An array of parts: {"type":"text","text"}, {"type":"tool_call","id","name","arguments"}, {"type":"tool_result","callId","result"} or {"type":"json","value"}.';
comment on column rowhouse.messages.call_ids is 'Ids of the tool calls in the message; null when there is none.';
comment on column rowhouse.messages.result_ids is
  'Ids of the tool calls in earlier messages that this message has results of; null when there is none.';
comment on column rowhouse.messages.token_count is 'Tokens that the message takes of a context.';
comment on column rowhouse.messages.metadata is 'A JSON object of the application.';
comment on column rowhouse.messages.created_at is 'When it was appended.';
comment on constraint messages_session on rowhouse.messages is 'Messages go with their session.';
