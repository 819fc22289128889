import { type MetricDefinition, metricDefinitions } from './names.ts'
import { conditions, type ExampleQuery, figures } from './queries.ts'

const headings: Readonly<Record<MetricDefinition['family'], string>> = {
  build: 'Lifeboat itself',
  server: 'The server',
  wal: 'WAL',
  collectors: 'The observers',
  backups: 'Backups',
  verification: 'Verification',
  repositories: 'Repositories',
  jobs: 'Jobs',
  policy: 'Policy',
  tellings: 'Hooks, notifications and drills of alerts',
}

const introduction = `# Metrics

<!-- Written by \`node docs/generate.ts\` from src/metrics/names.ts: change it there. -->

\`/metrics\` serves a picture held in memory: no disk, server or network is touched by a scrape. Observers refresh the
picture in the background. One that fails or hangs keeps what it saw last and says so by \`lifeboat_collector_success\`.

- Every metric carries \`cluster_name\`, but \`lifeboat_build_info\` and those of the process (\`process_*\`, \`nodejs_*\`).
- What is not known has no series: 0 always means zero. "Never" is therefore asked with \`unless\`, not with \`== 0\`.
- Moments are given, never ages: \`time() - x_timestamp_seconds\` goes on growing when Lifeboat stops.
- Limits come from the configuration as \`lifeboat_policy_*\`, so the same alert rules serve every cluster.
- The label \`job\` is that of Lifeboat. Prometheus calls it \`exported_job\`, since targets have a \`job\` of their own, unless
  \`honor_labels\` is set: queries here take either.
- Where two sidecars may watch one cluster, aggregate both sides of a comparison with \`max by (…)\`.
- \`backup_type\` is \`dump\`, \`full\`, \`incremental\` or \`external\`; \`level\` is \`artifact\`, \`restore\` or \`data\`; \`result\` is
  \`pass\`, \`fail\` or \`inconclusive\`. No label holds a backup id: ask the API for inventories.
- The newest backup is the one with the newest content among those of the present cluster (system identifier).
- A backup that a restore has proven stays proven until a later verification of it fails. A failure stands until a
  later one passes at that level or deeper; a recovery point leaves out dumps whose failure stands.
- Which databases must be backed up outlives the server: while it cannot be asked, they are those of \`postgres.databases\`,
  else those that it had when it was last seen (kept in \`stateDir\`), else those that have backups. The same goes for
  \`lifeboat_cluster_info\`. Only \`lifeboat_up\` says whether it answers.
- A database that appears has a maximum age of backups at once, but ends no recovery point until it is older than that
  without a backup: one \`CREATE DATABASE\` must not hide how old the others are.
- Verifications of databases that are gone from the server (or the configuration) end.
`

/** docs/metrics.md: every metric by family, then queries that use them. */
export function renderMetricsDocument(): string {
  const definitions: [string, MetricDefinition][] = Object.entries(metricDefinitions)
  const sections = Object.entries(headings).map(([family, heading]) => {
    const rows = definitions
      .filter(([, definition]) => definition.family === family)
      .map(([name, { type, unit, labels, help }]) => {
        const labelled = labels.map((label) => `\`${label}\``).join(', ')
        return `| \`${name}\` | ${type} | ${unit} | ${labelled} | ${help} |`
      })
    return [
      `## ${heading}`,
      '',
      '| name | type | unit | labels | meaning |',
      '|---|---|---|---|---|',
      ...rows,
      '',
    ].join('\n')
  })
  const examples = [
    '## Conditions\n',
    'They give nothing while all is well. The [alerts](alerts.md) are made of them, and of some more.\n',
    ...conditions.map(describe),
    '## Figures\n',
    ...figures.map(describe),
  ]
  return [introduction, ...sections, ...examples].join('\n')
}

function describe({ name, tells, query }: ExampleQuery): string {
  return `### ${name}\n\n${tells}\n\n\`\`\`promql\n${query}\n\`\`\`\n`
}
