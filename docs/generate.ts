import { readFile, writeFile } from 'node:fs/promises'
import { renderAlertsDocument } from '../src/alerts/document.ts'
import { renderPrometheusRule, renderRules } from '../src/alerts/render.ts'
import { renderConfigurationDocument, renderExample } from '../src/config/document.ts'
import { renderErrorsDocument } from '../src/domain/errors.ts'
import { renderMetricsDocument } from '../src/metrics/document.ts'

/** A page that is made from the code. A test compares each with what is stored, so that none can drift. */
export const pages: readonly (readonly [file: string, render: () => string | Promise<string>])[] = [
  ['configuration.md', renderConfigurationDocument],
  ['lifeboat.example.yaml', renderExample],
  ['errors.md', renderErrorsDocument],
  ['metrics.md', renderMetricsDocument],
  ['alerts.md', renderAlertsDocument],
  ['../alerts/lifeboat.rules.yml', renderRules],
  ['../alerts/prometheusrule.yaml', renderPrometheusRule],
]

/** Writes the pages that are not as the code says, and names them. */
async function writePages(): Promise<void> {
  for (const [file, render] of pages) {
    const place = new URL(file, import.meta.url)
    const wanted = await render()
    const present = await readFile(place, 'utf8').catch(() => null)
    if (present === wanted) continue
    await writeFile(place, wanted)
    console.log(`wrote ${new URL(file, `file:///docs/`).pathname.slice(1)}`)
  }
}

if (import.meta.main) await writePages()
