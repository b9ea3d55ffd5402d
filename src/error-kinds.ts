/** What a code means to a caller: the HTTP status to answer with, whether trying again can help, what to do next. */
export interface ErrorKind {
  readonly sqlstate?: string
  readonly httpStatus: number
  readonly retryable?: boolean
  readonly hint: string
}

/** All codes. A code is never reused for another meaning. */
export const ERROR_KINDS = {
  no_tenant_context: {
    sqlstate: 'RH001',
    httpStatus: 500,
    hint: 'Run the statement inside withTenant(id, fn), or set app.tenant_id in the transaction.',
  },
  tenant_not_found: {
    sqlstate: 'RH002',
    httpStatus: 404,
    hint: 'Create the tenant with rowhouse.tenants.provision(id).',
  },
  tenant_suspended: {
    sqlstate: 'RH003',
    httpStatus: 403,
    hint: 'Let the tenant work again with rowhouse.tenants.resume(id).',
  },
  tenant_inactive: {
    sqlstate: 'RH004',
    httpStatus: 403,
    hint: 'An inactive tenant is activated with rowhouse.tenants.resume(id); an erased one stays erased.',
  },
  tenant_mismatch: {
    sqlstate: 'RH005',
    httpStatus: 500,
    hint: 'Finish the work of one tenant before entering another; contexts of two tenants never nest.',
  },
  tenant_not_sealed: {
    sqlstate: 'RH007',
    httpStatus: 500,
    hint: 'Give createRowhouse the option seal, with a key that the database knows.',
  },
  invalid_seal: {
    sqlstate: 'RH008',
    httpStatus: 500,
    hint: 'Give createRowhouse the key that the database knows, as the option seal.',
  },
  invalid_tenant_id: {
    sqlstate: 'RH006',
    httpStatus: 400,
    hint: 'A tenant id is 1 to 64 letters, digits, underscores or hyphens.',
  },
  table_not_protectable: {
    sqlstate: 'RH010',
    httpStatus: 500,
    hint: 'Run protect_table as a dry run; its report names what stands in the way.',
  },
  table_not_protected: {
    sqlstate: 'RH011',
    httpStatus: 500,
    hint: 'Put the table under protection with rowhouse.protect_table(table).',
  },
  collection_not_found: {
    sqlstate: 'RH020',
    httpStatus: 404,
    hint: 'Create the collection with rowhouse.create_collection(name, dimensions).',
  },
  invalid_collection: {
    sqlstate: 'RH021',
    httpStatus: 400,
    hint: 'See the comment of rowhouse.create_collection for the accepted names, dimensions and metrics.',
  },
  pgvector_missing: {
    sqlstate: 'RH022',
    httpStatus: 500,
    hint: 'A superuser, or the administration console of a managed service, runs: create extension vector.',
  },
  invalid_embedding: {
    sqlstate: 'RH023',
    httpStatus: 400,
    hint: "An embedding has exactly the collection's number of dimensions, each a finite number.",
  },
  invalid_document: {
    sqlstate: 'RH024',
    httpStatus: 400,
    hint: 'A document has an id, text content and an embedding; metadata is a JSON object.',
  },
  invalid_filter: {
    sqlstate: 'RH025',
    httpStatus: 400,
    hint: "For example: { source: 'handbook', page: { $gte: 3 }, $or: [{ lang: 'de' }, { lang: { $exists: false } }] }.",
  },
  other_model: {
    sqlstate: 'RH026',
    httpStatus: 409,
    hint: 'Give documents(collection, { model, embed }) the embedding model that the collection has now.',
  },
  model_change_incomplete: {
    sqlstate: 'RH027',
    httpStatus: 409,
    retryable: true,
    hint: 'Fill in the embeddings that are missing with rowhouse.collections.changeModel, then it switches.',
  },
  unregistered_table: {
    sqlstate: 'RH030',
    httpStatus: 500,
    hint: 'Put the named table under rowhouse.protect_table, or delete the rows of the tenant from it, then erase again.',
  },
  residue_found: {
    sqlstate: 'RH031',
    httpStatus: 500,
    hint: 'Something kept rows of the tenant alive (a trigger or a rule on the named table); nothing was erased.',
  },
  tenant_busy: {
    sqlstate: 'RH032',
    httpStatus: 503,
    retryable: true,
    hint: 'Running transactions of the tenant did not finish in time; try again.',
  },
  tenant_moving: {
    sqlstate: 'RH033',
    httpStatus: 503,
    retryable: true,
    hint: 'Its rows are being moved; try again after retryAfterMs.',
  },
  tenant_moved: {
    sqlstate: 'RH034',
    httpStatus: 503,
    retryable: true,
    hint: 'Give createRowhouse the database where it is now: placements: { eu: { connectionString } }.',
  },
  import_refused: {
    sqlstate: 'RH035',
    httpStatus: 409,
    hint: 'See the message for what is in the way; nothing was imported.',
  },
  invalid_archive: {
    httpStatus: 400,
    hint: 'Copy the archive again from where it was exported, or export the tenant anew; nothing was imported.',
  },
  invalid_certificate: {
    httpStatus: 400,
    hint: 'Ask for the certificate and the public key again, from who erased the tenant.',
  },
  rate_limited: {
    httpStatus: 429,
    retryable: true,
    hint: 'Wait for retryAfterMs and try again.',
  },
  invalid_rate_limit: {
    sqlstate: 'RH041',
    httpStatus: 400,
    hint: 'For example: [{ limit: 10, windowMs: 1000 }, { limit: 100, windowMs: 60000 }].',
  },
  invalid_cost: {
    sqlstate: 'RH042',
    httpStatus: 400,
    hint: 'A cost is a whole number from 1 and at most the limit; split the call, or raise the limit.',
  },
  unknown_rate_limit: {
    sqlstate: 'RH043',
    httpStatus: 500,
    hint: "Set it for every tier with rowhouse.rateLimits.setDefault('*', name, windows).",
  },
  unknown_queue: {
    sqlstate: 'RH045',
    httpStatus: 500,
    hint: 'Define it with rowhouse.queues.define(name, { slots }).',
  },
  invalid_queue_request: {
    sqlstate: 'RH046',
    httpStatus: 400,
    hint: 'See the message for what is not accepted.',
  },
  queue_full: {
    sqlstate: 'RH047',
    httpStatus: 429,
    retryable: true,
    hint: 'Wait until some of the requests of the tenant have their slot, or let more of them wait: rowhouse.queues.setShare.',
  },
  queue_timeout: {
    httpStatus: 503,
    retryable: true,
    hint: 'Try again after retryAfterMs, or wait longer with deadlineMs.',
  },
  slot_lost: {
    httpStatus: 503,
    retryable: true,
    hint: 'It was not renewed in time, so somebody else may have the slot; stop the work, and ask again.',
  },
  unknown_quota: {
    sqlstate: 'RH050',
    httpStatus: 400,
    hint: 'Define a quota that counts it with rowhouse.quotas.define(name, { metric, period }).',
  },
  invalid_quota: {
    sqlstate: 'RH051',
    httpStatus: 400,
    hint: "For example: define('seats', { metric: 'seats', period: 'total' }).",
  },
  invalid_amount: {
    sqlstate: 'RH052',
    httpStatus: 400,
    hint: 'Units are an object of amounts from 0, such as { inputTokens: 1200, outputTokens: 800 }.',
  },
  unknown_price: {
    sqlstate: 'RH053',
    httpStatus: 400,
    hint: 'Set it with rowhouse.prices.set(model, prices); what is free has the price 0.',
  },
  invalid_price: {
    sqlstate: 'RH054',
    httpStatus: 400,
    hint: "For example: prices.set('large', { inputTokens: '3.00', outputTokens: '15.00' }).",
  },
  unknown_request: {
    sqlstate: 'RH055',
    httpStatus: 404,
    hint: 'Admit the call first, with the same request id; nothing was booked.',
  },
  request_id_used: {
    sqlstate: 'RH056',
    httpStatus: 409,
    hint: 'Give each call a request id of its own, or leave it out.',
  },
  reservation_expired: {
    sqlstate: 'RH057',
    httpStatus: 409,
    hint: 'What it held may be in use by others; stop the call and settle what it used.',
  },
  request_settled: {
    sqlstate: 'RH058',
    httpStatus: 409,
    hint: 'The call has ended; a new one needs a request id of its own.',
  },
  quota_exceeded: {
    httpStatus: 429,
    retryable: true,
    hint: 'Wait for retryAfterMs, reserve less, or raise the limit with rowhouse.quotas.set(tenantId, name, limits).',
  },
  budget_exceeded: {
    httpStatus: 402,
    hint: 'Raise the budget with rowhouse.quotas.set(tenantId, name, limits), or wait for its next period.',
  },
  circuit_open: {
    httpStatus: 503,
    retryable: true,
    hint: 'Wait for retryAfterMs, or close it with rowhouse.circuits.reset(tenantId, circuit).',
  },
  model_not_allowed: {
    httpStatus: 403,
    hint: 'Allow it with rowhouse.quotas.setAccount(tenantId, { models }) or setTierModels(tier, models).',
  },
  session_not_found: {
    sqlstate: 'RH060',
    httpStatus: 404,
    hint: 'Create a session with sessions.create(); it may also have expired or been deleted.',
  },
  invalid_session: {
    sqlstate: 'RH061',
    httpStatus: 400,
    hint: 'See the comment of rowhouse.create_session for what a session consists of.',
  },
  invalid_message: {
    sqlstate: 'RH062',
    httpStatus: 400,
    hint: 'A message has a role (system, user, assistant or tool) and content: text, or parts with a type.',
  },
  session_changed: {
    sqlstate: 'RH063',
    httpStatus: 409,
    hint: 'Read the messages that were appended meanwhile, then decide again.',
  },
  no_context_limit: {
    sqlstate: 'RH064',
    httpStatus: 400,
    hint: 'Give maxTokens, or set context.maxTokens in the settings of the tenant.',
  },
  provider_not_allowed: {
    sqlstate: 'RH065',
    httpStatus: 403,
    hint: 'Allow it with sessions.update(sessionId, { providers }), or create the session without providers.',
  },
  invalid_state: {
    sqlstate: 'RH070',
    httpStatus: 400,
    hint: 'Keys and names are 1 to 512 characters, values JSON of up to 1,048,576 bytes; only numbers are incremented.',
  },
  lock_lost: {
    sqlstate: 'RH071',
    httpStatus: 409,
    retryable: true,
    hint: 'The lease ended before the work did: write nothing more, acquire the lock again, or ask for a longer lease.',
  },
  lock_held: {
    httpStatus: 409,
    retryable: true,
    hint: 'Somebody else holds the lock; try again later, or wait longer with waitMs.',
  },
  invalid_channel: {
    sqlstate: 'RH072',
    httpStatus: 400,
    hint: 'Names and ids of members are 1 to 512 characters, messages JSON of up to 262,144 bytes.',
  },
  messages_expired: {
    sqlstate: 'RH073',
    httpStatus: 410,
    hint: 'Load what the messages were about anew, then subscribe without after, or with after: 0 for what is kept.',
  },
  invalid_cursor: {
    httpStatus: 400,
    hint: 'Give nextCursor of the page before to the same list with the same filters, or leave it out to begin anew.',
  },
  invalid_audit_entry: {
    sqlstate: 'RH090',
    httpStatus: 400,
    hint: 'An entry has an action, and the fields of AuditEntryInput; detail is a JSON object.',
  },
  audit_append_only: {
    sqlstate: 'RH091',
    httpStatus: 500,
    hint: 'Audit entries are never changed; retention removes old ones: rowhouse.auditLog.purge(id, { before }).',
  },
  audit_not_written: {
    httpStatus: 503,
    retryable: true,
    hint: 'The database could not be reached; log the entries elsewhere, or keep the process until it can.',
  },
  rowhouse_closed: {
    httpStatus: 503,
    hint: 'End what uses rowhouse before rowhouse.close(), or give close() work to wait for by waitUntil.',
  },
  invalid_api_key: {
    httpStatus: 401,
    hint: 'The reason is in the property reason, and in the audit trail of the tenant; never send it to the caller.',
  },
  too_many_attempts: {
    httpStatus: 429,
    retryable: true,
    hint: 'Many wrong keys came from this address; wait for retryAfterMs.',
  },
  invalid_api_key_options: {
    sqlstate: 'RH092',
    httpStatus: 400,
    hint: 'A key has a name, scopes, and networks such as 203.0.113.0/24.',
  },
  api_key_not_found: {
    sqlstate: 'RH093',
    httpStatus: 404,
    hint: 'The ids of the keys of a tenant: rowhouse.apiKeys.list(id).',
  },
  settings_conflict: {
    sqlstate: 'RH080',
    httpStatus: 409,
    hint: 'Somebody else changed the settings; load them again and apply the change to what they are now.',
  },
  invalid_settings: {
    sqlstate: 'RH081',
    httpStatus: 400,
    hint: 'See the message; the schema is the one that defineSettings was given.',
  },
  invalid_credential: {
    sqlstate: 'RH094',
    httpStatus: 400,
    hint: 'A name is 1 to 200 letters, digits, or _ . : / -; a value is text of up to 64 KB.',
  },
  credential_key_rotated: {
    sqlstate: 'RH095',
    httpStatus: 503,
    retryable: true,
    hint: 'The data key of the tenant was rotated at the same moment; try again.',
  },
  credential_unreadable: {
    httpStatus: 500,
    hint: 'The master key is not the one that encrypted it, or the row was changed or copied from elsewhere.',
  },
  master_key_missing: {
    httpStatus: 500,
    hint: 'Give createRowhouse a provider of master keys: credentials: { keys: masterKeysFromEnvironment() }.',
  },
  key_service_unavailable: {
    httpStatus: 503,
    retryable: true,
    hint: 'Try again; the key management service, or the way to it, is down or overloaded.',
  },
  invalid_job: {
    sqlstate: 'RH075',
    httpStatus: 400,
    hint: 'A job has a task, a payload that is a JSON value of at most 1 MB, and the options of EnqueueOptions.',
  },
  job_lost: {
    sqlstate: 'RH076',
    httpStatus: 409,
    hint: 'Stop: the job was cancelled, or its lease ended and another worker has begun it.',
  },
  job_queue_missing: {
    sqlstate: 'RH077',
    httpStatus: 500,
    hint: 'Install the queue library, then run jobs.install() once, as the login that owns its schema.',
  },
  invalid_event: {
    sqlstate: 'RH096',
    httpStatus: 400,
    hint: 'An event has a name of 1 to 100 characters, and properties that are a JSON object of at most 65536 bytes.',
  },
  unauthenticated: {
    httpStatus: 401,
    hint: 'The request shows no token and no API key.',
  },
  invalid_token: {
    httpStatus: 401,
    hint: 'The reason is in the property cause: signature, issuer, audience, expiry, or no tenant in the token.',
  },
  keys_unavailable: {
    httpStatus: 503,
    retryable: true,
    hint: 'See the property cause; check the URL of the keys and the way to it.',
  },
  invalid_request: {
    httpStatus: 400,
    hint: 'The request line or the header Host is malformed.',
  },
  tenant_required: {
    httpStatus: 400,
    hint: 'The request names no tenant in any of the ways that the middleware looks at.',
  },
  tenant_disagreement: {
    httpStatus: 403,
    hint: 'The caller belongs to another tenant than the one that the request names; send the right one, or none.',
  },
  resource_not_found: {
    httpStatus: 404,
    hint: 'The address names another tenant than the one of the caller, who learns nothing of it.',
  },
  connection_tainted: {
    httpStatus: 500,
    hint: 'Leave begin, commit and rollback to withTenant; use db.transaction() for savepoints.',
  },
  unawaited_query: {
    httpStatus: 500,
    hint: 'Await every query before the callback returns; the transaction was rolled back.',
  },
  context_ended: {
    httpStatus: 500,
    hint: 'The database handle of a callback works only until the callback returns.',
  },
  aborted_transaction: {
    httpStatus: 500,
    hint: 'A statement had failed, so commit rolled back; let the error leave the callback or use a savepoint.',
  },
  role_not_restricted: {
    httpStatus: 500,
    hint: 'Use the role rowhouse_app, or another that is no superuser, has no BYPASSRLS and owns no tenant table.',
  },
  not_migrated: { httpStatus: 500, hint: 'Run `npx rowhouse migrate` or rowhouse.migrate() once.' },
  migration_failed: {
    httpStatus: 500,
    hint: 'Nothing of it was applied; mend what the message names and migrate again.',
  },
  database_newer: {
    httpStatus: 500,
    hint: 'The database was migrated by a newer rowhouse; deploy that version or a later one.',
  },
  server_too_old: { httpStatus: 500, hint: 'rowhouse needs PostgreSQL 15 or later.' },
  missing_privilege: { httpStatus: 500, hint: 'See the message for the statement that grants what is missing.' },
  connection_failed: {
    httpStatus: 503,
    retryable: true,
    hint: 'Check host, port, database, user and password, and that the server accepts connections.',
  },
  invalid_argument: { httpStatus: 400, hint: 'See the message.' },
} as const satisfies Record<string, ErrorKind>

/** The stable name of a failure, for example `tenant_suspended`. */
export type RowhouseErrorCode = keyof typeof ERROR_KINDS
