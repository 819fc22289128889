import { type ConnectionSource, withSession } from '../postgres/connection.ts'
import type { PhysicalPlan } from './physical-plan.ts'

/** From so much on it is no matter of two clocks that go differently. */
const noticeMs = 2000

/** The end of a backup by the clock that dates commits, and what is to be said of that clock. */
export interface StopTime {
  readonly stoppedAt: Date
  readonly warnings: readonly string[]
}

/**
 * Nothing that a backup holds may have been committed after its end, or a recovery to a moment between the two would not
 * reach consistency. So the end is the later one of where the primary's clock would be had nobody set it, and where it is:
 * a clock that was set forward has dated the last commits, one that was set back the ones before. Ours has no say.
 *
 * Never fails: what the primary cannot be asked is not told of.
 *
 * @param stoppedAt by `plan.serverNow`
 */
export async function stopTime(
  primary: ConnectionSource & { readonly maintenanceDatabase: string },
  plan: Pick<PhysicalPlan, 'serverNow'>,
  { stoppedAt, signal }: { readonly stoppedAt: Date; readonly signal: AbortSignal },
): Promise<StopTime> {
  try {
    const jumpMs = await withSession(primary, { database: primary.maintenanceDatabase, signal }, async (session) => {
      const [row] = await session.query<{ now: Date }>('select clock_timestamp() as now')
      return (row?.now.getTime() ?? 0) - plan.serverNow().getTime()
    })
    const seconds = Math.round(Math.abs(jumpMs) / 1000)
    const way = jumpMs > 0 ? 'forward' : 'back'
    const words = `the server's clock was set ${way} by ${seconds} s during the backup: moments around it are ambiguous`
    return {
      stoppedAt: new Date(stoppedAt.getTime() + Math.max(0, jumpMs)),
      warnings: Math.abs(jumpMs) < noticeMs ? [] : [words],
    }
  } catch {
    signal.throwIfAborted()
    return { stoppedAt, warnings: [] }
  }
}
