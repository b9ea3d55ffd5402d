-- Filters: which documents a search, a count or a delete means, as a JSON object that becomes one SQL condition.
--
--   {"source": "handbook", "page": {"$gte": 3}, "$or": [{"lang": {"$in": ["de", "fr"]}}, {"lang": {"$exists": false}}]}
--
-- All entries of an object must hold. A plain value is containment, as of the operator @>. A filter knows only true and
-- false: what is missing, or of another type than the operand of a comparison, does not match, and "$not", "$ne" and
-- "$nin" match what "$eq" and "$in" do not. The condition is put together here alone, every name and value as a literal.
-- Depends on: nothing. Proven by: test/documents/filter*.test.ts.

create or replace function rowhouse.refuse_filter(p_problem text) returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception using errcode = 'RH025', message = format('the filter %s', p_problem);
end
$$;

comment on function rowhouse.refuse_filter(text) is 'Raises RH025 with what is wrong with a filter.';

create or replace function rowhouse.has_operator(p_value jsonb) returns boolean
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  if jsonb_typeof(p_value) <> 'object' then
    return false;
  end if;
  return exists (
    select from jsonb_each(p_value) e where starts_with(e.key, '$') or rowhouse.has_operator(e.value));
end
$$;

comment on function rowhouse.has_operator(jsonb) is
  'Whether an object, or one inside of it, has a key that begins with $; arrays are values.';

create or replace function rowhouse.compile_comparison(p_field text, p_operator text, p_operand jsonb) returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_type text := jsonb_typeof(p_operand);
  v_values text;
begin
  case p_operator
    when '$eq' then
      return format('(%s = %L::jsonb) is true', p_field, p_operand);
    when '$ne' then
      return format('(%s = %L::jsonb) is not true', p_field, p_operand);
    when '$in', '$nin' then
      if v_type <> 'array' or jsonb_array_length(p_operand) > 1000 then
        perform rowhouse.refuse_filter(format('needs an array of up to 1000 values for %s', p_operator));
      end if;
      select string_agg(format('%L::jsonb', v.value), ', ') into v_values from jsonb_array_elements(p_operand) v;
      return format('(%s = any (array[%s]::jsonb[])) is %strue', p_field, v_values, case p_operator when '$nin' then 'not ' else '' end);
    when '$gt', '$gte', '$lt', '$lte' then
      if v_type not in ('number', 'string') then
        perform rowhouse.refuse_filter(format('needs a number or a string for %s', p_operator));
      end if;
      -- Strings in the order of their characters, whatever the database sorts by: dates as ISO 8601 writes them.
      return format('case when jsonb_typeof(%1$s) = %2$L then (%1$s #>> ''{}'')%3$s %4$s %5$L%3$s else false end',
        p_field, v_type, case v_type when 'number' then '::numeric' else ' collate "C"' end,
        case p_operator when '$gt' then '>' when '$gte' then '>=' when '$lt' then '<' else '<=' end, p_operand #>> '{}');
    when '$exists' then
      if v_type <> 'boolean' then
        perform rowhouse.refuse_filter('needs true or false for $exists');
      end if;
      return format('%s is %snull', p_field, case when p_operand = 'true' then 'not ' else '' end);
    else
      return rowhouse.refuse_filter(format('has the unknown operator "%s"', left(p_operator, 50)));
  end case;
end
$$;

comment on function rowhouse.compile_comparison(text, text, jsonb) is
  'One operator on one value as SQL that is true or false, never null; p_field is an expression of type jsonb.';

create or replace function rowhouse.compile_field(p_field text, p_path text[], p_filter jsonb, p_depth integer) returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_conditions text[] := '{}';
  v_key text;
  v_value jsonb;
begin
  if p_depth > 16 then
    perform rowhouse.refuse_filter('is nested more than 16 levels deep');
  end if;
  for v_key, v_value in select e.key, e.value from jsonb_each(p_filter) e loop
    if v_key = '$not' then
      if jsonb_typeof(v_value) <> 'object' then
        perform rowhouse.refuse_filter('needs an object for $not');
      end if;
      v_conditions := v_conditions || format('not (%s)', rowhouse.compile_field(p_field, p_path, v_value, p_depth + 1));
    elsif starts_with(v_key, '$') then
      v_conditions := v_conditions || rowhouse.compile_comparison(p_field, v_key, v_value);
    elsif p_path is null then
      perform rowhouse.refuse_filter(format('has "%s" where an operator belongs', left(v_key, 50)));
    elsif rowhouse.has_operator(v_value) then
      v_conditions := v_conditions || rowhouse.compile_field(
        format('(d.metadata #> %L::text[])', p_path || v_key), p_path || v_key, v_value, p_depth + 1);
    else
      v_conditions := v_conditions || rowhouse.compile_containment(p_path || v_key, v_value);
    end if;
  end loop;
  return case when v_conditions = '{}' then 'true' else array_to_string(v_conditions, ' and ') end;
end
$$;

comment on function rowhouse.compile_field(text, text[], jsonb, integer) is
  'The entries of an object on one field: operators on its value, and further keys below it, which a column (no path) has not.';

create or replace function rowhouse.compile_containment(p_path text[], p_value jsonb) returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_object jsonb := p_value;
begin
  for v_place in reverse cardinality(p_path) .. 1 loop
    v_object := jsonb_build_object(p_path[v_place], v_object);
  end loop;
  return format('d.metadata @> %L::jsonb', v_object);
end
$$;

comment on function rowhouse.compile_containment(text[], jsonb) is
  'That the metadata contain this value at this path, as of the operator @>.';

create or replace function rowhouse.compile_filter(p_filter jsonb, p_depth integer default 1) returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_conditions text[] := '{}';
  v_parts text[];
  v_plain jsonb := '{}';
  v_key text;
  v_value jsonb;
  v_part jsonb;
begin
  if p_filter is null then
    return 'true';
  elsif jsonb_typeof(p_filter) <> 'object' then
    perform rowhouse.refuse_filter('is no JSON object');
  elsif p_depth > 16 then
    perform rowhouse.refuse_filter('is nested more than 16 levels deep');
  elsif p_depth = 1 and octet_length(p_filter::text) > 65536 then
    perform rowhouse.refuse_filter('has more than 65536 bytes');
  end if;
  for v_key, v_value in select e.key, e.value from jsonb_each(p_filter) e loop
    if v_key in ('$and', '$or') then
      if jsonb_typeof(v_value) <> 'array' or jsonb_array_length(v_value) = 0 then
        perform rowhouse.refuse_filter(format('needs an array of filters for %s', v_key));
      end if;
      v_parts := '{}';
      for v_part in select a.value from jsonb_array_elements(v_value) a loop
        v_parts := v_parts || ('(' || rowhouse.compile_member(v_part, p_depth) || ')');
      end loop;
      v_conditions := v_conditions || ('(' || array_to_string(v_parts, case v_key when '$and' then ' and ' else ' or ' end) || ')');
    elsif v_key = '$not' then
      v_conditions := v_conditions || ('not (' || rowhouse.compile_member(v_value, p_depth) || ')');
    elsif v_key in ('$id', '$parentId', '$source', '$title') then
      -- Null, where a document has none, is what is missing in metadata.
      v_conditions := v_conditions || ('(' || rowhouse.compile_field(
        format('to_jsonb(d.%s)', case v_key when '$id' then 'document_id' when '$parentId' then 'parent_id' else substr(v_key, 2) end),
        null, case when jsonb_typeof(v_value) = 'object' then v_value else jsonb_build_object('$eq', v_value) end, p_depth) || ')');
    elsif starts_with(v_key, '$') then
      perform rowhouse.refuse_filter(format('has the unknown operator "%s"', left(v_key, 50)));
    elsif rowhouse.has_operator(v_value) then
      v_conditions := v_conditions || ('(' || rowhouse.compile_field(
        format('(d.metadata #> %L::text[])', array[v_key]), array[v_key], v_value, p_depth) || ')');
    else
      v_plain := v_plain || jsonb_build_object(v_key, v_value);
    end if;
  end loop;
  if v_plain <> '{}' then
    v_conditions := v_conditions || format('d.metadata @> %L::jsonb', v_plain);
  end if;
  return case when v_conditions = '{}' then 'true' else array_to_string(v_conditions, ' and ') end;
end
$$;

comment on function rowhouse.compile_filter(jsonb, integer) is
  'A filter as a condition on the row d of a collection, true or false, with every name and value in it as a literal; null and {} are true. Plain entries: the metadata contain them. {"key": {operators}} with $eq, $ne, $in, $nin, $gt, $gte, $lt, $lte (numbers with numbers, strings with strings), $exists, $not; deeper keys by nesting. $and, $or, $not of filters. $id, $parentId, $source, $title: the columns. Raises RH025.';

create or replace function rowhouse.compile_member(p_filter jsonb, p_depth integer) returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  if jsonb_typeof(p_filter) is distinct from 'object' then
    perform rowhouse.refuse_filter('needs an object inside of $and, $or and $not');
  end if;
  return rowhouse.compile_filter(p_filter, p_depth + 1);
end
$$;

comment on function rowhouse.compile_member(jsonb, integer) is 'A filter inside of $and, $or or $not.';

revoke execute on function
  rowhouse.refuse_filter(text), rowhouse.has_operator(jsonb), rowhouse.compile_comparison(text, text, jsonb),
  rowhouse.compile_field(text, text[], jsonb, integer), rowhouse.compile_containment(text[], jsonb),
  rowhouse.compile_filter(jsonb, integer), rowhouse.compile_member(jsonb, integer)
  from public;
grant execute on function
  rowhouse.refuse_filter(text), rowhouse.has_operator(jsonb), rowhouse.compile_comparison(text, text, jsonb),
  rowhouse.compile_field(text, text[], jsonb, integer), rowhouse.compile_containment(text[], jsonb),
  rowhouse.compile_filter(jsonb, integer), rowhouse.compile_member(jsonb, integer)
  to rowhouse_app, rowhouse_search;
