import { type Clock, withDeadline } from '../clock.ts'
import type { ValidatedConfig } from '../config/validated.ts'
import { LifeboatError } from '../domain/errors.ts'
import { brokenHint, type KnownFile, newestOf, restoresNothing } from '../observe/external-catalog.ts'
import { surveyFiles } from '../observe/external-targets.ts'
import type { InspectionStore } from '../observe/inspections.ts'
import { WatchedBucket } from '../observe/watched-bucket.ts'
import type { Storage } from '../storage/storage.ts'
import { type Finding, looked, ok, problem, warning } from './finding.ts'

interface Looking {
  readonly buckets: readonly {
    readonly place: ValidatedConfig['watchedBuckets'][number]
    readonly storage: Pick<Storage, 'list'>
  }[]
  /** What the sidecar has read; null without one. */
  readonly store: InspectionStore | null
  readonly clock: Clock
  readonly signal: AbortSignal
}

/** What is asked of a watch, a directory or a bucket. */
interface Watch {
  readonly name: string
  readonly maxAgeSeconds: number
}

/**
 * Looks at every watched directory and bucket: whether it can be read, holds anything that fits, and of each database how old the
 * newest file is and whether it is known to be broken.
 */
export async function checkWatches(
  { watch, observe }: Pick<ValidatedConfig, 'watch' | 'observe'>,
  { buckets, store, clock, signal }: Looking,
): Promise<readonly Finding[]> {
  const now = () => clock.now()
  const found = await Promise.all([
    ...watch.map((place) => {
      const look = async () => {
        const files = await surveyFiles(place, { store, clock, signal })
        return tell({ ...place, where: place.directory }, files, now())
      }
      return looked('watch', look, place.name)
    }),
    ...buckets.map(({ place, storage }) => {
      const look = async () => {
        const ms = 1000 * observe.timeoutSeconds
        const reason = new LifeboatError('timed-out', `it has not been listed within ${observe.timeoutSeconds} s`, {
          hint: 'see whether its server hangs, and the network between; if it is only slow, raise observe.timeout',
        })
        const bucket = new WatchedBucket({ place, storage, clock, holds: () => new Map() })
        await withDeadline(clock, { ms, reason, signals: [signal] }, (stop) => bucket.look(stop))
        const files = bucket.files()
        return tell({ ...place, where: `the bucket ${place.bucket.bucket}` }, files, now())
      }
      return looked('watch', look, place.name)
    }),
  ])
  return found.flat()
}

function tell(
  place: Watch & { readonly where: string; readonly pattern: string },
  files: readonly KnownFile[],
  now: Date,
): readonly Finding[] {
  const { name, where, pattern } = place
  if (files.length === 0) {
    const what = `${name}: nothing in ${where} fits ${JSON.stringify(pattern)}`
    return [warning('watch', what, 'compare watch.pattern with the names of the files')]
  }
  const groups = [...Map.groupBy(files, ({ database }) => database)]
  return [
    ok('watch', `${name}: ${files.length} files in ${where}`),
    ...groups.flatMap(([database, group]) => checkDatabase(place, { database, files: group, now })),
  ]
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
