-- Prices of models, the same for all tenants, each valid from a point in time.
-- Policies, privileges and functions: sql/functions/prices.sql.

create table rowhouse.prices (
  model text not null constraint prices_model_length check (length(model) between 1 and 200),
  unit text not null constraint prices_unit_known check (unit in ('input_tokens', 'output_tokens', 'cached_input_tokens',
    'cache_write_tokens', 'embedding_tokens', 'images', 'tool_calls', 'requests')),
  currency text not null constraint prices_currency_format check (currency ~ '^[A-Z]{3}$'),
  valid_from timestamptz not null,
  price numeric constraint prices_price_exact check (price >= 0 and price < 1000000 and scale(price) <= 12),
  primary key (model, unit, currency, valid_from)
);

comment on table rowhouse.prices is
  'What a unit of a model costs, from a point in time on. Rows are added, not changed, so that old usage can be explained. Holds no data of tenants.';
comment on column rowhouse.prices.model is 'Name of the model, as callers of admit give it.';
comment on column rowhouse.prices.unit is
  'What is paid for. Units do not overlap: input_tokens are those that were neither read from nor written to a cache. requests: a fee for each request.';
comment on column rowhouse.prices.currency is 'ISO 4217 code.';
comment on column rowhouse.prices.valid_from is 'From then on, until a later row of the same model, unit and currency.';
comment on column rowhouse.prices.price is
  'Price of one unit, exact to a millionth of a millionth. Null: not sold from then on.';
