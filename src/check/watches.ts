import type { Clock } from '../clock.ts'
import type { ValidatedConfig } from '../config/validated.ts'
import { newestOf } from '../observe/external-catalog.ts'
import { surveyFiles } from '../observe/external-targets.ts'
import { type Finding, looked, ok, warning } from './finding.ts'

/** Looks at every watched directory: whether it can be read, holds anything that fits, and how old the newest is. */
export async function checkWatches(
  { watch }: ValidatedConfig,
  clock: Clock,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const found = await Promise.all(
    watch.map((place) =>
      looked('watch', async () => {
        const files = await surveyFiles(place, { store: null, clock, signal })
        if (files.length === 0) {
          return [
            warning(
              'watch',
              `${place.name}: nothing in ${place.directory} fits ${JSON.stringify(place.pattern)}`,
              'compare watch.pattern with the names of the files',
            ),
          ]
        }
        const [newest] = newestOf(files, 1)
        const ageSeconds = newest === undefined ? 0 : (clock.now().getTime() - newest.facts.modified) / 1000
        const what = `${place.name}: ${files.length} files in ${place.directory}, the newest ${Math.round(ageSeconds / 3600)} h old`
        return [
          ageSeconds > place.maxAgeSeconds
            ? warning('watch', what, 'look at what writes them, or set watch.maxAge')
            : ok('watch', what),
        ]
      }),
    ),
  )
  return found.flat()
}
