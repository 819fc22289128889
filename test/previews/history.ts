import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { createWriteStream } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { type PastSeries, pastOf, processOf, type Story } from './past.ts'

/** What Prometheus stores of a scrape, as the start of a line of OpenMetrics. */
function scraped(story: Story, instance: string): { readonly start: string; readonly at: PastSeries['at'] }[] {
  return [...pastOf(story), ...processOf(story)].map(({ name, labels: { job: ours, ...others }, at }) => {
    const labels = { job: 'lifeboat', instance, ...others, ...(ours === undefined ? {} : { exported_job: ours }) }
    const inside = Object.entries(labels).map(([label, text]) => `${label}="${text}"`)
    return { start: `${name}{${inside.join(',')}} `, at }
  })
}

export interface Span {
  readonly from: number
  readonly to: number
  /** Seconds between two scrapes. */
  readonly step: number
}

/** An alert that has fired since a moment, as Prometheus stores it. */
export interface FiredAlert {
  readonly labels: Readonly<Record<string, string>>
  readonly from: number
}

/**
 * Writes blocks of Prometheus into `data`: of each cluster what its sidecar would have served within the spans, which follow
 * each other. Each span is one pass, and needs room for its text beside them: about 110 bytes a sample.
 */
export async function writeHistory(
  data: string,
  stories: readonly Story[],
  spans: readonly Span[],
  alerts: readonly FiredAlert[] = [],
): Promise<void> {
  const file = join(data, '..', 'history.txt')
  const all = stories.flatMap((story) => scraped(story, `${story.cluster}:10187`))
  all.push(
    ...alerts.map(({ labels, from }) => ({
      start: `ALERTS{${Object.entries(labels)
        .map(([label, text]) => `${label}="${text}"`)
        .join(',')}} `,
      at: (time: number) => (time < from ? null : 1),
    })),
  )
  for (const { from, to, step } of spans) {
    const out = createWriteStream(file, { highWaterMark: 1 << 20 })
    for (let time = from; time < to; time += step) {
      let text = ''
      for (const { start, at } of all) {
        const value = at(time)
        if (value !== null) text += `${start}${value} ${time}\n`
      }
      if (!out.write(text)) await once(out, 'drain')
    }
    out.end('# EOF\n')
    await once(out, 'finish')
    const longest = `--max-block-duration=${Math.max(2, Math.ceil((to - from) / 3_600))}h`
    const made = spawnSync('promtool', ['tsdb', 'create-blocks-from', longest, 'openmetrics', file, data], {
      encoding: 'utf8',
    })
    if (made.error !== undefined) throw made.error
    if (made.status !== 0) throw new Error(`promtool: ${made.stdout}${made.stderr}`)
    await rm(file)
  }
}
