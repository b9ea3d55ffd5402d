-- Channels: messages that the processes and users of a tenant send each other, and who is there.
-- Policies and privileges: sql/functions/realtime.sql and realtime_members.sql.

create table rowhouse.channels (
  tenant_id text not null,
  channel text collate "C" not null constraint channels_name_length check (length(channel) between 1 and 512),
  -- Random, so that whoever hears it learns neither tenant nor channel from it.
  wake_key uuid not null default gen_random_uuid(),
  last_message_id bigint not null,
  swept_through bigint not null,
  used_at timestamptz not null,
  primary key (tenant_id, channel)
);

comment on table rowhouse.channels is
  'Channels of tenants. Publishers lock the row until they commit, so ids of messages have the order of the commits and no gaps.';
comment on column rowhouse.channels.tenant_id is 'The tenant that owns the channel.';
comment on column rowhouse.channels.channel is 'Name within the tenant; compared byte by byte.';
comment on column rowhouse.channels.wake_key is 'What a notification about the channel says, and nothing else.';
comment on column rowhouse.channels.last_message_id is 'Id of the newest message.';
comment on column rowhouse.channels.swept_through is 'Messages up to this id were deleted, or were never there.';
comment on column rowhouse.channels.used_at is 'When it was last published to or, to the day, listened to.';

create table rowhouse.channel_messages (
  tenant_id text not null,
  channel text collate "C" not null,
  message_id bigint not null,
  payload jsonb not null constraint channel_messages_payload_size check (octet_length(payload::text) <= 262144),
  user_id text,
  published_at timestamptz not null,
  primary key (tenant_id, channel, message_id),
  foreign key (tenant_id, channel) references rowhouse.channels on delete cascade
);

create index channel_messages_by_age on rowhouse.channel_messages (tenant_id, published_at);

comment on table rowhouse.channel_messages is
  'Messages of channels, kept for a while for subscribers that were away when they were published.';
comment on column rowhouse.channel_messages.tenant_id is 'The tenant that owns the message.';
comment on column rowhouse.channel_messages.channel is 'The channel it was published to.';
comment on column rowhouse.channel_messages.message_id is 'Counts up by one in each channel, in the order of the commits.';
comment on column rowhouse.channel_messages.payload is 'Any JSON value.';
comment on column rowhouse.channel_messages.user_id is 'The user that the transaction which published it ran for, if any.';
comment on column rowhouse.channel_messages.published_at is 'When it was published.';
comment on index rowhouse.channel_messages_by_age is 'Finds messages that were kept long enough.';

create table rowhouse.channel_members (
  tenant_id text not null,
  channel text collate "C" not null constraint channel_members_channel_length check (length(channel) between 1 and 512),
  member_id text collate "C" not null constraint channel_members_id_length check (length(member_id) between 1 and 512),
  metadata jsonb not null constraint channel_members_metadata_size
    check (jsonb_typeof(metadata) = 'object' and octet_length(metadata::text) <= 65536),
  joined_at timestamptz not null,
  expires_at timestamptz not null,
  primary key (tenant_id, channel, member_id)
);

create index channel_members_by_expiry on rowhouse.channel_members (tenant_id, expires_at);

comment on table rowhouse.channel_members is
  'Who is in a channel. Those that were not renewed in time are out of sight until they are swept.';
comment on column rowhouse.channel_members.tenant_id is 'The tenant that owns the channel.';
comment on column rowhouse.channel_members.channel is 'Name of the channel.';
comment on column rowhouse.channel_members.member_id is 'Who: a user, a connection, a process; as the application names it.';
comment on column rowhouse.channel_members.metadata is 'Whatever others are to know, a JSON object.';
comment on column rowhouse.channel_members.joined_at is 'Since when it is there without a break.';
comment on column rowhouse.channel_members.expires_at is 'From when on it is there no more, unless it is renewed before.';
comment on index rowhouse.channel_members_by_expiry is 'Finds members that were not renewed.';
