import { mkdir, readFile, writeFile } from 'node:fs/promises'
import type { Dashboard } from '@grafana/grafana-foundation-sdk/dashboard'
import { backups } from './src/backups.ts'
import { overview } from './src/overview.ts'
import { sidecar } from './src/sidecar.ts'
import { verification } from './src/verification.ts'
import { wal } from './src/wal.ts'

/** The dashboards, in the order in which somebody looks at them. */
export const dashboards: readonly Dashboard[] = [overview, backups, wal, verification, sidecar]

/** Where a dashboard is stored, and as what. A test compares, so that none can drift. */
export function fileOf(dashboard: Dashboard): URL {
  return new URL(`dashboards/${dashboard.uid}.json`, import.meta.url)
}

export function render(dashboard: Dashboard): string {
  return `${JSON.stringify(dashboard, null, 2)}\n`
}

/** Writes the files that are not as the code says, and names them. */
async function writeDashboards(): Promise<void> {
  await mkdir(new URL('dashboards/', import.meta.url), { recursive: true })
  for (const dashboard of dashboards) {
    const wanted = render(dashboard)
    const present = await readFile(fileOf(dashboard), 'utf8').catch(() => null)
    if (present === wanted) continue
    await writeFile(fileOf(dashboard), wanted)
    console.log(`wrote ${fileOf(dashboard).pathname}`)
  }
}

if (import.meta.main) await writeDashboards()
