-- Reservations: what calls at work may still use. Settled ones become rows of usage_events.
-- Depends on: 9_quotas.sql. Policies, privileges and functions: sql/functions/reservations.sql.

-- Domains, as rowhouse.amount.
create domain rowhouse.request_id as text constraint request_id_length check (length(value) between 1 and 200);
create domain rowhouse.reservation_status as text
  constraint reservation_status_known check (value in ('active', 'expired', 'released'));

comment on domain rowhouse.request_id is 'Id of a call, chosen by the caller: 1 to 200 characters.';
comment on domain rowhouse.reservation_status is 'What became of a reservation: active, expired or released.';

create table rowhouse.reservations (
  tenant_id text not null,
  request_id rowhouse.request_id not null,
  status rowhouse.reservation_status not null default 'active',
  model text,
  user_id text,
  circuit text not null,
  currency text not null,
  prices jsonb,
  quotas text[] not null,
  metrics text[] not null,
  periods timestamptz[] not null,
  windows bigint[],
  reserved numeric[] not null,
  soft_limits numeric[] not null,
  cost numeric not null,
  admitted_at timestamptz not null,
  expires_at timestamptz not null,
  primary key (tenant_id, request_id)
) with (fillfactor = 70);

-- Never null; but only what asks for the time may use this index. While the table is empty it looks as good as the key
-- for everything of a tenant, and plans that are made then are kept.
create index reservations_expiry on rowhouse.reservations (tenant_id, status, expires_at) where expires_at is not null;

comment on table rowhouse.reservations is
  'Calls that were admitted and are not settled. One that expired, or was released, reserves nothing any more, and stays for 30 days to know what a late settle is about.';
comment on column rowhouse.reservations.tenant_id is 'The tenant.';
comment on column rowhouse.reservations.request_id is 'Id of the call, chosen by the caller; used once.';
comment on column rowhouse.reservations.status is 'active: holds what is reserved. expired: its lease ran out. released: given back.';
comment on column rowhouse.reservations.model is 'The model that the call uses.';
comment on column rowhouse.reservations.user_id is 'The user of the transaction that admitted it.';
comment on column rowhouse.reservations.circuit is 'The circuit that it belongs to; empty: that of the tenant.';
comment on column rowhouse.reservations.currency is 'Currency of prices and cost.';
comment on column rowhouse.reservations.prices is 'Prices of one unit each when it was admitted; they hold for its settlement too.';
comment on column rowhouse.reservations.quotas is 'The quotas that hold for it.';
comment on column rowhouse.reservations.metrics is 'What each of them counts.';
comment on column rowhouse.reservations.periods is 'The period of each in which it counts.';
comment on column rowhouse.reservations.windows is 'How many milliseconds long the window of each is that is rolling; null: none is.';
comment on column rowhouse.reservations.reserved is 'What it reserves of each; partial settlements lower it.';
comment on column rowhouse.reservations.soft_limits is
  'The soft limit of each when it was admitted, after which its settlement looks whether one is crossed.';
comment on column rowhouse.reservations.cost is 'The most that it was admitted to cost.';
comment on column rowhouse.reservations.admitted_at is 'When it was admitted.';
comment on column rowhouse.reservations.expires_at is 'When its lease ends, unless it is extended.';
