-- The registry of vector collections. Each collection is a table of its own, made by create_collection.
-- Depends on: 2_protected_tables.sql. Policies and privileges: sql/functions/collections.sql.

create table rowhouse.collections (
  name text primary key constraint collections_name_format check (name ~ '^[a-z][a-z0-9_]{0,47}$'),
  relation regclass not null constraint collections_relation_unique unique,
  dimensions integer not null constraint collections_dimensions_range check (dimensions between 1 and 4000),
  metric text not null constraint collections_metric_known check (metric in ('cosine', 'inner_product', 'l2')),
  element_type text not null constraint collections_element_type_known check (element_type in ('vector', 'halfvec')),
  exact_limit integer not null constraint collections_exact_limit_range check (exact_limit between 0 and 1000000),
  ef_search integer not null constraint collections_ef_search_range check (ef_search between 1 and 1000),
  m integer not null constraint collections_m_range check (m between 2 and 100),
  ef_construction integer not null constraint collections_ef_construction_range check (ef_construction between 4 and 1000),
  created_at timestamptz not null default now(),
  constraint collections_ef_construction_covers_m check (ef_construction >= 2 * m)
);

comment on table rowhouse.collections is 'One row for each vector collection. Holds no data of tenants.';
comment on column rowhouse.collections.name is 'Name of the collection, and of its table rowhouse.documents_<name>.';
comment on column rowhouse.collections.relation is 'Its table.';
comment on column rowhouse.collections.dimensions is 'Number of dimensions of every embedding.';
comment on column rowhouse.collections.metric is 'Distance: cosine, inner_product or l2.';
comment on column rowhouse.collections.element_type is 'vector (4 bytes a dimension) or halfvec (2 bytes).';
comment on column rowhouse.collections.exact_limit is
  'A tenant with at most this many documents is searched exactly; a larger one by its index.';
comment on column rowhouse.collections.ef_search is
  'Candidates that an index search keeps (hnsw.ef_search): more find more of the true neighbours and take longer.';
comment on column rowhouse.collections.m is 'Connections of each vector in a layer of the index.';
comment on column rowhouse.collections.ef_construction is 'Candidates that are kept while a vector is put into the index.';
comment on column rowhouse.collections.created_at is 'When it was created.';
