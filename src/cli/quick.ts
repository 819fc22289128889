import type { QuickContext } from './command.ts'
import { report } from './report.ts'
import { runFetch, runPrefetch } from './wal-fetch.ts'

/**
 * Commands that a recovery waits for, in a module of their own: to load all the others takes as long as to do the work.
 * Null where it is none of them.
 */
export function quickCommand([group, name, ...rest]: readonly string[]) {
  const action =
    group !== 'wal' ? undefined : name === 'fetch' ? runFetch : name === 'prefetch' ? runPrefetch : undefined
  if (action === undefined || rest.includes('--help') || rest.includes('-h')) return null
  return async (argv: readonly string[], context: QuickContext): Promise<number> => {
    try {
      return await action(rest, context)
    } catch (error) {
      return report(error, argv, context)
    }
  }
}
