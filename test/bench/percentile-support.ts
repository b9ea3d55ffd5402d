/** The sample below which that fraction of all samples lies. */
export function percentile(samples: readonly number[], fraction: number): number {
  return samples.toSorted((one, other) => one - other)[Math.floor(samples.length * fraction)]!
}

export function median(samples: readonly number[]): number {
  return percentile(samples, 0.5)
}
