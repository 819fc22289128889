import { readFile } from 'node:fs/promises'
import { dashboards, fileOf } from '../../grafana/generate.ts'
import { type StoredDashboard, type StoredPanel, type StoredTarget, settingsOf } from './shown.ts'

/** The dashboards as they are committed. */
export const stored: readonly StoredDashboard[] = await Promise.all(
  dashboards.map(async (dashboard) => JSON.parse(await readFile(fileOf(dashboard), 'utf8')) as StoredDashboard),
)

export interface Question {
  readonly dashboard: StoredDashboard
  readonly panel: StoredPanel
  readonly target: StoredTarget
  /** For the reader of a test, as `backups: Newest backups / Size`. */
  readonly name: string
}

/** Every query of every panel. */
export const questions: readonly Question[] = stored.flatMap((dashboard) =>
  dashboard.panels.flatMap((panel) =>
    (panel.targets ?? []).map((target) => {
      const { title } = settingsOf(panel, target.refId)
      const name = `${dashboard.uid.replace('lifeboat-', '')}: ${panel.title}${title === null ? '' : ` / ${title}`}`
      return { dashboard, panel, target, name }
    }),
  ),
)
