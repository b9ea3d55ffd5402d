/**
 * Deterministic vectors that are clustered as embeddings are; uniform noise has no neighbours worth finding.
 *
 * A vector is a topic plus noise, scaled to length 1. The 1,000 topics are random directions. Most of the noise, one and
 * a half times as long as the topic, lies in a space of 32 dimensions that all vectors share: as with real embeddings,
 * neighbours differ in far fewer ways than there are dimensions. The rest, 0.3 times as long, lies in all 128.
 * A new vector finds its nearest neighbour at a cosine similarity of about 0.6 and the tenth at about 0.5. A
 * tenant writes about 20 of the topics, or about all; tenants share them, so the nearest vectors of the whole table
 * are mostly somebody else's.
 */
export const DIMENSIONS = 128
const TOPICS = 1000
const FEW_TOPICS = 20
const NOISE_DIMENSIONS = 32
const SHARED_NOISE = 1.5
const OTHER_NOISE = 0.3

/** A generator of numbers from 0 up to 1: Mulberry32, the same sequence for the same seed. */
function createRandom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** Writes numbers of a normal distribution around 0 (Box and Muller). */
function fillGaussian(target: Float32Array, random: () => number, deviation: number): void {
  for (let index = 0; index < target.length; index += 2) {
    const radius = deviation * Math.sqrt(-2 * Math.log(1 - random()))
    const angle = 2 * Math.PI * random()
    target[index] = radius * Math.cos(angle)
    target[index + 1] = radius * Math.sin(angle)
  }
}

function createDirections(seed: number, count: number): Float32Array[] {
  const random = createRandom(seed)
  return Array.from({ length: count }, () => {
    const direction = new Float32Array(DIMENSIONS)
    fillGaussian(direction, random, 1)
    normalize(direction)
    return direction
  })
}

const topics = createDirections(1, TOPICS)
const noiseDirections = createDirections(2, NOISE_DIMENSIONS)

/** `count` vectors, one after another. Tenants differ in their topics; each seed gives other vectors about them. */
export function createVectors(tenant: number, about: 'few' | 'all', seed: number, count: number): Float32Array {
  const pick = createRandom(1000 + tenant)
  const own = about === 'all' ? topics : Array.from({ length: FEW_TOPICS }, () => topics[Math.floor(pick() * TOPICS)]!)
  const random = createRandom(seed)
  const vectors = new Float32Array(count * DIMENSIONS)
  const shared = new Float32Array(NOISE_DIMENSIONS)
  for (let row = 0; row < count; row++) {
    const vector = vectors.subarray(row * DIMENSIONS, (row + 1) * DIMENSIONS)
    fillGaussian(vector, random, OTHER_NOISE / Math.sqrt(DIMENSIONS))
    fillGaussian(shared, random, SHARED_NOISE / Math.sqrt(NOISE_DIMENSIONS))
    const topic = own[Math.floor(random() * own.length)]!
    for (let index = 0; index < DIMENSIONS; index++) vector[index]! += topic[index]!
    for (let noise = 0; noise < NOISE_DIMENSIONS; noise++) {
      const direction = noiseDirections[noise]!
      const length = shared[noise]!
      for (let index = 0; index < DIMENSIONS; index++) vector[index]! += length * direction[index]!
    }
    normalize(vector)
    // As they are sent, so that the truth by brute force and the database see the same numbers.
    for (let index = 0; index < DIMENSIONS; index++) vector[index] = round(vector[index]!)
  }
  return vectors
}

/** Row `row` of the vectors, as the client takes it. */
export function toArray(vectors: Float32Array, row: number): number[] {
  return Array.from(vectors.subarray(row * DIMENSIONS, (row + 1) * DIMENSIONS), round)
}

function round(value: number): number {
  return Math.round(value * 1e4) / 1e4
}

function normalize(vector: Float32Array): void {
  let squares = 0
  for (let index = 0; index < vector.length; index++) squares += vector[index]! ** 2
  const length = Math.sqrt(squares)
  for (let index = 0; index < vector.length; index++) vector[index]! /= length
}
