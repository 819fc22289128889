import type { Alert, AlertGroup } from './alert.ts'
import { groups } from './groups.ts'
import { severities } from './names.ts'

const introduction = `# Alerts

<!-- Written by \`npm run docs\` from src/alerts: change it there. -->

[alerts/lifeboat.rules.yml](../alerts/lifeboat.rules.yml) is for \`rule_files\` of Prometheus (2.42 or later), [alerts/prometheusrule.yaml](../alerts/prometheusrule.yaml) the same for its operator. They
serve every cluster as they are: limits come from the configuration of Lifeboat, as \`lifeboat_policy_*\`.

- **critical**: data is being lost, or could not be brought back. Somebody gets up. **warning**: somebody looks during the day. **none**: the Watchdog, which always fires, for a heartbeat outside.
- Two sidecars that watch one cluster give one alert, whichever of them says it.
- Where something is not known there is no series: \`LifeboatCollectorFailing\`, \`LifeboatClusterVanished\` and \`LifeboatAbsent\` tell then, and ages go on growing.
- What has to last for a quarter of an hour or longer, or tells of a run that is over, is evaluated every other minute (groups \`….slowly\`), all else at your \`evaluation_interval\`. What rules look back at over hours and days is stored four times an hour (\`lifeboat.memory\`): they know nothing of the time before they were loaded.
- The scrape job must have \`lifeboat\` in its name for \`LifeboatExporterDown\`. The label \`job\` of some metrics may stay \`exported_job\`, or be honoured (\`honor_labels\`): both work.
- Where they go from there, by severity, and which warnings a critical alert holds back: [alertmanager.md](alertmanager.md), with an example for Alertmanager.
- Each alert has a runbook. \`runbook_url\` and \`dashboard_url\` are relative, since nobody but you knows where the documents and Grafana are:

\`\`\`sh
sed -i -e 's|runbook_url: |&https://git.example.org/lifeboat/blob/main/|' -e 's|dashboard_url: "\\{0,1\\}|&https://grafana.example.org|' lifeboat.rules.yml
\`\`\`

A change of yours, such as another \`for\`, belongs into a copy: silences and routes refer to names and severities, which stay.
`

/** docs/alerts.md: every alert by group. */
export function renderAlertsDocument(): string {
  return [introduction, ...groups.map(sectionOf)].join('\n')
}

function sectionOf({ about, alerts }: AlertGroup): string {
  return [
    `## ${about}`,
    '',
    '| alert | severity | for | meaning | first |',
    '|---|---|---|---|---|',
    ...alerts.map(rowOf),
    '',
  ].join('\n')
}

function rowOf({ alert, for: lasting, summary, description, first }: Alert): string {
  const cells = [
    `[${alert}](runbooks/${alert}.md)`,
    severities[alert],
    lasting,
    `${plain(summary)}. ${plain(description)}`,
    first,
  ]
  return `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`
}

/** A template with words in the places of values. */
function plain(text: string): string {
  return text
    .replaceAll(/\{\{ with \$labels\.database \}\}.*?\{\{ end \}\}/g, '')
    .replaceAll(/\{\{ \$labels\.(\w+) \}\}/g, (_, label: string) => `_${label.replace('_name', '').replace('_', ' ')}_`)
    .replaceAll(/\{\{ \$value[^}]*\}\}B?/g, '_so much_')
}
