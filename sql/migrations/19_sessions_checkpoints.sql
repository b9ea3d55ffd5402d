-- Checkpoints of agents: what an agent framework needs to go on where it stopped, kept with the session that it serves.
-- Depends on: 12_sessions.sql. Policies and privileges: sql/functions/sessions_checkpoints.sql.

create table rowhouse.checkpoints (
  tenant_id text not null,
  session_id uuid not null,
  namespace text collate "C" not null constraint checkpoints_namespace_length check (length(namespace) <= 1024),
  checkpoint_id text collate "C" not null constraint checkpoints_id_length check (length(checkpoint_id) between 1 and 256),
  parent_id text constraint checkpoints_parent_id_length check (length(parent_id) between 1 and 256),
  checkpoint_type text not null,
  checkpoint bytea not null,
  metadata_type text not null,
  metadata bytea not null,
  channels text[] not null,
  versions text[] not null constraint checkpoints_versions_match check (cardinality(versions) = cardinality(channels)),
  filter jsonb not null default '{}' constraint checkpoints_filter_object check (jsonb_typeof(filter) = 'object'),
  created_at timestamptz not null default now(),
  primary key (tenant_id, session_id, namespace, checkpoint_id),
  constraint checkpoints_session foreign key (tenant_id, session_id) references rowhouse.sessions on delete cascade
);

comment on table rowhouse.checkpoints is 'Checkpoints of agents. They go with their session.';
comment on column rowhouse.checkpoints.tenant_id is 'The tenant that owns the checkpoint.';
comment on column rowhouse.checkpoints.session_id is 'The session that the agent serves: its thread.';
comment on column rowhouse.checkpoints.namespace is 'The graph within the thread; empty for the outermost.';
comment on column rowhouse.checkpoints.checkpoint_id is 'Id that the framework gave it; later ones are larger.';
comment on column rowhouse.checkpoints.parent_id is 'The checkpoint that it followed.';
comment on column rowhouse.checkpoints.checkpoint_type is 'How checkpoint is serialized, as the framework names it.';
comment on column rowhouse.checkpoints.checkpoint is 'The serialized checkpoint without the values of its channels.';
comment on column rowhouse.checkpoints.metadata_type is 'How metadata is serialized.';
comment on column rowhouse.checkpoints.metadata is 'The serialized metadata.';
comment on column rowhouse.checkpoints.channels is 'The channels of the state.';
comment on column rowhouse.checkpoints.versions is 'Which version each channel is at; its value is in checkpoint_values.';
comment on column rowhouse.checkpoints.filter is 'What of the metadata lists can filter by: strings, numbers, booleans and nulls.';
comment on column rowhouse.checkpoints.created_at is 'When it was first written.';
comment on constraint checkpoints_session on rowhouse.checkpoints is 'Checkpoints go with their session.';

create table rowhouse.checkpoint_values (
  tenant_id text not null,
  session_id uuid not null,
  namespace text collate "C" not null constraint checkpoint_values_namespace_length check (length(namespace) <= 1024),
  channel text collate "C" not null constraint checkpoint_values_channel_length check (length(channel) between 1 and 512),
  version text collate "C" not null constraint checkpoint_values_version_length check (length(version) between 1 and 256),
  value_type text not null,
  value bytea not null,
  primary key (tenant_id, session_id, namespace, channel, version),
  constraint checkpoint_values_session foreign key (tenant_id, session_id) references rowhouse.sessions on delete cascade
);

comment on table rowhouse.checkpoint_values is
  'Values of channels, once for each version: checkpoints in which a channel did not change share its value.';
comment on column rowhouse.checkpoint_values.tenant_id is 'The tenant that owns it.';
comment on column rowhouse.checkpoint_values.session_id is 'The session that the agent serves.';
comment on column rowhouse.checkpoint_values.namespace is 'The graph within the thread.';
comment on column rowhouse.checkpoint_values.channel is 'The channel.';
comment on column rowhouse.checkpoint_values.version is 'The version, which the framework gives and which has one value for ever.';
comment on column rowhouse.checkpoint_values.value_type is 'How value is serialized.';
comment on column rowhouse.checkpoint_values.value is 'The serialized value.';
comment on constraint checkpoint_values_session on rowhouse.checkpoint_values is 'Values go with their session.';

create table rowhouse.checkpoint_writes (
  tenant_id text not null,
  session_id uuid not null,
  namespace text collate "C" not null constraint checkpoint_writes_namespace_length check (length(namespace) <= 1024),
  checkpoint_id text collate "C" not null
    constraint checkpoint_writes_checkpoint_id_length check (length(checkpoint_id) between 1 and 256),
  task_id text collate "C" not null constraint checkpoint_writes_task_id_length check (length(task_id) between 1 and 256),
  place integer not null,
  channel text not null,
  value_type text not null,
  value bytea not null,
  primary key (tenant_id, session_id, namespace, checkpoint_id, task_id, place),
  constraint checkpoint_writes_session foreign key (tenant_id, session_id) references rowhouse.sessions on delete cascade
);

comment on table rowhouse.checkpoint_writes is 'What tasks of an agent wrote after a checkpoint and before the next one.';
comment on column rowhouse.checkpoint_writes.tenant_id is 'The tenant that owns it.';
comment on column rowhouse.checkpoint_writes.session_id is 'The session that the agent serves.';
comment on column rowhouse.checkpoint_writes.namespace is 'The graph within the thread.';
comment on column rowhouse.checkpoint_writes.checkpoint_id is 'The checkpoint before.';
comment on column rowhouse.checkpoint_writes.task_id is 'The task that wrote.';
comment on column rowhouse.checkpoint_writes.place is
  'Which write of the task; those below 0 are of a kind of which a task has one, and are replaced.';
comment on column rowhouse.checkpoint_writes.channel is 'The channel that was written to.';
comment on column rowhouse.checkpoint_writes.value_type is 'How value is serialized.';
comment on column rowhouse.checkpoint_writes.value is 'The serialized value.';
comment on constraint checkpoint_writes_session on rowhouse.checkpoint_writes is 'Writes go with their session.';
