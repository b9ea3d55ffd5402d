-- The registry of vector collections. Each collection is a table of its own, made by create_collection, beside one of
-- parents. While its embedding model is changed it has two tables of documents: versions.
-- Depends on: 2_protected_tables.sql. Policies and privileges: sql/functions/collections.sql.

create table rowhouse.collections (
  name text not null constraint collections_name_format check (name ~ '^[a-z][a-z0-9_]{0,47}$'),
  version integer not null default 1 constraint collections_version_positive check (version >= 1),
  state text not null default 'current' constraint collections_state_known check (state in ('current', 'next', 'previous')),
  relation regclass not null constraint collections_relation_unique unique,
  parents regclass not null,
  model text constraint collections_model_length check (length(model) between 1 and 200),
  language text not null,
  dimensions integer not null constraint collections_dimensions_range check (dimensions between 1 and 4000),
  metric text not null constraint collections_metric_known check (metric in ('cosine', 'inner_product', 'l2')),
  element_type text not null constraint collections_element_type_known check (element_type in ('vector', 'halfvec')),
  exact_limit integer not null constraint collections_exact_limit_range check (exact_limit between 0 and 1000000),
  ef_search integer not null constraint collections_ef_search_range check (ef_search between 1 and 1000),
  m integer not null constraint collections_m_range check (m between 2 and 100),
  ef_construction integer not null constraint collections_ef_construction_range check (ef_construction between 4 and 1000),
  created_at timestamptz not null default now(),
  primary key (name, version),
  constraint collections_state_unique unique (name, state),
  constraint collections_ef_construction_covers_m check (ef_construction >= 2 * m)
);

comment on table rowhouse.collections is 'One row for each version of each vector collection. Holds no data of tenants.';
comment on column rowhouse.collections.name is 'Name of the collection, and of its table rowhouse.documents_<name>.';
comment on column rowhouse.collections.version is 'Counts the changes of the embedding model, from 1.';
comment on column rowhouse.collections.state is
  'current: what is searched. next: being filled by a change of the model. previous: until that change is finished.';
comment on column rowhouse.collections.relation is 'The table of documents of this version.';
comment on column rowhouse.collections.parents is 'The table of parent documents; of all versions.';
comment on column rowhouse.collections.model is 'Name of the embedding model, as the application calls it; null when it never said.';
comment on column rowhouse.collections.language is
  'The text search configuration of full-text search: english, german, simple, ..., or none.';
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

create type rowhouse.document_hit as (
  tenant_id text,
  document_id text,
  content text,
  metadata jsonb,
  title text,
  source text,
  parent_id text,
  place integer,
  distance double precision,
  score double precision,
  strategy text,
  vector_rank integer,
  text_rank integer,
  text_score double precision,
  text_strategy text
);

comment on type rowhouse.document_hit is 'A document that a search found, and how: what search_documents returns.';
