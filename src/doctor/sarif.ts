import { packageVersion } from '../migrate/package-version.ts'
import type { Finding, FindingLevel } from './finding.ts'
import type { Lint } from './lint.ts'

const SARIF_LEVELS: Readonly<Record<FindingLevel, 'error' | 'warning' | 'note'>> = {
  error: 'error',
  warning: 'warning',
  info: 'note',
}

/**
 * The findings as a log of SARIF 2.1.0, which code scanning services read. Objects of a database are no files, so they
 * are logical locations.
 */
export function toSarif(findings: readonly Finding[], lints: readonly Lint[], database: string): object {
  return {
    $schema: 'https://json.schemastore.org/sarif-2.1.0.json',
    version: '2.1.0',
    runs: [
      {
        tool: {
          driver: {
            name: 'rowhouse doctor',
            semanticVersion: packageVersion(),
            informationUri: 'https://www.npmjs.com/package/rowhouse',
            rules: lints.map(({ name, level, summary, ramification, resolution }) => ({
              id: name,
              shortDescription: { text: summary },
              fullDescription: { text: `${summary} ${ramification}` },
              help: { text: resolution },
              defaultConfiguration: { level: SARIF_LEVELS[level] },
            })),
          },
        },
        columnKind: 'utf16CodeUnits',
        results: findings.map(({ name, level, table, object, detail, mend, cacheKey }) => ({
          ruleId: name,
          ruleIndex: lints.findIndex((lint) => lint.name === name),
          level: SARIF_LEVELS[level],
          message: { text: `${object}: ${detail}. ${mend}` },
          locations: [
            {
              logicalLocations: [
                {
                  name: object,
                  fullyQualifiedName: `${database}/${table ?? object}`,
                  kind: table === null ? 'object' : 'table',
                },
              ],
            },
          ],
          partialFingerprints: { 'rowhouse/v1': cacheKey },
        })),
      },
    ],
  }
}
