import type pg from 'pg'
import { afterAll, beforeAll, expect } from 'vitest'
import { createRowhouse, type Metric, type Rowhouse, RowhouseError } from '../../src/index.ts'
import type { TestDatabase } from '../setup/database.ts'

export const ACME = 'acme'
export const GLOBEX = 'globex'

export interface DocumentsFixture {
  rowhouse: Rowhouse
  /** A connection of the application, for SQL of its own. */
  app: pg.Client
}

/** rowhouse on the database of the file, with the tenants acme and globex. */
export function useRowhouse(database: TestDatabase): DocumentsFixture {
  const fixture = {} as DocumentsFixture
  beforeAll(async () => {
    fixture.app = await database.connect('app')
    fixture.rowhouse = createRowhouse({
      pool: database.pool('app', { max: 5 }),
      admin: { pool: database.pool('operator', { max: 2 }) },
    })
    const operator = await database.connect('operator')
    for (const tenantId of [ACME, GLOBEX]) await provision(operator, tenantId)
  })
  afterAll(() => fixture.rowhouse?.close())
  return fixture
}

export async function provision(operator: pg.Client, tenantId: string): Promise<void> {
  await asOperator(operator, 'select rowhouse.provision_tenant($1)', tenantId)
}

/** Runs one statement as rowhouse_admin. */
export async function asOperator(operator: pg.Client, sql: string, ...values: unknown[]): Promise<any[]> {
  await operator.query('begin; set local role rowhouse_admin')
  try {
    const { rows } = await operator.query(sql, values)
    await operator.query('commit')
    return rows
  } catch (error) {
    await operator.query('rollback')
    throw error
  }
}

/** The same numbers in every run: between -1 and 1, spread evenly. */
export function createRandom(seed: number): () => number {
  let state = seed
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 31 - 1
  }
}

export function randomVectors(seed: number, count: number, dimensions: number): number[][] {
  const random = createRandom(seed)
  return Array.from({ length: count }, () =>
    Array.from({ length: dimensions }, () => Math.round(random() * 1000) / 1000),
  )
}

/** The distance as pgvector defines it. */
export function distance(metric: Metric, one: readonly number[], other: readonly number[]): number {
  const product = (a: readonly number[], b: readonly number[]) =>
    a.reduce((sum, value, index) => sum + value * b[index]!, 0)
  if (metric === 'inner_product') return -product(one, other)
  if (metric === 'l2') return Math.hypot(...one.map((value, index) => value - other[index]!))
  return 1 - product(one, other) / Math.sqrt(product(one, one) * product(other, other))
}

/** Positions of the vectors nearest to `query`, nearest first. */
export function nearest(
  metric: Metric,
  vectors: readonly number[][],
  query: readonly number[],
  count: number,
): number[] {
  const distances = vectors.map((vector) => distance(metric, vector, query))
  return [...vectors.keys()].sort((one, other) => distances[one]! - distances[other]!).slice(0, count)
}

/** The call fails with an error of rowhouse of this code; returns it. */
export async function expectError(
  call: Promise<unknown>,
  code: string,
  message?: RegExp | string,
): Promise<RowhouseError> {
  const error = await call.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(RowhouseError)
  expect(error).toMatchObject({ code, ...(message === undefined ? {} : { message: expect.stringMatching(message) }) })
  return error as RowhouseError
}
