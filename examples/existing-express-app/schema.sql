-- The tables as the application made them, long before it heard of rowhouse.

create table accounts (
  id uuid primary key default gen_random_uuid(),
  name text not null,
  api_token text not null unique
);

create table customers (
  id bigint generated always as identity primary key,
  account_id uuid not null references accounts (id),
  name text not null,
  email text not null,
  unique (account_id, email)
);

create table invoices (
  id bigint generated always as identity primary key,
  account_id uuid not null references accounts (id),
  customer_id bigint not null references customers (id),
  status text not null default 'open' check (status in ('open', 'paid')),
  created_at timestamptz not null default now()
);

create table invoice_lines (
  id bigint generated always as identity primary key,
  account_id uuid not null references accounts (id),
  invoice_id bigint not null references invoices (id) on delete cascade,
  description text not null,
  amount_cents integer not null check (amount_cents > 0)
);

create index on invoices (account_id);
create index on invoice_lines (invoice_id);
