import { isWatchOnly, type ValidatedConfig } from './config/validated.ts'
import type { Schedule } from './runner/runner.ts'

/** The runs that the configuration wants again and again. */
export function schedulesOf(config: ValidatedConfig): readonly Schedule[] {
  const { schedule, verification } = config
  const verify = { backup: null, repository: null, database: null, level: verification.level, rehash: false }
  const expire = { repository: null, confirmClock: false }
  // In the order in which those that were missed are made up for.
  const runs = [
    ...(schedule.dump === null ? [] : [{ job: 'dump' as const, params: { database: null }, cron: schedule.dump }]),
    ...(schedule.full === null ? [] : [{ job: 'full' as const, params: {}, cron: schedule.full }]),
    ...(schedule.incremental === null ? [] : [{ job: 'incremental' as const, params: {}, cron: schedule.incremental }]),
    ...(schedule.verify === null ? [] : [{ job: 'verify' as const, params: verify, cron: schedule.verify }]),
    ...(schedule.expire === null ? [] : [{ job: 'expire' as const, params: expire, cron: schedule.expire }]),
    ...(schedule.alertDrill === null
      ? []
      : [
          {
            job: 'alert-drill' as const,
            params: { from: config.alertDrill.from, echo: true },
            cron: schedule.alertDrill,
            // It calls somebody: never at an hour that nobody chose.
            madeUpFor: false,
          },
        ]),
  ]
  // Without a repository there is nothing to dump, and maybe nothing that may expire.
  const mayExpire = config.watch.some((one) => one.retention !== null)
  return isWatchOnly(config)
    ? runs.filter(({ job }) => job === 'verify' || job === 'alert-drill' || (job === 'expire' && mayExpire))
    : runs
}
