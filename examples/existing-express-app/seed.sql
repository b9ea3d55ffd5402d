-- Two accounts with their customers and invoices.

insert into accounts (id, name, api_token) values
  ('11111111-1111-4111-8111-111111111111', 'Acme', 'token-of-acme'),
  ('22222222-2222-4222-8222-222222222222', 'Globex', 'token-of-globex');

insert into customers (account_id, name, email) values
  ('11111111-1111-4111-8111-111111111111', 'Ada Lovelace', 'ada@example.com'),
  ('11111111-1111-4111-8111-111111111111', 'Alan Turing', 'alan@example.com'),
  ('22222222-2222-4222-8222-222222222222', 'Grace Hopper', 'grace@example.com');

insert into invoices (account_id, customer_id) values
  ('11111111-1111-4111-8111-111111111111', 1),
  ('11111111-1111-4111-8111-111111111111', 2),
  ('22222222-2222-4222-8222-222222222222', 3);

insert into invoice_lines (account_id, invoice_id, description, amount_cents) values
  ('11111111-1111-4111-8111-111111111111', 1, 'Analytical engine', 120000),
  ('11111111-1111-4111-8111-111111111111', 1, 'Punched cards', 4500),
  ('11111111-1111-4111-8111-111111111111', 2, 'Paper tape', 9900),
  ('22222222-2222-4222-8222-222222222222', 3, 'Compiler', 700000);
