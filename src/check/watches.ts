import type { Clock } from '../clock.ts'
import type { ValidatedConfig } from '../config/validated.ts'
import { brokenHint, type KnownFile, newestOf, restoresNothing } from '../observe/external-catalog.ts'
import { surveyFiles } from '../observe/external-targets.ts'
import type { InspectionStore } from '../observe/inspections.ts'
import { type Finding, looked, ok, problem, warning } from './finding.ts'

type Watch = ValidatedConfig['watch'][number]

/**
 * Looks at every watched directory: whether it can be read, holds anything that fits, and of each database how old the
 * newest file is and whether it is known to be broken. `store` has what the sidecar has read; null without one.
 */
export async function checkWatches(
  { watch }: ValidatedConfig,
  { store, clock, signal }: { store: InspectionStore | null; clock: Clock; signal: AbortSignal },
): Promise<readonly Finding[]> {
  const found = await Promise.all(
    watch.map((place) =>
      looked('watch', async () => {
        const files = await surveyFiles(place, { store, clock, signal })
        if (files.length === 0) {
          return [
            warning(
              'watch',
              `${place.name}: nothing in ${place.directory} fits ${JSON.stringify(place.pattern)}`,
              'compare watch.pattern with the names of the files',
            ),
          ]
        }
        const groups = [...Map.groupBy(files, ({ database }) => database)]
        return [
          ok('watch', `${place.name}: ${files.length} files in ${place.directory}`),
          ...groups.flatMap(([database, group]) => checkDatabase(place, { database, files: group, now: clock.now() })),
        ]
      }),
    ),
  )
  return found.flat()
}

function checkDatabase(
  { name, maxAgeSeconds }: Watch,
  { database, files, now }: { database: string; files: readonly KnownFile[]; now: Date },
): Finding[] {
  const of = `${name}: ${JSON.stringify(database)}`
  const findings: Finding[] = []
  const [newest] = newestOf(files, 1)
  if (newest !== undefined && restoresNothing(newest.state)) {
    const why = newest.inspection?.detail ?? 'it is too small'
    findings.push(
      problem('watch', `${of}: the newest file ${JSON.stringify(newest.name)} is ${newest.state}: ${why}`, brokenHint),
    )
  }
  const [whole] = newestOf(
    files.filter(({ state }) => !restoresNothing(state)),
    1,
  )
  if (whole === undefined) return [...findings, problem('watch', `${of}: no file could be restored`, brokenHint)]
  const hours = (seconds: number) => Math.round(seconds / 3600)
  const ageSeconds = (now.getTime() - whole.facts.modified) / 1000
  const unread = whole.state === 'sound' ? '' : ` (${whole.state})`
  const age = `${of}: ${JSON.stringify(whole.name)}${unread} is ${hours(ageSeconds)} h old`
  const limit = `, which is more than watch.maxAge (${hours(maxAgeSeconds)} h)`
  findings.push(
    ageSeconds > maxAgeSeconds
      ? warning('watch', `${age}${limit}`, 'look at what writes them: its cron job, its log, its disk')
      : ok('watch', age),
  )
  return findings
}
