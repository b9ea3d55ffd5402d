-- Prices: what a request costs, exactly.
--
-- Amounts of money are numeric and never rounded: quantities are multiplied by prices of one unit, which have at most
-- twelve decimals. A model or a unit without a price is refused, never free; what is free has the price 0.
-- Depends on: rowhouse.prices. Proven by: test/budgets/prices.test.ts.

alter table rowhouse.prices enable row level security, force row level security;
drop policy if exists everybody_reads on rowhouse.prices;
create policy everybody_reads on rowhouse.prices for select to public using (true);
comment on policy everybody_reads on rowhouse.prices is 'Prices of models; no data of tenants.';
drop policy if exists owner_all on rowhouse.prices;
create policy owner_all on rowhouse.prices for all to rowhouse_owner using (true) with check (true);
comment on policy owner_all on rowhouse.prices is 'The functions of rowhouse write prices.';
revoke all on rowhouse.prices from public, rowhouse_app, rowhouse_admin;
grant select on rowhouse.prices to rowhouse_app, rowhouse_admin;

create or replace function rowhouse.model_prices(p_model text, p_currency text, p_at timestamptz) returns jsonb
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_prices jsonb;
begin
  select jsonb_object_agg(p.unit, p.price) into v_prices
    from (
      select distinct on (r.unit) r.unit, r.price
        from rowhouse.prices r
        where r.model = p_model and r.currency = p_currency and r.valid_from <= p_at
        order by r.unit, r.valid_from desc) p
    where p.price is not null;
  if v_prices is null then
    raise exception using errcode = 'RH053', message = format('model "%s" has no price in %s', left(p_model, 200), p_currency),
      hint = format('An operator sets it: select rowhouse.set_price(%L, ''input_tokens'', 3.00, 1000000). What is free has the price 0.', left(p_model, 200));
  end if;
  return v_prices;
end
$$;

comment on function rowhouse.model_prices(text, text, timestamptz) is
  'Prices of one unit each that a model has at a time, such as {"input_tokens": 0.000003}. Raises RH053 when it has none.';

create or replace function rowhouse.measure_units(
  p_units jsonb, p_prices jsonb, p_requests integer, out amounts jsonb, out cost numeric
)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_unit text;
  v_value jsonb;
  v_amount numeric;
  v_price numeric;
  v_tokens numeric := 0;
  v_input numeric;
  v_output numeric;
begin
  if jsonb_typeof(p_units) is distinct from 'object' or pg_column_size(p_units) > 8192 then
    raise exception using errcode = 'RH052', message = 'units are a JSON object of amounts, of at most 8 kB',
      hint = 'For example: {"input_tokens": 1200, "output_tokens": 800}.';
  end if;
  cost := p_requests * coalesce((p_prices ->> 'requests')::numeric, 0);
  -- Most calls have a price and these units alone; one by one would take twice as long.
  if p_prices ?& array['input_tokens', 'output_tokens'] and p_units - array['input_tokens', 'output_tokens'] = '{}'
    and not jsonb_path_exists(p_units, '$.* ? (@.type() != "number" || @ < 0 || @ > 1000000000000000)')
  then
    v_input := coalesce((p_units -> 'input_tokens')::numeric, 0);
    v_output := coalesce((p_units -> 'output_tokens')::numeric, 0);
    v_tokens := v_input + v_output;
    if scale(v_tokens) <= 12 then
      cost := trim_scale(cost + v_input * (p_prices -> 'input_tokens')::numeric + v_output * (p_prices -> 'output_tokens')::numeric);
      amounts := p_units || jsonb_build_object('requests', p_requests, 'tokens', v_tokens, 'money', cost);
      return;
    end if;
    v_tokens := 0;
  end if;
  for v_unit, v_value in select u.key, u.value from jsonb_each(p_units) u loop
    v_amount := case when jsonb_typeof(v_value) = 'number' then v_value::text::numeric end;
    if v_amount is null or v_amount < 0 or v_amount > 1000000000000000 or scale(v_amount) > 12 then
      raise exception using errcode = 'RH052', message = format('the amount of %s is no number from 0 to 1000000000000000', left(v_unit, 63));
    elsif v_unit in ('requests', 'slots') or (v_unit in ('tokens', 'money') and p_prices is not null) then
      raise exception using errcode = 'RH052', message = format('%s cannot be given', v_unit),
        hint = 'requests and slots count calls; tokens and money of a model follow from its units.';
    end if;
    if v_unit in ('input_tokens', 'output_tokens', 'cached_input_tokens', 'cache_write_tokens', 'embedding_tokens', 'images', 'tool_calls') then
      if p_prices is not null then
        -- A cache that has no price of its own saves nothing.
        v_price := coalesce(p_prices ->> v_unit,
          case when v_unit in ('cached_input_tokens', 'cache_write_tokens') then p_prices ->> 'input_tokens' end)::numeric;
        if v_price is null and v_amount > 0 then
          raise exception using errcode = 'RH053', message = format('the model has no price for %s', v_unit),
            hint = 'An operator sets it with rowhouse.set_price. What is free has the price 0.';
        end if;
        cost := cost + v_amount * coalesce(v_price, 0);
      end if;
      if v_unit like '%tokens' then
        v_tokens := v_tokens + v_amount;
      end if;
    elsif v_unit = 'tokens' then
      v_tokens := v_tokens + v_amount;
    elsif v_unit = 'money' then
      cost := cost + v_amount;
    elsif not exists (select from rowhouse.quotas q where q.metric = v_unit) then
      raise exception using errcode = 'RH050', message = format('no quota counts "%s"', left(v_unit, 63)),
        hint = format('An operator defines one: select rowhouse.define_quota(%L, %L, ''total'').', left(v_unit, 63), left(v_unit, 63));
    end if;
  end loop;
  cost := trim_scale(cost);
  amounts := p_units || jsonb_build_object('requests', p_requests, 'tokens', v_tokens, 'money', cost);
end
$$;

comment on function rowhouse.measure_units(jsonb, jsonb, integer) is
  'Checks units such as {"input_tokens": 1200} and adds what follows from them: requests, tokens in all, and money at these prices. p_prices: as model_prices returns them; null: no model, money may be among the units. Raises RH050 (no quota counts it), RH052 (no amount), RH053 (no price).';

create or replace function rowhouse.set_price(
  p_model text, p_unit text, p_amount numeric, p_per integer default 1, p_currency text default 'USD',
  p_valid_from timestamptz default null
) returns timestamptz
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_price numeric := p_amount * case p_per when 1 then 1 when 1000 then 0.001 when 1000000 then 0.000001 end;
  v_valid_from timestamptz := coalesce(p_valid_from, clock_timestamp());
  v_known numeric;
begin
  if p_per is null or p_per not in (1, 1000, 1000000) then
    raise exception using errcode = 'RH054', message = 'a price is for 1, 1000 or 1000000 units';
  end if;
  insert into rowhouse.prices (model, unit, currency, valid_from, price)
    values (p_model, p_unit, p_currency, v_valid_from, trim_scale(v_price))
    on conflict (model, unit, currency, valid_from) do nothing;
  if not found then
    select r.price into v_known from rowhouse.prices r
      where r.model = p_model and r.unit = p_unit and r.currency = p_currency and r.valid_from = v_valid_from;
    if v_known is distinct from v_price then
      raise exception using errcode = 'RH054', message = 'there is another price from this moment on',
        hint = 'Prices are not changed; add one with a later moment.';
    end if;
  end if;
  return v_valid_from;
exception
  when check_violation or not_null_violation then
    raise exception using errcode = 'RH054', message = 'not a price',
      hint = 'set_price(model, unit, amount, per, currency): a unit of the list in the comment of rowhouse.prices.unit, an amount from 0 with at most 12 decimals a unit, three letters of currency.';
end
$$;

comment on function rowhouse.set_price(text, text, numeric, integer, text, timestamptz) is
  'Sets what p_per units (1, 1000 or 1000000) of a model cost from a moment on, by default from now on; null: not sold any more. Repeating it changes nothing. Returns the moment. Raises RH054.';

revoke execute on function
  rowhouse.model_prices(text, text, timestamptz), rowhouse.measure_units(jsonb, jsonb, integer),
  rowhouse.set_price(text, text, numeric, integer, text, timestamptz)
  from public;
grant execute on function rowhouse.model_prices(text, text, timestamptz) to rowhouse_app, rowhouse_admin;
grant execute on function rowhouse.set_price(text, text, numeric, integer, text, timestamptz) to rowhouse_admin;
