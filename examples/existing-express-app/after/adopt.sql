-- Run once, by the owner of the tables, after `npx rowhouse migrate`.

-- An invoice belongs to a customer of the same account, and a line to an invoice of the same account: a foreign key by
-- id alone tells whether another account's id exists. protect_table reports both as foreign_key_without_tenant.
alter table customers drop constraint customers_pkey cascade, add primary key (account_id, id);
alter table invoices drop constraint invoices_pkey cascade, add primary key (account_id, id);
alter table invoice_lines drop constraint invoice_lines_pkey, add primary key (account_id, id);
alter table invoices
  add foreign key (account_id, customer_id) references customers (account_id, id);
alter table invoice_lines
  add foreign key (account_id, invoice_id) references invoices (account_id, id) on delete cascade;

-- The database now keeps the accounts apart in every one of these tables.
select rowhouse.protect_table('customers', 'account_id');
select rowhouse.protect_table('invoices', 'account_id');
select rowhouse.protect_table('invoice_lines', 'account_id');

-- Every account is a tenant. From now on a new account is provisioned in the transaction that creates it.
select rowhouse.provision_tenant(id::text, name) from accounts;
